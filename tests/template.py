"""Commands for tests, forked from one process that has imported what they need. An interpreter of its
own costs a command seconds of a core, and its sweep's workers as many again; a fork costs none.

    python -m tests.template <socket>      what `Template` starts: it imports, then forks on request
"""

import atexit
import gc
import importlib
import json
import multiprocessing.util
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_REQUEST = 2**17  # bytes
# What the commands and a sweep's workers import, sooner or later; not the commands themselves,
# which `python -m` runs anew; and not wandb, whose temporary folder the first fork would delete.
MODULES = (
    *("src.run.lifecycle", "src.sweeps.sweeper", "src.analysis.compare", "src.plots", "src.tracking"),
    *("tests.faults", "torch._dynamo"),  # whose optimizers import that compiler when they are built
)


class Command:
    """`python -m <words>`, started in a session of its own; as much of Popen as tests use."""

    def __init__(self, server: socket.socket, words: list[str], env: dict[str, str], cwd: Path):
        self.args, self.returncode = words, None
        self.output = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        told, telling = os.pipe()
        request = json.dumps([words, dict(env), str(cwd)]).encode()
        socket.send_fds(server, [request], [*(file.fileno() for file in self.output), telling])
        os.close(telling)
        self.told = os.fdopen(told)
        self.pid = int(self.told.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self.told], [], [], 0)[0]:
            self.returncode = int(self.told.readline())
        return self.returncode

    def wait(self, timeout: float = 900) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float = 900) -> tuple[str, str]:
        self.wait(timeout)
        for file in self.output:
            file.seek(0)
        return tuple(file.read() for file in self.output)

    def wait_for(self, text: str, timeout: float = 900) -> None:
        """Until `text` is on its standard output."""
        deadline = time.monotonic() + timeout
        while text not in os.pread(self.output[0].fileno(), 2**20, 0).decode("utf-8", "replace"):
            assert self.poll() is None and time.monotonic() < deadline, f"no {text!r}"
            time.sleep(0.01)

    def finished(self, timeout: float = 900) -> subprocess.CompletedProcess:
        out, err = self.communicate(timeout)
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Template:
    """The process that commands are forked from, until `close`."""

    def __init__(self):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.template", str(theirs.fileno())]
            self.process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])

    def start(self, *words: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> Command:
        return Command(self.socket, [str(word) for word in words], env or os.environ, cwd)

    def close(self) -> None:
        self.socket.close()
        self.process.wait()


def serve(requests: socket.socket) -> list[str]:
    """Fork a process for each request. Returns in those processes, with the words to run; ends when
    nobody is left who could ask."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        message, files, *_ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            wait_for_child(files[2])
            words, environment, folder = json.loads(message)
            become(environment, folder, files)
            return words
        for file in files:
            os.close(file)


def wait_for_child(telling: int) -> None:
    """Fork; the parent tells the child's number, waits for it, tells how it ended, and ends."""
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(ready, 1)  # until the parent has said who this is
        os.close(ready)
        return
    os.write(telling, f"{child}\n".encode())
    os.close(go)
    status = os.waitpid(child, 0)[1]
    os.write(telling, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(environment: dict[str, str], folder: str, files: list[int]) -> None:
    """Make this fork the process that `exec` would make."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for stream, file in zip((1, 2), files, strict=False):
        os.dup2(file, stream)
    for file in files:
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.util.spawnv_passfds = fork_instead


def fork_instead(path: str, words: list[bytes], files: list[int]) -> int:
    """What multiprocessing starts its own servers by: they are Python code behind -c."""
    child = os.fork()
    if child:
        return child
    kept = sorted({0, 1, 2, *files})
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
    code = 1
    try:
        exec(os.fsdecode(words[-1]), {"__name__": "__main__"})
        code = 0
    finally:
        os._exit(code)


def run_main() -> int:
    """Run what `python -m <words>` would, and return its exit code."""
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def end(code: int) -> None:
    """End this process, without what an interpreter does last: to take every object apart, which takes
    half a second, since a fork copies the memory that it touches."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # likewise
    sys.argv[:] = serve(socket.socket(fileno=int(sys.argv[1])))
    end(run_main())
