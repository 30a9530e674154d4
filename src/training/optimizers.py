"""Optimizers, and learning rates and margins over time."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from ..losses import BadArgument


class NotCompiled:
    """torch's optimizers import its compiler, three seconds, only to say that they are not to be
    compiled. The same methods, without a word to it."""

    add_param_group, state_dict, load_state_dict, zero_grad = map(
        inspect.unwrap,
        (
            *(Optimizer.add_param_group, Optimizer.state_dict, Optimizer.load_state_dict),
            Optimizer.zero_grad,
        ),
    )


class Adam(NotCompiled, torch.optim.Adam):
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(NotCompiled, torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SGD(NotCompiled, torch.optim.SGD):
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class RMSprop(NotCompiled, torch.optim.RMSprop):
    step = torch.no_grad()(inspect.unwrap(torch.optim.RMSprop.step))


# For all parameters together, not one by one; where `kernels` knows better, in one kernel.
adam, adamw, sgd, rmsprop = (partial(each, foreach=True) for each in (Adam, AdamW, SGD, RMSprop))


def kernels(optimizer: Callable[..., Optimizer], kind: str) -> dict[str, bool | None]:
    """Return the arguments by which one of torch's own optimizers is fused, where it can be. On a
    processor that is four times as fast as `foreach`, and makes no copies of the weights; on a GPU a
    graph can have it."""
    known = inspect.signature(optimizer).parameters
    capturable = {"capturable": True} if "capturable" in known else {}
    # Others may be fused on processors alone.
    if kind not in ("cpu", "cuda") or "fused" not in known or not (capturable or optimizer is sgd):
        return {}
    return {"foreach": None, "fused": True} | (capturable if kind == "cuda" else {})


Rate = Annotated[float, Field(gt=0, lt=1e6)]


def build_optimizer(
    optimizer: Callable[..., Optimizer],
    backbone: nn.Module,
    head: nn.Module,
    *,
    lr: Rate,
    head_lr: Rate | None = None,
    backbone_lr: Rate | None = None,
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0,
    **options,
) -> Optimizer:
    """Build an optimizer whose last two parameter groups are the backbone and the head: the best rate of
    the class weights, `head_lr`, can be far from `lr`. With `backbone_lr` or `layer_decay`, the backbone
    group keeps the embedding layer alone, and each layer of the body is a group before it: the last at
    `backbone_lr`, each earlier one at `layer_decay` times the rate of the next. A rate of None is `lr`.
    Raises BadArgument for these two if the backbone has no embedding layer."""
    own, layers = list(backbone.parameters()), []
    if backbone_lr not in (None, lr) or layer_decay != 1:
        given = ("backbone_lr", backbone_lr) if layer_decay == 1 else ("layer_decay", layer_decay)
        if getattr(backbone, "features_are_embeddings", False):
            raise BadArgument(*given, "this model has no embedding layer, leave it out")
        layers = layers_of(backbone[0])
        if len(layers) < (1 if layer_decay == 1 else 2):
            before = "one layer" if layers else "nothing that trains"
            raise BadArgument(*given, f"this model has {before} before its embedding layer")
        own = list(backbone[1:].parameters())
    top = lr if backbone_lr is None else backbone_lr
    groups = [
        {"params": layer, "lr": top * layer_decay**above}
        for above, layer in zip(reversed(range(len(layers))), layers, strict=True)
    ]
    groups += [
        {"params": own, "lr": lr},
        {"params": list(head.parameters()), "lr": lr if head_lr is None else head_lr},
    ]
    kind = next(head.parameters()).device.type
    return optimizer(groups, **kernels(optimizer, kind), **options)


@contextmanager
def sampled_rows(optimizer: Optimizer, head: nn.Module) -> Iterator[None]:
    """Within a block, let the optimizer have the rows of W in the head's `sample` in the place of all.
    The others, and what it keeps of them, stay as they are."""
    sample = getattr(head, "sample", None)
    if sample is None:
        yield
        return
    whole, (rows, weight) = head.weight, sample
    group = next(one for one in optimizer.param_groups if any(p is whole for p in one["params"]))
    params = group["params"]
    group["params"] = [weight if p is whole else p for p in params]
    kept = optimizer.state.pop(whole, {})
    if kept:
        is_each = {name: getattr(value, "shape", None) == whole.shape for name, value in kept.items()}
        optimizer.state[weight] = {k: v[rows] if is_each[k] else v for k, v in kept.items()}
    try:
        yield
    finally:
        group["params"], head.sample = params, None
        for name, value in optimizer.state.pop(weight, {}).items():
            if getattr(value, "shape", None) == weight.shape:
                if name not in kept:
                    kept[name] = torch.zeros_like(whole)
                kept[name][rows] = value
            else:
                kept[name] = value
        optimizer.state[whole] = kept
        whole.data[rows] = weight.detach()


def load_optimizer(optimizer: Optimizer, saved: dict) -> None:
    """Go on from a state dict, also one from another kind of device: how a group computes stays."""
    own = optimizer.param_groups
    for mine, group in zip(own, saved["param_groups"], strict=True):
        group |= {key: mine[key] for key in ("foreach", "fused", "capturable") if key in mine}
    optimizer.load_state_dict(saved)


def layers_of(body: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a body by its layers, from the images on: its children, those of sequences and
    lists one by one, that hold a matrix or a filter, each with what follows it and holds none, as norms
    do. What the body holds itself, as tokens and positions, is with the first."""
    layers: list[list[nn.Parameter]] = []
    for part in modules_of(body):
        parameters = list(part.parameters())
        if not layers or any(parameter.ndim > 1 for parameter in parameters):
            layers.append([])
        layers[-1] += parameters
    loose = list(body.parameters(recurse=False))
    if loose:
        layers = [loose + layers[0], *layers[1:]] if layers else [loose]
    return layers


