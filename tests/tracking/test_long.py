"""Kills and outages in sweeps that report to W&B online. They take minutes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.tracking.session import note_of
from tests.conftest import ROOT, rows_of, summary_of

from .test_online import make_sync
from .test_sweeps import QUICK

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path, server):
    """sweep("seed=0,1", faults="arcface0:kill") -> a started sweep into tmp_path/sweep, which finds the
    stub; its output goes to tmp_path/said."""
    started = []

    def start(*arguments: str, faults: str = "") -> subprocess.Popen:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
        home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "FAULTS": faults}
        with open(tmp_path / "said", "ab") as said:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "src.train", "-m", "--config-dir=tests/conf"),
                    *(*QUICK, "optimizer=faulty", *arguments),
                    f"hydra.sweep.dir={tmp_path / 'sweep'}",
                ],
                cwd=ROOT,
                env=kept | home | server.environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def rows_written(folder: Path) -> int:
    count = 0
    for path in folder.glob("*/metrics.csv"):
        with contextlib.suppress(OSError):
            count += max(0, path.read_bytes().count(b"\n") - 1)
    return count


def runs_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if (path / "train.log").exists())


def test_after_kills_every_run_and_every_epoch_is_in_wandb_once(sweep, server, tmp_path):
    folder, draw = tmp_path / "sweep", random.Random(14)
    arguments = [
        "seed=0,1,2,3",
        "epochs=12",
        "hydra.sweeper.compare=false",
        "hydra.sweeper.baselines=false",
        "logger.timeout=60",
    ]
    for _ in range(10):
        process = sweep(*arguments)
        target = rows_written(folder) + draw.randint(0, 7)
        while rows_written(folder) < target and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = sweep(*arguments)
    assert process.wait() == 0, (tmp_path / "said").read_text()
    assert len(runs_of(folder)) == len(server.runs) == 4
    if not all(server.runs[note_of(run).id].exits for run in runs_of(folder)):
        # Killed once finished, while it drew or waited for W&B: named with the command that uploads it.
        assert "python -m src.sync" in (tmp_path / "said").read_text()
        make_sync(folder, server)
    for run in runs_of(folder):
        assert summary_of(run)["state"] == "finished"
        there = server.runs[note_of(run).id]
        assert there.exits[-1] == 0 and there.exits.count(0) == 1
        assert there.epochs == list(range(1, 13))
        steps = [row["_step"] for row in there.history]
        assert steps[:12] == list(range(1, 13)) and steps == sorted(set(steps))
        accuracies = [row["validation/accuracy"] for row in there.history[:12]]
        assert accuracies == [row["accuracy"] for row in rows_of(run)]


def test_a_timeout_while_wandb_is_waited_for_fails_no_run(sweep, server, tmp_path):
    server.fail("hang", "storage")
    compare = "hydra.sweeper.compare=false"
    process = sweep("hydra.launcher.timeout=60", "logger.timeout=3600", "seed=0", compare)
    assert process.wait() == 0, (tmp_path / "said").read_text()
    (run,) = runs_of(tmp_path / "sweep")
    assert summary_of(run)["state"] == "finished" and note_of(run).left
    assert "1 run is not in W&B" in (tmp_path / "said").read_text()


WAYS = ("diverge", "raise", "abort", "exit", "hang", "kill", "segfault", "leave", "full", "recurse")


def memory(pid: int) -> int:
    """MiB of a process that are its own."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_two_hundred_runs_a_tenth_of_which_fails_while_the_server_dies(sweep, server, tmp_path):
    folder = tmp_path / "sweep"
    losses = ("arcface", "cosface")
    planted = {f"{loss}{10 * i + 5}": way for loss in losses for i, way in enumerate(WAYS)}
    server.after_rows(200, "die")
    process = sweep(
        *(
            "loss=arcface,cosface",
            "seed=range(100)",
            "epochs=2",
            "hydra.sweeper.compare=false",
            "hydra.sweeper.baselines=false",
        ),
        *("logger.timeout=5", "hydra.launcher.timeout=60"),
        faults=" ".join(f"{name}:{way}" for name, way in planted.items()),
    )
    sizes, done = {}, 0
    while process.poll() is None:
        done = len(list(folder.glob("*/summary.json")))
        sizes[done] = memory(process.pid) or sizes.get(done)
        time.sleep(0.5)
    said = (tmp_path / "said").read_text()
    assert process.returncode == 1 and "Traceback" not in said
    assert "18 of 200 runs failed, 2 interrupted" in said  # by the two that leave
    assert said.count("not in W&B") == 1
    states = {run.name: summary_of(run)["state"] for run in runs_of(folder)}
    failed = {name for name, state in states.items() if state != "finished"}
    assert len(states) == 200 and len(failed) == 20
    assert "20 runs without a result" in said
    for name in failed:
        (line,) = [line for line in said.splitlines() if "/200 " in line and f" {name} " in line]
        assert f"{states[name]}: " in line
    notes = {run.name: note_of(run) for run in runs_of(folder)}
    for name, state in states.items():
        if state == "finished" and not notes[name].left:
            there = server.runs[notes[name].id]
            assert there.epochs == [1, 2] and there.exits == [0]
    left = [note for note in notes.values() if note.left]
    assert len(left) > 50 and any("refused" in note.left for note in left)
    early = max(size for count, size in sizes.items() if 20 <= count <= 40)
    late = max(size for count, size in sizes.items() if count >= 190)
    print(f"memory of the sweep's own process: {early} MiB early, {late} MiB late")
    assert late < early + 30
