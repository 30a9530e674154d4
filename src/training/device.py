"""Where a run computes, with how many threads, and in which precision."""

import functools
import gc
import os
import time
from contextlib import suppress
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field

from ..losses import BadArgument

Kind = Literal["auto", "cpu", "cuda", "mps"]
# Of x86 and ARM processors that multiply bf16 themselves; elsewhere each product is converted.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
FASTER = 0.9  # of the time in fp32: less gains nothing


class Device(NamedTuple):
    """`torch` is the device; `amp` the autocast type of the backbone, None for float32. `graph`: steps
    are to be one graph; `compiled`: the backbone is to be compiled for them."""

    torch: torch.device
    amp: torch.dtype | None
    threads: int
    graph: bool = False
    compiled: bool = False

    @property
    def precision(self) -> str:
        return "fp32" if self.amp is None else "bf16"

    def autocast(self):
        return torch.autocast(self.torch.type, dtype=self.amp, enabled=self.amp is not None)

    def memory(self) -> dict[str, int] | None:
        """Of a GPU: bytes that torch has held at the most since `choose_device`, and all that there are;
        None of other devices."""
        if self.torch.type != "cuda":
            return None
        _, total = torch.cuda.mem_get_info(self.torch)
        return {"peak": torch.cuda.max_memory_reserved(self.torch), "total": total}

    @property
    def description(self) -> str:
        if self.torch.type == "cuda":
            return torch.cuda.get_device_name(self.torch)
        return f"{self.torch.type}, {self.threads} threads"


def give_memory_back() -> None:
    """What torch keeps of a GPU's memory and nothing uses any more, for other processes."""
    if torch.cuda.is_initialized():
        gc.collect()
        with suppress(RuntimeError):  # of a GPU that has failed
            torch.cuda.empty_cache()


def available(kind: str) -> bool:
    return {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[kind]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def choose_device(
    kind: Kind,
    threads: Annotated[int, Field(ge=1)] | None,
    precision: Literal["fp32", "bf16", "auto"],
    *,
    tf32: bool = False,
    deterministic: bool = True,
    graph: Literal["auto", "off"] = "off",
    compile: bool = False,
) -> Device:
    """`kind` auto, cpu, cuda or mps; `threads` None for all cores this process may use; `precision`
    fp32, bf16, or auto for what `faster_precision` says. `tf32`: products in float32 may round their
    factors to 10 bits, in heads too; `deterministic`: repeated runs are equal bit for bit, as far as the
    device allows; `graph` auto or off. Raises BadArgument as `find_device` does, and where nothing can
    be compiled."""
    kind = find_device(kind, tf32=tf32, deterministic=deterministic, graph=graph)
    threads = threads or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    torch.set_num_threads(threads)
    if kind == "cuda":
        set_up_cuda(tf32, deterministic)
    if compile:
        check_compiler(kind)
    if precision == "auto":
        precision = faster_precision(kind)
    amp = torch.bfloat16 if precision == "bf16" else None
    return Device(torch.device(kind), amp, threads, kind == "cuda" and graph == "auto", compile)


def find_device(
    kind: Kind,
    *,
    tf32: bool = False,
    deterministic: bool = True,
    graph: Literal["auto", "off"] = "off",
) -> str:
    """Return a kind of device that this machine has: `kind`, or the best for auto. Raises BadArgument if
    there is none, and for an argument of `choose_device` that would do nothing on it."""
    if kind == "auto":
        kind = next(one for one in ("cuda", "mps", "cpu") if available(one))
    if not available(kind):
        others = ", ".join(one for one in ("cpu", "cuda", "mps") if available(one))
        raise BadArgument(
            "kind", kind, f"torch {torch.__version__} sees none here, use {others} or auto"
        )
    asked = {"tf32": (tf32, False), "deterministic": (deterministic, True), "graph": (graph, "off")}
    for argument, (value, usual) in asked.items():
        if kind != "cuda" and value != usual:
            raise BadArgument(argument, value, f"does nothing on {kind}, only on cuda; leave it out")
    return kind


def set_up_cuda(tf32: bool, deterministic: bool) -> None:
    """Set torch's CUDA flags for this run; an earlier run in this process may have set others."""
    torch.cuda.reset_peak_memory_stats()
    # Half of the kernels of a step would fill memory that is written right afterwards.
    torch.utils.deterministic.fill_uninitialized_memory = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic  # the fastest of several, found by trying
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


@functools.cache
def check_compiler(kind: str) -> None:
    """Raise BadArgument unless torch compiles on this machine, which takes a C++ compiler, or Triton."""
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=kind))
    except Exception as error:
        why = str(error).strip().partition("\n")[0]
        raise BadArgument("compile", True, f"torch cannot compile here ({why})") from None


def faster_precision(kind: str) -> str:
    """bf16 on GPUs that have it, and on processors that have its instructions and are faster with them,
    as a short try says; else fp32."""
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has_it = any(torch.cpu.get_capabilities().get(one) for one in BF16_INSTRUCTIONS)
    return "bf16" if kind == "cpu" and has_it and bf16_cost() < FASTER else "fp32"


@functools.cache
@torch.no_grad()
def bf16_cost() -> float:
    """The time that a convolution takes on this processor in bf16, as a multiple of that in fp32: the
    least of some tries each, in turns. Draws no numbers: a run may be at its own already."""
    images, weights = (
        torch.zeros(shape).to(memory_format=torch.channels_last)
        for shape in ((32, 32, 16, 16), (64, 32, 3, 3))
    )
    least = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(6):
        for kind in least:
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
                began = time.perf_counter()
                torch.nn.functional.conv2d(images, weights, padding=1)
            least[kind] = min(least[kind], time.perf_counter() - began)
    return least[torch.bfloat16] / least[torch.float32]
