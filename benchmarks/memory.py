"""What `plan=true` says beside the peak of the training itself: python -m benchmarks.memory

Each line: what the plan says in all, the largest resident size of the training, and their ratio.
"""

import os
import re
import subprocess
import sys
import tempfile

COMMON = ("logger=csv", "plots.figures=false", "epochs=1", "device.threads=2")
MANY = (
    *("experiment=million_classes", "sampler.images=512", "dataset.per_class=1"),
    *("dataset.test_classes=20", "dataset.val_fraction=0"),
)
IMAGES = ("dataset=synthetic", "dataset.classes=50", "dataset.per_class=40", "dataset.dimension=1024")
CASES = {
    "1,000,000 classes, SGD": MANY,
    "500,000 classes, Adam": (*MANY, "dataset.classes=500000", "optimizer=adam"),
    "200,000 classes, D 512, average": (
        *(*MANY, "dataset.classes=200000", "model.embedding_dim=512", "ema.decay=0.99"),
    ),
    "50,000 classes, dense": (*MANY, "dataset.classes=50000", "loss.tiling=off", "batch_size=512"),
    "iresnet18, batch of 64": (*IMAGES, "model=iresnet18", "dataset.dimension=1024"),
    "convnet, batch of 512": ("model=convnet", "batch_size=512"),
}
UNITS = {"MiB": 1, "GiB": 1024}


def output(*overrides: str) -> str:
    command = [sys.executable, "-m", "src.train", *overrides]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def planned(overrides: tuple[str, ...]) -> float:
    """MiB in all."""
    size, unit = re.search(r"in all +([\d.]+) (\w+)", output(*overrides, "plan=true")).groups()
    return float(size) * UNITS[unit]


def peak(overrides: tuple[str, ...]) -> float:
    """MiB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "src.train", *overrides, f"hydra.run.dir={folder}/run"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(child.stderr.read().decode())
        return usage.ru_maxrss / 1024


def main() -> None:
    print(f"{'':34}{'planned':>10}{'peak':>10}  ratio")
    for name, overrides in CASES.items():
        plan, real = planned((*COMMON, *overrides)), peak((*COMMON, *overrides))
        print(f"{name:34}{plan:>6,.0f} MiB{real:>6,.0f} MiB   {plan / real:.2f}")


if __name__ == "__main__":
    main()
