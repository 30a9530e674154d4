"""Where a run computes, with how many threads, and in which precision."""

import os
from typing import NamedTuple

import torch


class Device(NamedTuple):
    """`torch` is the device; `amp` the autocast type of the backbone, None for float32."""

    torch: torch.device
    amp: torch.dtype | None
    threads: int

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
    """`name` auto, cpu, cuda or mps; `threads` None for all cores this process may use;
    `precision` fp32 or bf16. Repeated runs are then equal bit for bit, as far as the device allows.
    Raises ValueError for a device that this machine lacks."""
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
    return Device(torch.device(name), torch.bfloat16 if precision == "bf16" else None, threads)
