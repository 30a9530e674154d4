"""Start-up: seconds from typing a command to its answer, to the first step, and to the end of a run.

    python -m benchmarks.start

Each is a process of its own, the best of the rounds; the first round warms the disk's cache.
"""

import os
import subprocess
import sys
import tempfile
import time

ROUNDS = 3
TRAIN = [sys.executable, "-m", "src.train"]
UNTIL_A_STEP = """
import os, runpy, sys
from importlib.abc import MetaPathFinder

class StepEnds(MetaPathFinder):  # imports nothing that the run itself would not, and no sooner
    def find_spec(self, name, path, target=None):
        step = sys.modules.get("src.training.step")
        if step and hasattr(step, "Step"):
            step.Step.update = lambda *_: os._exit(0)

sys.meta_path.insert(0, StepEnds())
runpy.run_module("src.train", run_name="__main__", alter_sys=True)
"""
ONE_EPOCH = ["epochs=1", "logger=csv"]
COMMANDS = {
    "angular-penalty --help": [sys.executable, "-c", "from src.cli import main; main()"],
    "--help": [*TRAIN, "--help"],
    "--cfg job": [*TRAIN, "--cfg", "job"],
    "loss=arcfac, refused": [*TRAIN, "loss=arcfac"],
    "epochs=0, refused": [*TRAIN, "epochs=0"],
    "to the first step": [sys.executable, "-c", UNTIL_A_STEP, *ONE_EPOCH],
    "a run of one epoch": [*TRAIN, *ONE_EPOCH],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    print(f"seconds, best of {ROUNDS}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        best = dict.fromkeys(COMMANDS, float("inf"))
        for turn in range(ROUNDS):
            for name, command in COMMANDS.items():
                place = [f"hydra.run.dir={folder}/{turn}"] if "epochs=1" in command else []
                began = time.perf_counter()
                subprocess.run([*command, *place], capture_output=True)
                best[name] = min(best[name], time.perf_counter() - began)
    for name, seconds in best.items():
        print(f"  {name:26} {seconds:5.2f}")


if __name__ == "__main__":
    main()
