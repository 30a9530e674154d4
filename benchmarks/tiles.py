"""What a head of many classes costs, in time and in memory: `python -m benchmarks.tiles`.

ArcFace forward and backward at B 256, D 512, C 100,000 in fp32: in tiles, with all logits in memory, as
large face-recognition code writes it, and as pytorch-metric-learning has it. Beside them torch's chunked
linear cross entropy, which knows no margin, and four bare products of B×C×D, the last of them kept as
the gradient of W, which is the least that tiles need. Memory is what a process has at the most beside W
and its gradient.

    python -m benchmarks.tiles 256 512 100000    another B, D, C
    python -m benchmarks.tiles auto              from which size tiles are as fast as the dense path
    python -m benchmarks.tiles cuda 1024 512 1000000    on a GPU, by kernels as well
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved, machine
from src.losses import ArcFace
from src.losses.head import TILE, WRITTEN

TILED, DENSE = "tiles (tiling=auto)", "dense (tiling=off)"
KERNELS = "kernels (tiling=triton)"
PRODUCTS = "four bare products"


def usual(x, w, y) -> torch.Tensor:
    """As large face-recognition code writes it."""
    cosine = F.linear(F.normalize(x), F.normalize(w))
    target = cosine.gather(1, y[:, None]).clamp(-1 + 1e-7, 1 - 1e-7)
    return F.cross_entropy(64 * cosine.scatter(1, y[:, None], torch.cos(torch.acos(target) + 0.5)), y)


def ways(
    batch: int, dimension: int, classes: int, device: str = "cpu"
) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    torch.set_default_device(device)
    x, y = torch.randn(batch, dimension, requires_grad=True), torch.randint(classes, (batch,))
    head = ArcFace(dimension, classes)
    w = head.weight
    size = TILE if device == "cpu" else max(1, WRITTEN // batch)

    def step(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            x.grad = w.grad = None
            loss().backward()

        return run

    def own(tiling) -> Callable[[], torch.Tensor]:
        def loss() -> torch.Tensor:
            head.tiling = tiling
            return head(x, y)

        return loss

    def products() -> None:
        with torch.no_grad():
            gradient = torch.empty_like(w)
            for first in range(0, classes, size):
                rows = slice(first, first + size)
                z = x @ w[rows].T
                x @ w[rows].T, z @ w[rows], torch.mm(z.T, x, out=gradient[rows])

    found = {
        TILED: step(own(size)),
        DENSE: step(own("off")),
        "usual dense ArcFace": step(lambda: usual(x, w, y)),
        PRODUCTS: products,
    }
    if device == "cuda":
        return found | {KERNELS: step(own("triton"))}
    try:
        from pytorch_metric_learning.losses import ArcFaceLoss

        theirs = ArcFaceLoss(classes, dimension, margin=28.6, scale=64)
        theirs.W = torch.nn.Parameter(w.detach().T)

        def peer() -> None:
            theirs.W.grad = x.grad = None
            theirs(x, y).backward()

        found["pytorch-metric-learning's ArcFaceLoss"] = peer
    except ImportError:
        print("without pytorch-metric-learning, which is not installed")
    if hasattr(F, "linear_cross_entropy"):
        chunked = step(
            lambda: F.linear_cross_entropy(
                64 * F.normalize(x),
                F.normalize(w),
                y,
                options=torch.nn.LinearCrossEntropyOptions(),
            )
        )
        found["torch's linear_cross_entropy, no margin"] = chunked
    return found


def peak(name: str, sizes: list[int]) -> float:
    """MiB that a process has at the most while it does this, beside W and its gradient."""
    line = [sys.executable, "-m", "benchmarks.tiles", "peak", name, *map(str, sizes)]
    return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[-1])


def print_peak(name: str, sizes: list[int]) -> None:
    ways(8, 8, 64)[name]()  # which loads what is loaded once
    way, (_, dimension, classes) = ways(*sizes)[name], sizes
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    way()
    print((memory("VmHWM") - before) / 1024 - dimension * classes * 4 / 2**20)


def memory(what: str) -> int:
    """KiB, as Linux counts them."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(what))


def compare(sizes: list[int], rounds: int = 5) -> None:
    batch, dimension, classes = sizes
    seconds = interleaved(ways(*sizes), rounds)
    floor = seconds[PRODUCTS]
    print(f"ArcFace forward + backward, B {batch}, D {dimension}, C {classes}; {machine()}")
    print("  time, as a multiple of the four products, and memory beside W and its gradient")
    for name, taken in seconds.items():
        more = f"+{peak(name, sizes):.0f} MiB"
        print(f"  {name:42} {taken * 1e3:8.0f} ms   {taken / floor:5.2f}   {more}")


def on_gpu(sizes: list[int], rounds: int = 10) -> None:
    """By the precision of products that training has by default, which is TF32."""
    torch.set_float32_matmul_precision("high")
    both = ways(*sizes, "cuda")
    seconds = interleaved(both, rounds)
    print("ArcFace forward + backward, B {}, D {}, C {}, TF32; {}".format(*sizes, machine()))
    for name, taken in seconds.items():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both[name]()
        more = (torch.cuda.max_memory_allocated() - before) / 2**20
        ratio = taken / seconds[PRODUCTS]
        print(f"  {name:24} {taken * 1e3:8.2f} ms   {ratio:5.2f}   +{more:.0f} MiB, W's gradient too")


def auto() -> None:
    """Where the dense path loses to tiles."""
    print(f"tiles as a multiple of the dense path; {machine()}")
    for batch, classes in ((64, 10_000), (256, 10_000), (512, 20_000), (256, 65_536), (1024, 50_000)):
        for dimension in (128, 512):
            both = {k: v for k, v in ways(batch, dimension, classes).items() if k in (TILED, DENSE)}
            seconds = interleaved(both, 7)
            ratio = seconds[TILED] / seconds[DENSE]
            print(
                f"  B {batch:5}, D {dimension}, C {classes:6}, {batch * classes:.1e} logits: {ratio:.2f}"
            )


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["peak"]:
        print_peak(arguments[1], [*map(int, arguments[2:])])
    elif arguments == ["auto"]:
        auto()
    elif arguments[:1] == ["cuda"]:
        on_gpu([*map(int, arguments[1:])] or [1024, 512, 1_000_000])
    else:
        compare([*map(int, arguments)] or [256, 512, 100_000])


if __name__ == "__main__":
    main(sys.argv[1:])
