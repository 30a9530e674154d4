"""The training loop: from batch to step to log, top to bottom."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .device import Device

# How many pixels are embedded at once, in 16 to 1024 images. A backbone's activations take memory. On a
# processor small chunks stay in its caches: twice as fast with small_cnn and 28×28 as by the thousand.
CHUNK_PIXELS, CPU_CHUNK_PIXELS = 2**23, 2**16


class NotFinite(ArithmeticError):
    """A loss was not a finite number, or weights were not at an epoch's end."""


class Epoch(NamedTuple):
    """An epoch's number from 1, its mean loss, and the images trained per second."""

    number: int
    loss: float
    speed: float


def fit(
    backbone: nn.Module,
    head: nn.Module,
    train,
    optimizer: Optimizer,
    schedule,
    device: Device,
    *,
    epochs: int,
    after: int = 0,
    batch_size: int,
    generator: torch.Generator,
    margin: Callable[[float], Tensor] | None = None,
    augment: Callable[[Tensor], Tensor] = lambda images: images,
    clip_norm: float | None = None,
    on_step: Callable[[int, Tensor], None] = lambda step, losses: None,
) -> Iterator[Epoch]:
    """Train for `epochs`, yielding after each; those up to `after` were trained before.

    `train` has a length and `batches(order, size)`; an epoch is one permutation of it, without the last
    incomplete batch. `generator` (on the CPU) orders the images, the same on every device. `margin`
    gives the head's margin from the epochs trained, a fraction; `augment` changes a batch of images.
    `clip_norm` is the most that the norm of all gradients together may be, which are scaled down to it.
    Nothing in a step waits for the device: losses stay there until the epoch ends. Raises NotFinite if
    one is not a finite number, or if the weights are not after the last step.
    """
    steps = len(train) // batch_size
    parameters = [*backbone.parameters(), *head.parameters()]
    for epoch in range(after + 1, epochs + 1):
        began = time.perf_counter()
        backbone.train(), head.train()
        order = torch.randperm(len(train), generator=generator).to(device.torch)
        losses = torch.empty(steps, device=device.torch)

        for step, (images, labels) in enumerate(train.batches(order[: steps * batch_size], batch_size)):
            if margin:
                head.margin.copy_(margin(epoch - 1 + step / steps))
            with device.autocast():
                embeddings = backbone(augment(images))
            loss = head(embeddings, labels)
            optimizer.zero_grad()
            loss.backward()
            if clip_norm:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            schedule.step()
            losses[step] = loss.detach()
            on_step(step, losses)

        finite = losses.isfinite()
        if not finite.all():
            step = int((~finite).nonzero()[0]) + 1
            raise NotFinite(f"the loss was not a finite number at epoch {epoch}, step {step} of {steps}")
        if not all_finite(backbone, head):
            raise NotFinite(f"weights were not finite numbers at the end of epoch {epoch}")
        speed = steps * batch_size / (time.perf_counter() - began)
        yield Epoch(epoch, float(losses.mean()), speed)


@torch.no_grad()
def all_finite(*modules: nn.Module) -> bool:
    """Whether all weights and running statistics are finite numbers."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return bool(torch.stack([t.isfinite().all() for t in tensors]).all())


@torch.no_grad()
def embed(backbone: nn.Module, split, device: Device, first: int | None = None) -> Tensor:
    """Embeddings (N, D) float32 of every image of a split, or of the `first` few, in its order."""
    backbone.eval()
    pixels = CPU_CHUNK_PIXELS if device.torch.type == "cpu" else CHUNK_PIXELS
    chunk = min(1024, max(16, pixels // math.prod(split.images.shape[1:])))
    order = torch.arange(min(len(split), first or len(split)), device=device.torch)
    with device.autocast():
        return torch.cat([backbone(images).float() for images, _ in split.batches(order, chunk)])
