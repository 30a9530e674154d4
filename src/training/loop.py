"""The training loop, an epoch at a time, and the embeddings of a split."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import processes
from .device import Device
from .graph import replayed
from .sampling import Order
from .step import Step

# How many pixels are embedded at once, in 16 to 1024 images. A backbone's activations take memory. On a
# processor small chunks stay in its caches: twice as fast with small_cnn and 28×28 as by the thousand.
CHUNK_PIXELS, CPU_CHUNK_PIXELS = 2**23, 2**16
AT_ONCE = 2**22  # weights to look at: what is made of them takes memory


class NotFinite(ArithmeticError):
    """A loss was not a finite number, or weights were not at an epoch's end."""


class Epoch(NamedTuple):
    """An epoch's number from 1, its mean loss, and the images trained per second."""

    number: int
    loss: float
    speed: float


def fit(
    step: Step,
    *,
    epochs: int,
    after: int = 0,
    batch_size: int,
    generator: torch.Generator,
    order: Order,
    margin: Callable[[float], Tensor] | None = None,
    on_step: Callable[[int, Tensor], None] = lambda step, losses: None,
) -> Iterator[Epoch]:
    """Train for `epochs`, yielding after each; those up to `after` were trained before. On a GPU steps
    are one graph where they can be.

    An epoch is what `order` draws of the step's data with `generator` (on the CPU, so that all devices
    have the same), without the last incomplete step. `margin` gives the head's
    margin from the epochs trained, a fraction. Losses stay on the device until the epoch ends. Raises
    NotFinite if one is not a finite number, or if the weights are not after the last step.
    """
    images = batch_size * step.accumulate
    take = replayed(step)
    for epoch in range(after + 1, epochs + 1):
        began = time.perf_counter()
        step.train_mode()
        drawn = order(generator)
        steps = len(drawn) // images
        own, size = processes.shares(drawn[: steps * images], batch_size)
        feed = step.data.feed(own.to(step.device.torch), size)
        losses = torch.empty(steps, device=step.device.torch)

        for number in range(steps):
            if margin:
                step.head.margin.copy_(margin(epoch - 1 + number / steps))
            losses[number] = take(islice(feed, step.accumulate))
            on_step(number, losses)
        next(feed, None)  # lets the processes that read a streamed split end

        finite = losses.isfinite()
        if not finite.all():
            first = int((~finite).nonzero()[0]) + 1
            raise NotFinite(
                f"the loss was not a finite number at epoch {epoch}, step {first} of {steps}"
            )
        if not processes.all_agree(all_finite(step.backbone, step.head)):
            raise NotFinite(f"weights were not finite numbers at the end of epoch {epoch}")
        yield Epoch(epoch, float(losses.mean()), steps * images / (time.perf_counter() - began))


@torch.no_grad()
def all_finite(*modules: nn.Module) -> bool:
    """Whether all weights and running statistics are finite numbers."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    parts = [part for tensor in tensors for part in tensor.flatten().split(AT_ONCE)]
    return bool(torch.stack([part.isfinite().all() for part in parts]).all())


@torch.no_grad()
def embed(backbone: nn.Module, split, device: Device, rows: Tensor | None = None) -> Tensor:
    """Return embeddings (N, D) float32 of every image of a split, or of some `rows` (N,), in order."""
    backbone.eval()
    pixels = CPU_CHUNK_PIXELS if device.torch.type == "cpu" else CHUNK_PIXELS
    chunk = min(1024, max(16, pixels // math.prod(split.images.shape[1:])))
    order = torch.arange(len(split), device=device.torch) if rows is None else rows.to(device.torch)
    with device.autocast():
        return torch.cat([backbone(images).float() for images, _ in split.batches(order, chunk)])
