"""A sweep of 16 short runs on the digits: by our launcher, Hydra's basic one and joblib's, by a process
for each run, two at a time, and by Ray Tune where it is installed (pip install pandas 'ray[tune]').

    python -m benchmarks.sweep

Each sweep is a command of its own, start-up and imports included, one after another, in turns; the ratio
is of wall-clock times, the best of the rounds. Core use is CPU time over wall-clock time and cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import product

LOSSES, SEEDS = "cosface,arcface", "0,1,2,3,4,5,6,7"
RUN = ("epochs=4", "plots.figures=false", "logger=csv")  # about two seconds each
ONE_THREAD = "device.threads=1"
TRAIN = [sys.executable, "-m", "src.train"]
LAUNCHERS = {
    "workers": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "joblib, 1 thread": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", ONE_THREAD),
    "basic": ("hydra/launcher=basic",),
}
ROUNDS = 2


def busy_seconds() -> float:
    """CPU time spent on this machine so far; the launchers' workers are nobody's children."""
    with open("/proc/stat") as file:
        user, nice, system, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def launched(options: tuple[str, ...]):
    alone = ("hydra.sweeper.compare=false", "hydra.sweeper.baselines=false")
    grid = (f"loss={LOSSES}", f"seed={SEEDS}", *RUN)
    return lambda folder: run(*TRAIN, "-m", *grid, *alone, *options, f"hydra.sweep.dir={folder}/sweep")


def process_for_each(folder: str) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        runs = product(LOSSES.split(","), SEEDS.split(","))
        commands = [
            (
                *TRAIN,
                f"loss={loss}",
                f"seed={seed}",
                *RUN,
                ONE_THREAD,
                f"hydra.run.dir={folder}/{loss}{seed}",
            )
            for loss, seed in runs
        ]
        list(threads.map(lambda command: run(*command), commands))


def ray_tune(folder: str) -> None:
    run(sys.executable, "-m", "benchmarks.tune", folder, LOSSES, SEEDS, *RUN)


def measure(sweep) -> tuple[float, float]:
    """Seconds and core use of one sweep."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        began, busy = time.perf_counter(), busy_seconds()
        sweep(folder)
        seconds, busy = time.perf_counter() - began, busy_seconds() - busy
    return seconds, busy / seconds / os.cpu_count()


def main() -> None:
    ways = {name: launched(options) for name, options in LAUNCHERS.items()}
    ways["a process each"] = process_for_each
    if find_spec("ray") and find_spec("pandas"):
        ways["Ray Tune"] = ray_tune
    results = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, sweep in ways.items():
            results[way].append(measure(sweep))
    best = {way: min(rounds) for way, rounds in results.items()}
    print(
        f"16 runs, loss={LOSSES} seed={SEEDS} {' '.join(RUN)}, best of {ROUNDS}, {os.cpu_count()} cores"
    )
    for way, (seconds, use) in best.items():
        ratio = seconds / best["workers"][0]
        print(f"{way:16} {seconds:6.1f} s   {ratio:4.2f} x the time of workers   core use {use:.2f}")


if __name__ == "__main__":
    main()
