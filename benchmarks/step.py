"""A training step: images a second, and the share of this machine's matrix rate that it reaches. On a
GPU without a graph, as one, and with what else makes it faster.

    python -m benchmarks.step [small_cnn|convnet] [batch size]

torch counts the operations, forward and backward; the matrix rate is that of a product of 2048 × 2048
(8192 × 8192 on a GPU) in the same precision. Ways are timed in turns, the ratio is to the first. On a
processor, torch's profiler also says what the time goes into.
"""

import re
import sys
from collections import Counter
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import interleaved, machine
from src import models
from src.datasets import Split
from src.losses import ArcFace
from src.models import build_backbone
from src.training import (
    Device,
    Step,
    adam,
    build_optimizer,
    choose_device,
    constant_rate,
)
from src.training.device import BF16_INSTRUCTIONS
from src.training.graph import WARM_UP, replayed

SHAPE, IMAGES, DIMENSION = (1, 28, 28), 8192, 16
STEPS, ROUNDS = 50 if torch.cuda.is_available() else 4, 10
# By name: arguments of choose_device.
CPU = {"fp32": {"precision": "fp32"}}
if any(torch.cpu.get_capabilities().get(one) for one in BF16_INSTRUCTIONS):
    CPU["bf16"] = {"precision": "bf16"}  # elsewhere each product is converted, which takes minutes
GPU = {
    "fp32": {"precision": "fp32", "graph": "off"},
    "fp32, graph": {"precision": "fp32"},
    "tf32, graph": {"precision": "fp32", "tf32": True},
    "bf16, graph": {"precision": "bf16"},
    "bf16, graph, not deterministic": {"precision": "bf16", "deterministic": False},
    "bf16, graph, not deterministic, compiled": {
        "precision": "bf16",
        "deterministic": False,
        "compile": True,
    },
}


# Parts of a step by torch's names for its operations, the first that fits.
PARTS = {
    "convolutions": "conv",
    "BatchNorm": "batch_norm",
    "poolings and maxima": "max_pool|fill_|max",  # gradients of a pooling begin as zeros
    "ReLU": "relu|clamp_min|threshold",
    "other": "",
}


def shares_of(step: Step, fed: list) -> dict[str, float]:
    """The shares of a step's time on a processor, by part."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(STEPS):
            step(fed)
    times = Counter()
    for operation in profiled.key_averages():
        part = next(name for name, pattern in PARTS.items() if re.search(pattern, operation.key))
        times[part] += operation.self_cpu_time_total
    return {part: time / times.total() for part, time in times.most_common()}


def step_on(model: str, device: Device, size: int) -> Step:
    torch.manual_seed(0)
    backbone = build_backbone(getattr(models, model)(SHAPE), SHAPE, DIMENSION).to(device.torch)
    head = ArcFace(DIMENSION, 10, margin=0.5, scale=16.0).to(device.torch)
    optimizer = build_optimizer(adam, backbone, head, lr=1e-3, head_lr=None)
    schedule = constant_rate(optimizer, 1, 1)
    images = torch.randint(256, (IMAGES, *SHAPE), dtype=torch.uint8, device=device.torch)
    labels = torch.randint(10, (IMAGES,), device=device.torch)
    data = Split(images, labels, [73.0], [90.0])
    backbone = backbone.to(memory_format=torch.channels_last)
    return Step(data, backbone, head, optimizer, schedule, device)


def matrix_rate(device: Device) -> float:
    """Operations a second of a large product in the device's precision."""
    side = 8192 if device.torch.type == "cuda" else 2048
    kind = device.amp or torch.float32
    a, b = (torch.randn(side, side, device=device.torch).to(kind) for _ in range(2))
    return 2 * side**3 / interleaved({"product": lambda: a @ b}, rounds=5, calls=2)["product"]


def steps(take, fed: list, gpu: bool, how: dict) -> None:
    """Some steps, in a process that is set up for them: another way's turn was before."""
    choose_device("cuda" if gpu else "cpu", None, **how)
    for _ in range(STEPS):
        take(fed)


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "small_cnn"
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    gpu = torch.cuda.is_available()
    ways, rates = {}, {}
    for name, how in (GPU if gpu else CPU).items():
        device = choose_device("cuda" if gpu else "cpu", None, **how)
        rates[name] = matrix_rate(device)
        step = step_on(model, device, size)
        fed = [(torch.arange(size, device=device.torch),)]
        with FlopCounterMode(display=False) as counter:
            step(fed)
        operations = counter.get_total_flops()
        take = replayed(step)
        for _ in range(WARM_UP + 1):
            take(fed)
        ways[name] = partial(steps, take, fed, gpu, how)
    seconds = {name: took / STEPS for name, took in interleaved(ways, ROUNDS).items()}
    print(f"{model}, 28×28, batch {size}, {operations / size / 1e6:,.0f} Mflop an image; {machine()}")
    first = seconds[next(iter(ways))]
    for name, took in seconds.items():
        share = operations / took / rates[name]
        print(
            f"  {name:42} {1e3 * took:8.2f} ms  {size / took:10,.0f} images/s  ratio {first / took:5.2f}"
            f"  {share:4.0%} of {rates[name] / 1e9:,.0f} GFLOP/s"
        )
    if not gpu:
        parts = (f"{part} {share:.0%}" for part, share in shares_of(step, fed).items())
        print(f"  time of the last: {', '.join(parts)}")


if __name__ == "__main__":
    main()