def modules_of(module: nn.Module) -> list[nn.Module]:
    """The parts of a module that have parameters; a sequence, a list, or a part that is all there is, in
    parts of its own, unless it holds some itself."""
    parts = [child for child in module.children() if any(True for _ in child.parameters())]
    found = []
    for part in parts:
        in_parts = len(parts) == 1 or isinstance(part, (nn.Sequential, nn.ModuleList))
        holds_itself = any(True for _ in part.parameters(recurse=False))
        found += modules_of(part) if in_parts and not holds_itself else [part]
    return found


# Schedules: an optimizer, the steps in an epoch and the number of epochs -> a torch scheduler, which is
# stepped after every training step.


Warmup = Annotated[float, Field(ge=0, lt=1e6)]  # epochs


def constant_rate(optimizer: Optimizer, steps: int, epochs: int, *, warmup: Warmup = 0.0):
    """The rate as it is, after `warmup` epochs in which it rises to that from almost 0."""
    return warmed_up(optimizer, steps, epochs, warmup, lambda _: lr_scheduler.ConstantLR(optimizer, 1.0))


def step_decay(
    optimizer: Optimizer,
    steps: int,
    epochs: int,
    *,
    every: Annotated[float, Field(gt=0, lt=1e6)],
    factor: Annotated[float, Field(gt=0, le=1)],
    warmup: Warmup = 0.0,
):
    """The rate times `factor` after `every` epochs, counted after a `warmup` of so many. Raises
    BadArgument for less than a step."""
    if every * steps < 1:
        raise BadArgument("every", every, f"shorter than a training step, 1/{steps} of an epoch")
    return warmed_up(
        optimizer,
        steps,
        epochs,
        warmup,
        lambda _: lr_scheduler.StepLR(optimizer, int(every * steps), gamma=factor),
    )


def cosine_decay(optimizer: Optimizer, steps: int, epochs: int, *, warmup: Warmup = 0.0):
    """After `warmup` epochs, half a cosine, down to 0 at the last step."""
    return warmed_up(
        optimizer,
        steps,
        epochs,
        warmup,
        lambda left: lr_scheduler.CosineAnnealingLR(optimizer, left),
    )


def warmed_up(optimizer: Optimizer, steps: int, epochs: int, warmup: float, schedule: Callable):
    """`schedule(steps left)`, after a rate that rises in equal steps for `warmup` epochs. Raises
    BadArgument if nothing is left."""
    rising = round(warmup * steps)
    if rising >= steps * epochs:
        raise BadArgument("warmup", warmup, f"expected less than the {epochs} epochs of training")
    if not rising:
        return schedule(steps * epochs)
    first = lr_scheduler.LinearLR(optimizer, 1 / (rising + 1), total_iters=rising)
    after = schedule(steps * epochs - rising)
    return lr_scheduler.SequentialLR(optimizer, [first, after], [rising])


def one_cycle(
    optimizer: Optimizer,
    steps: int,
    epochs: int,
    *,
    rising: Annotated[float, Field(ge=0, le=1)],
):
    """Up to the rate during a share `rising` of the steps, then down to almost 0."""
    peaks, total = [group["lr"] for group in optimizer.param_groups], steps * epochs + 1
    if rising * total == 1:  # up within no steps at all: torch would divide 0 by 0
        rising += 1e-9
    # Cycling the momentum would need it in every optimizer; only the rate is a schedule here.
    return lr_scheduler.OneCycleLR(
        optimizer, peaks, total_steps=total, pct_start=float(rising), cycle_momentum=False
    )


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
