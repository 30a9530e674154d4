"""Start-up: seconds from typing a command to its answer, and to the end of a run of one epoch.

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
COMMANDS = {
    "angular-penalty --help": [sys.executable, "-c", "from src.cli import main; main()"],
    "--help": [*TRAIN, "--help"],
    "--cfg job": [*TRAIN, "--cfg", "job"],
    "loss=arcfac, refused": [*TRAIN, "loss=arcfac"],
    "epochs=0, refused": [*TRAIN, "epochs=0"],
    "a run of one epoch": [*TRAIN, "epochs=1", "logger=none"],
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
