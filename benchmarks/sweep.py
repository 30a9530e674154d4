"""A sweep of 16 short runs on the digits, by our launcher, Hydra's basic one and joblib's.

    python -m benchmarks.sweep

Each sweep is a command of its own, start-up and imports included, one after another, in turns; the ratio
is of wall-clock times, the best of the rounds. Core use is CPU time over wall-clock time and cores.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

SWEEP = (
    "loss=cosface,arcface",
    "seed=0,1,2,3,4,5,6,7",
    "epochs=8",
    "logger=none",
    "hydra.sweeper.compare=false",
    "hydra.sweeper.baselines=false",
)
LAUNCHERS = {
    "workers": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "joblib, 1 thread": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "device.threads=1"),
    "basic": ("hydra/launcher=basic",),
}
ROUNDS = 2


def busy_seconds() -> float:
    """CPU time spent on this machine so far; the launchers' workers are nobody's children."""
    with open("/proc/stat") as file:
        user, nice, system, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def measure(launcher: str) -> tuple[float, float]:
    """Seconds and core use of one sweep."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "src.train", "-m", *SWEEP, *LAUNCHERS[launcher]]
    began, busy = time.perf_counter(), busy_seconds()
    subprocess.run([*command, f"hydra.sweep.dir={folder}"], check=True, capture_output=True)
    seconds, busy = time.perf_counter() - began, busy_seconds() - busy
    shutil.rmtree(folder)
    return seconds, busy / seconds / os.cpu_count()


def main() -> None:
    results = {launcher: [] for launcher in LAUNCHERS}
    for _ in range(ROUNDS):
        for launcher in LAUNCHERS:
            results[launcher].append(measure(launcher))
    best = {launcher: min(rounds) for launcher, rounds in results.items()}
    print(f"16 runs, {' '.join(SWEEP)}, best of {ROUNDS}, {os.cpu_count()} cores")
    for launcher, (seconds, use) in best.items():
        ratio = seconds / best["workers"][0]
        print(
            f"{launcher:16} {seconds:6.1f} s   {ratio:4.2f} x the time of workers   core use {use:.2f}"
        )


if __name__ == "__main__":
    main()
