"""Steps as a CUDA graph: what the GPU does in a step is recorded once, and replayed without Python.

Small networks wait for Python: 120 to 260 kernels a step are launched in 4 to 6 ms, and take one. The
same kernels on the same memory give the same bits. The first steps are taken as they are, which warms up
libraries, and the next one is recorded, in the midst of training: nothing has to be put back."""

import logging
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from . import processes
from .step import Step, has_fused

log = logging.getLogger(__name__)
WARM_UP = 3  # steps: torch asks for so many before a graph is recorded
# Of torch's warnings about waits, and about the mode that tells of them.
WAITS, MODE = "called a synchronizing CUDA operation", "Synchronization debug mode is a prototype"

# What no graph can have.
AWAITS, DRAWS = "Python waits for a result", "Python draws random numbers on the CPU"


class NotRecorded(RuntimeError):
    """Recording failed half-way, after which nothing in this process's use of the GPU is certain."""


def drawn_by_python() -> tuple:
    """The states of Python's and numpy's generators, which change when somebody draws."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (whoever uses the old one)
    return random.getstate(), name, keys.tolist(), rest


class Recorder(Protocol):
    """What records work and replays it: CUDA, or in tests a CPU that does the same."""

    obstacle: str | None  # that a warm-up step had

    def warm_up(self) -> AbstractContextManager:
        """In which a step before the recording is taken."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record, without doing it, all that `work` does on the device; returns what does it, again and
        again, and the tensor that then holds the result."""


class Replayed:
    """Takes steps as `step` itself would."""

    def __init__(self, step: Step, recorder: Recorder):
        self.step, self.recorder = step, recorder
        self.taken, self.replay, self.inputs, self.loss = 0, None, [], None

    def __call__(self, fed: Iterable[tuple[Tensor, ...]]) -> Tensor:
        fed = list(fed)
        if self.recorder and self.taken < WARM_UP:
            self.taken += 1
            with self.recorder.warm_up():
                return self.step(fed)
        if self.recorder and self.recorder.obstacle:
            log.warning(f"no CUDA graph: {self.recorder.obstacle} in a step, which no graph would do")
            self.recorder = None
        if self.recorder is None:
            return self.step(fed)
        self.step.set_rates()
        if self.replay is None:
            self.record(fed)
        for inputs, one in zip(self.inputs, fed, strict=True):
            for mine, given in zip(inputs, one, strict=True):
                mine.copy_(given)
        self.replay()
        self.step.schedule.step()
        return self.loss

    def record(self, fed: list[tuple[Tensor, ...]]) -> None:
        self.inputs = [tuple(tensor.clone() for tensor in one) for one in fed]
        try:
            self.replay, self.loss = self.recorder.record(lambda: self.step.update(self.inputs))
        except RuntimeError as error:
            raise NotRecorded(str(error).partition("\n")[0]) from error


def replayed(step: Step) -> Step | Replayed:
    """The step, as a graph if its device is to have one."""
    recorder = recorder_for(step)
    return Replayed(step, recorder) if recorder else step


def recorder_for(step: Step) -> Recorder | None:
    if not step.device.graph or processes.count() > 1 or getattr(step.head, "sampling", False):
        return None
    if not has_fused(step.optimizer):
        log.warning("no CUDA graph: this optimizer has no fused=True, which reads its rate from memory")
        return None
    return CudaGraphs(generators_of(step))


def generators_of(step: Step) -> list[Generator]:
    """Those that draw in a step, besides torch's own: the attributes `generator` of its parts."""
    parts = [*step.backbone.modules(), *step.head.modules(), step.augment]
    drawing = (getattr(part, "generator", None) for part in parts)
    return [one for one in drawing if isinstance(one, Generator) and one.device.type == "cuda"]


class CudaGraphs:
    """A recorder by `torch.cuda.graph`, on a stream of its own. `generators` are known to the graph, so
    that each replay draws anew."""

    def __init__(self, generators: list[Generator]):
        self.generators, self.obstacle, self.stream = generators, None, torch.cuda.Stream()
        self.said: dict = {}  # of warnings, so that each is shown once

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        drawn = (*drawn_by_python(), torch.get_rng_state().tolist())
        self.stream.wait_stream(torch.cuda.current_stream())
        with warnings.catch_warnings(record=True) as said, torch.cuda.stream(self.stream):
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
        torch.cuda.current_stream().wait_stream(self.stream)
        waited = any(WAITS in str(one.message) for one in said)
        drew = self.obstacle == DRAWS or drawn != (*drawn_by_python(), torch.get_rng_state().tolist())
        # Waits of the first steps may be what libraries do once; a draw may be rare.
        self.obstacle = DRAWS if drew else AWAITS if waited else None
        for one in said:
            if not str(one.message).startswith(MODE) and WAITS not in str(one.message):
                where = one.filename, one.lineno
                warnings.warn_explicit(one.message, one.category, *where, registry=self.said)

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        before = torch.cuda.current_stream()
        try:
            # Other threads go on meanwhile, such as those that pin the memory of images.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                result = work()
        finally:
            torch.cuda.set_stream(before)  # torch leaves its own, where recording fails
        return graph.replay, result
