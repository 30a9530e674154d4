"""What a head costs, forward and backward, beside normalise + linear + cross entropy without any
margin: `python -m benchmarks.head [small|large]`.

small  B 512, D 3, C 10 on one thread: aim at most 1.3 times as long for those with a fixed margin
large  B 512, D 512, C 10,000 on every core: aim at most 1.25 for those that change the target alone
"""

import sys
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved, machine
from src.config import read
from src.config.compose import CONF, compose_choices
from src.run.build import build_head

SIZES = {"small": (512, 3, 10, 60, 20), "large": (512, 512, 10_000, 8, 1)}  # B, D, C, rounds, calls
BASE = "normalise + linear + cross entropy"


def published(name: str, dimension: int, classes: int) -> torch.nn.Module:
    overrides = [f"loss={name}"]
    config = read(compose_choices(overrides), overrides)
    return build_head(config, dimension, classes)


def compare(size: str) -> None:
    batch, dimension, classes, rounds, calls = SIZES[size]
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(batch, dimension, device=device, requires_grad=True)
    y = torch.randint(classes, (batch,), device=device)
    w = torch.randn(classes, dimension, device=device, requires_grad=True)

    def plain() -> None:
        x.grad = w.grad = None
        F.cross_entropy(64.0 * F.linear(F.normalize(x), F.normalize(w)), y).backward()

    def step(head) -> None:
        x.grad = None
        head.zero_grad()
        head(x, y).backward()

    ways = {BASE: plain}
    for name in sorted(
        path.stem for path in (CONF / "loss").glob("[!_]*.yaml") if path.stem != "module"
    ):
        ways[name] = partial(step, published(name, dimension, classes).to(device))
    seconds = interleaved(ways, rounds, calls)

    print(f"head forward + backward, B {batch}, D {dimension}, C {classes}; {machine()}")
    for name, taken in seconds.items():
        print(f"  {name:36} {taken * 1e3:8.2f} ms   ratio {taken / seconds[BASE]:.2f}")


def main() -> None:
    cores = torch.get_num_threads()
    for size in sys.argv[1:] or SIZES:
        torch.set_num_threads(1 if size == "small" else cores)  # small tensors only lose by more
        compare(size)


if __name__ == "__main__":
    main()
