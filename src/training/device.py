"""Where a run computes, with how many threads, and in which precision."""

import functools
import os
import time
from typing import NamedTuple

import torch

# Of x86 and ARM processors that multiply bf16 themselves; elsewhere each product is converted.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
FASTER = 0.9  # of the time in fp32: less gains nothing


class Device(NamedTuple):
    """`torch` is the device; `amp` the autocast type of the backbone, None for float32."""

    torch: torch.device
    amp: torch.dtype | None
    threads: int

    @property
    def precision(self) -> str:
        return "fp32" if self.amp is None else "bf16"

    def autocast(self):
        return torch.autocast(self.torch.type, dtype=self.amp, enabled=self.amp is not None)

    @property
    def description(self) -> str:
        if self.torch.type == "cuda":
            return torch.cuda.get_device_name(self.torch)
        return f"{self.torch.type}, {self.threads} threads"


def available(name: str) -> bool:
    return {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[name]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def choose_device(name: str, threads: int | None, precision: str) -> Device:
    """`name` auto, cpu, cuda or mps; `threads` None for all cores this process may use; `precision`
    fp32, bf16, or auto for what `faster_precision` says. Repeated runs are then equal bit for bit, as
    far as the device allows. Raises ValueError for a device that this machine lacks."""
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available(kind))
    if not available(name):
        others = ", ".join(kind for kind in ("cpu", "cuda", "mps") if available(kind))
        raise ValueError(f"name={name}: torch {torch.__version__} sees none here, use {others} or auto")
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    if name == "cuda":
        # Half of the kernels of a step would fill memory that is written right afterwards.
        torch.utils.deterministic.fill_uninitialized_memory = False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if precision == "auto":
        precision = faster_precision(name)
    return Device(torch.device(name), torch.bfloat16 if precision == "bf16" else None, threads)


def faster_precision(name: str) -> str:
    """bf16 on GPUs that have it, and on processors that have its instructions and are faster with them,
    as a short try says; else fp32."""
    if name == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has_it = any(torch.cpu.get_capabilities().get(one) for one in BF16_INSTRUCTIONS)
    return "bf16" if name == "cpu" and has_it and bf16_cost() < FASTER else "fp32"


@functools.cache
@torch.no_grad()
def bf16_cost() -> float:
    """The time that a convolution takes on this processor in bf16, as a multiple of that in fp32: the
    least of some tries each, in turns."""
    layer = torch.nn.Conv2d(32, 64, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.zeros(32, 32, 16, 16).to(memory_format=torch.channels_last)
    least = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(6):
        for kind in least:
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
                began = time.perf_counter()
                layer(images)
            least[kind] = min(least[kind], time.perf_counter() - began)
    return least[torch.bfloat16] / least[torch.float32]
