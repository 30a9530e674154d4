"""Sweeps in processes of their own."""

import os
import time
from pathlib import Path

import pytest

from src.run.folder import RunFolder
from tests.conftest import FAST
from tests.template import Command

# Runs of a sweep get their threads from the launcher, and perhaps a fault from their optimizer. Their
# figures would take longer than they do.
QUICK = (
    *(override for override in FAST if not override.startswith("device.threads")),
    "plots.figures=false",
)
FAULTY = "optimizer=faulty"


@pytest.fixture
def sweep(tmp_path, template):
    """sweep("loss=cosface", …) -> a started process of a sweep into tmp_path/sweep, its output captured;
    `faults` are planted (see tests/faults.py)."""
    alone = "hydra.sweeper.compare=false", "hydra.sweeper.baselines=false"
    started, where = [], f"hydra.sweep.dir={tmp_path / 'sweep'}"

    def start(*arguments: str, faults: str = "", **environment: str) -> Command:
        words = ["-m", "--config-dir=tests/conf", *QUICK, FAULTY, *alone, *arguments, where]
        environment = os.environ | {"FAULTS": faults} | environment
        process = template.start("src.train", *words, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def finish(process: Command) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def wait_for(path, seconds=900):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path} after {seconds} s"
        time.sleep(0.05)
    return path


def states(folder: Path) -> dict[str, str]:
    """State by run name, of every run folder of a sweep."""
    return {
        path.name: summary.state if (summary := RunFolder(path).summary()) else "unfinished"
        for path in sorted((folder / "sweep").iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }


def run_name(**differs) -> str:
    """The folder of a run in whose sweep these differ."""
    return ",".join(f"{key}={value}" for key, value in sorted(differs.items())) or "run"
