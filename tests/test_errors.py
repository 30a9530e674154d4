"""How commands begin and end: Ctrl-C before anything is imported, terminals with few characters."""

import io
import os
import pickle
import signal
import subprocess
import sys

import pytest

from src.config.errors import MISSING, BadKey, Mistakes, Refused
from src.errors import Diverged, Pruned, UserError, begin_command, lenient_streams
from tests.conftest import ROOT
from tests.sweeps.conftest import wait_for

# As compiled modules do, it makes an ImportError of any exception while it is imported.
SLOW_TORCH = """
import os, time
open(os.environ["MARK"] + str(os.getpid()), "w").close()
try:
    time.sleep(600)
except BaseException:
    raise ImportError from None
"""


@pytest.mark.parametrize(
    ("command", "how"),
    [
        (["train"], signal.SIGINT),
        (["train"], signal.SIGTERM),
        (["train"], signal.SIGHUP),
        (["train", "-m"], signal.SIGINT),
        (["train", "-m"], signal.SIGHUP),
        (["compare", "x"], signal.SIGTERM),
        (["embed", "x", "y"], signal.SIGINT),
    ],
)
def test_ctrl_c_during_imports_ends_a_command_without_a_traceback(command, how, tmp_path):
    (tmp_path / "torch.py").write_text(SLOW_TORCH)
    environment = {"PYTHONPATH": str(tmp_path), "MARK": str(tmp_path / "mark")}
    process = subprocess.Popen(
        [sys.executable, "-m", f"src.{command[0]}", *command[1:]],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(tmp_path / f"mark{process.pid}")
    os.kill(process.pid, how)
    try:
        assert process.wait(timeout=60) == 130
        assert process.stderr.readline() == "interrupted\n"
    finally:
        os.killpg(process.pid, signal.SIGKILL) if "-m" in command else None  # its fork server
    assert process.stderr.read() == ""


def test_an_interrupt_that_python_drops_comes_again():
    code = """
import os, signal, time, weakref
from src.errors import interrupt_once, on_interrupt
on_interrupt(interrupt_once)
try:
    held = {1}  # what a weak reference to it calls cannot raise
    reference = weakref.ref(held, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    del held
    time.sleep(60)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)  # as somebody does who presses it twice
    print("put in order")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "put in order\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_a_terminal_lacks_are_replaced(encoding):
    code = (
        "from src.errors import begin_command; begin_command(); import sys; print('1 ± 2 ≥ θ');"
        "from src.sweeps.console import console; console.print('a × b → π'); sys.exit('≥ θ')"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
    assert done.stdout.startswith(b"1 ") and b" ? ?" in done.stdout and b"? ?" in done.stderr


@pytest.mark.parametrize(
    "where", ["> /dev/full 2> /dev/full", ">&- 2>&- <&-", ">&-", "2>&-", "| true", "2>&1 | true"]
)
def test_output_that_cannot_be_written_ends_nothing(where, tmp_path):
    code = """
import os, sys, time
from src.errors import begin_command
begin_command()
for _ in range(3):  # so that a pipe has ended
    print("x" * 100_000, flush=True)
    print("y" * 100_000, file=sys.stderr)
    time.sleep(0.02)
from src.sweeps.console import console
console.print("z")
with open(sys.argv[1], "w") as file:
    file.write(f"{file.fileno()} {os.system('true')}")
sys.exit("the end")
"""
    out = tmp_path / "out"
    line = f'"$0" -c "$1" "$2" {where}; exit ${{PIPESTATUS[0]}}'
    shell = ["bash", "-c", line, sys.executable, code, str(out)]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True)
    assert done.returncode == 1 and b"Traceback" not in done.stderr + done.stdout, done.stderr[-500:]
    descriptor, rc = out.read_text().split()
    assert int(descriptor) > 2 and rc == "0"


def test_a_notebooks_streams_stay(monkeypatch):
    class Cell(io.StringIO):
        encoding = "utf-8"

    cell = Cell()
    monkeypatch.setattr(sys, "stdout", cell)
    monkeypatch.setattr(sys, "stderr", cell)
    lenient_streams()
    print("said")
    assert sys.stdout is sys.stderr is cell and cell.getvalue() == "said\n"


def test_mistakes_are_collected_each_once():
    def refuse(*texts):
        raise Refused(map(UserError, texts))

    mistakes = Mistakes()
    mistakes.refuse()
    assert mistakes.of(len, "fine") == 4
    assert mistakes.of(refuse, "a", "b") is None and mistakes.of(refuse, "a") is None
    with pytest.raises(Refused, match=r"^a\nb$") as caught:
        mistakes.refuse()
    assert [str(error) for error in caught.value.errors] == ["a", "b"]


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_soon_sleep_unless_the_user_says_otherwise(own, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("src.errors.on_interrupt", lambda handler: None)
    begin_command()
    expected = own.get("GOMP_SPINCOUNT", None if own else "1000")
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    if not own:
        del os.environ["GOMP_SPINCOUNT"]


def test_errors_come_back_whole_from_other_processes():
    mistakes = [BadKey("a.b", 3, "why"), BadKey("a.c", MISSING, "no such key"), Diverged("at once")]
    for error in (*mistakes, Refused(mistakes, rest={"x": 1}, spoiled=["a"]), Pruned("enough")):
        copy = pickle.loads(pickle.dumps(error))
        assert (
            type(copy) is type(error)
            and str(copy) == str(error)
            and vars(copy).keys() == vars(error).keys()
        )
