"""Optimizers, and learning rates and margins over time."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from ..arguments import Legal, is_number

# One kernel for all parameters, not one for each.
adam = partial(torch.optim.Adam, foreach=True)
adamw = partial(torch.optim.AdamW, foreach=True)
sgd = partial(torch.optim.SGD, foreach=True)


def build_optimizer(
    optimizer: Callable[..., Optimizer],
    backbone: nn.Module,
    head: nn.Module,
    *,
    lr: float,
    head_lr: float | None,
    **options,
) -> Optimizer:
    """One optimizer with two groups: the class weights' best rate can be far from the backbone's.
    `head_lr` None is `lr`."""
    groups = [
        {"params": list(backbone.parameters()), "lr": lr},
        {"params": list(head.parameters()), "lr": lr if head_lr is None else head_lr},
    ]
    return optimizer(groups, **options)


# Schedules: an optimizer, the steps in an epoch and the number of epochs -> a torch scheduler, which is
# stepped after every training step.


def constant_rate(optimizer: Optimizer, steps: int, epochs: int):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def step_decay(
    optimizer: Optimizer,
    steps: int,
    epochs: int,
    *,
    every: Annotated[float, Legal("epochs above 0", lambda n: is_number(n) and 0 < n < 1e6)],
    factor: Annotated[float, Legal("above 0, up to 1", lambda n: is_number(n) and 0 < n <= 1)],
):
    """The rate times `factor` after `every` epochs. Raises ValueError for less than a step."""
    if every * steps < 1:
        raise ValueError("every is at least one step of training")
    return lr_scheduler.StepLR(optimizer, int(every * steps), gamma=factor)


def cosine_decay(optimizer: Optimizer, steps: int, epochs: int):
    """Half a cosine, down to 0 at the last step."""
    return lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs)


def one_cycle(
    optimizer: Optimizer,
    steps: int,
    epochs: int,
    *,
    rising: Annotated[float, Legal("a share from 0 to 1", lambda n: is_number(n) and 0 <= n <= 1)],
):
    """Up to the rate during a share `rising` of the steps, then down to almost 0."""
    peaks, total = [group["lr"] for group in optimizer.param_groups], steps * epochs + 1
    if rising * total == 1:  # up within no steps at all: torch would divide 0 by 0
        rising += 1e-9
    # Cycling the momentum would need it in every optimizer; only the rate is a schedule here.
    return lr_scheduler.OneCycleLR(
        optimizer, peaks, total_steps=total, pct_start=float(rising), cycle_momentum=False
    )


def build_schedule(schedule: Callable, optimizer: Optimizer, *, steps: int, epochs: int, **options):
    """A torch scheduler to be stepped after each of `epochs` × `steps` training steps."""
    return schedule(optimizer, steps, epochs, **options)


# How far the margin has come, 0…1, after a share r of its warm-up.
WARMUPS: dict[str, Callable[[float], float]] = {
    "linear": lambda r: r,
    "exponential": lambda r: (1 - 1e-3**r) / (1 - 1e-3),  # fast first: a thousandth remains at the end
    "cosine": lambda r: (1 - math.cos(math.pi * r)) / 2,
}


def margin_schedule(
    start: torch.Tensor, value: torch.Tensor, epochs: float, shape: str
) -> Callable[[float], torch.Tensor]:
    """The margin as a function of the epochs trained so far, a fraction: from `start` to `value` within
    `epochs`, then constant. `shape` is one of WARMUPS."""

    def margin(epochs_trained: float) -> torch.Tensor:
        if epochs_trained >= epochs:
            return value
        return start + (value - start) * WARMUPS[shape](epochs_trained / epochs)

    return margin
