"""Optimizers, learning rates and margins over time, by the names that configurations use."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, foreach=True),
    "adamw": partial(torch.optim.AdamW, foreach=True),
    "sgd": partial(torch.optim.SGD, foreach=True),
}


def build_optimizer(
    name: str, backbone: nn.Module, head: nn.Module, *, lr: float, head_lr: float | None, **options
) -> Optimizer:
    """One optimizer, two groups: the class weights' best rate can be far from the backbone's."""
    groups = [
        {"params": list(backbone.parameters()), "lr": lr},
        {"params": list(head.parameters()), "lr": lr if head_lr is None else head_lr},
    ]
    return OPTIMIZERS[name](groups, **options)


def _constant(optimizer: Optimizer, steps: int, epochs: int):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def _step(optimizer: Optimizer, steps: int, epochs: int, *, every: float, factor: float):
    if every * steps < 1 or not 0 < factor <= 1:
        raise ValueError("every is at least one step of training, factor above 0 and up to 1")
    return lr_scheduler.StepLR(optimizer, int(every * steps), gamma=factor)


def _cosine(optimizer: Optimizer, steps: int, epochs: int):
    return lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs)


def _onecycle(optimizer: Optimizer, steps: int, epochs: int, *, rising: float):
    peaks = [group["lr"] for group in optimizer.param_groups]
    # Cycling the momentum would need it in every optimizer; only the rate is a schedule here.
    return lr_scheduler.OneCycleLR(
        optimizer, peaks, total_steps=steps * epochs + 1, pct_start=rising, cycle_momentum=False
    )


SCHEDULES = {"constant": _constant, "step": _step, "cosine": _cosine, "onecycle": _onecycle}


def build_schedule(name: str, optimizer: Optimizer, *, steps: int, epochs: int, **options):
    """A torch scheduler to be stepped after each of `epochs` × `steps` training steps."""
    return SCHEDULES[name](optimizer, steps, epochs, **options)


# How far the margin has come, 0…1, when a share r of its warm-up is over.
WARMUPS: dict[str, Callable[[float], float]] = {
    "linear": lambda r: r,
    "exponential": lambda r: (1 - 1e-3**r) / (1 - 1e-3),  # fast first: a thousandth remains at the end
    "cosine": lambda r: (1 - math.cos(math.pi * r)) / 2,
}


def margin_schedule(
    start: torch.Tensor, value: torch.Tensor, epochs: float, shape: str
) -> Callable[[float], torch.Tensor]:
    """The margin as a function of the epochs trained so far, a fraction: from `start` to `value`
    within `epochs`, then constant."""

    def margin(trained: float) -> torch.Tensor:
        if trained >= epochs:
            return value
        return start + (value - start) * WARMUPS[shape](trained / epochs)

    return margin
