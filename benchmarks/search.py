"""What a search finds in 20 trials of 3 epochs on the digits, by TPE with pruning and at random.

    python -m benchmarks.search

The best validation accuracy of each search, several searches each; a report, not a promise.
"""

import re
import statistics
import subprocess
import sys
import tempfile

SPACE = (
    "loss=arcface",
    "margin.value=interval(0.05,1.0)",
    "scale.value=tag(log,interval(4,128))",
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
)
HOW = ("epochs=3", "logger=csv", "hydra/sweeper=search", "hydra.sweeper.trials=20")
SEARCHES = 5


def best(sampler: str, seed: int) -> float:
    settings = [
        f"hydra.sweeper.{key}={value}" for key, value in {"sampler": sampler, "seed": seed}.items()
    ]
    if sampler == "random":
        settings.append("hydra.sweeper.pruner=none")
    command = [sys.executable, "-m", "src.train", "-m", *SPACE, *HOW, *settings]
    done = subprocess.run(
        [*command, f"hydra.sweep.dir={tempfile.mkdtemp()}"], capture_output=True, text=True
    )
    return float(re.search(r"best of 20 trials .*?accuracy ([\d.]+)", done.stdout)[1])


def main() -> None:
    found = {
        sampler: [best(sampler, 100 * seed) for seed in range(SEARCHES)] for sampler in ("tpe", "random")
    }
    for sampler, values in found.items():
        listed = " ".join(f"{value:.4f}" for value in values)
        print(f"{sampler:7} median {statistics.median(values):.4f}   of {listed}")


if __name__ == "__main__":
    main()
