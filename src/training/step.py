"""One step of training, in one place: forward, backward, update."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from . import processes
from .average import Average
from .device import Device
from .optimizers import sampled_rows


@dataclass
class Step:
    """One step of training. `data` provides the batches: a split, or anything with a length, `feed` and
    `prepare`. `augment` changes a batch of images. The gradient is the mean over `accumulate` batches,
    scaled down if its norm over all weights exceeds `clip_norm`. `average` follows the weights;
    `penalty` is added to the loss. Frozen parameters keep their values, and their modules keep their
    running statistics."""

    data: object
    backbone: nn.Module
    head: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    device: Device
    augment: Callable[[Tensor], Tensor] | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    average: Average | None = None
    penalty: Callable[[Tensor], Tensor] | None = None  # of the class weights
    batch_size: int = 0  # of all processes together, where there are several

    def __post_init__(self):
        parallel = processes.in_parallel(self.backbone)
        self.embed = torch.compile(parallel) if self.device.compiled else parallel
        # A graph reads its rates from memory. Schedules have theirs as numbers: torch's would go on from
        # a rate that is a tensor in its own precision.
        self.rates: list[Tensor] = []
        if has_fused(self.optimizer):
            groups = self.optimizer.param_groups
            self.rates = list(torch.zeros(len(groups), device=self.device.torch).unbind())

    def train_mode(self) -> None:
        self.backbone.train(), self.head.train()
        for module in filter(is_frozen, self.backbone.modules()):
            module.training = False  # not those inside it, which may train

    def __call__(self, fed: Iterable[tuple[Tensor, ...]]) -> Tensor:
        """Train on `accumulate` batches, of what the data feed, and return their mean loss, which stays
        on the device: nothing here waits for it."""
        self.set_rates()
        loss = self.update(fed)
        self.schedule.step()
        return loss

    def set_rates(self) -> None:
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=False):
            rate.fill_(group["lr"])

    def update(self, fed: Iterable[tuple[Tensor, ...]]) -> Tensor:
        """What a step does on the device, all of which a graph can record."""
        self.optimizer.zero_grad()
        mean = None
        for number, one in enumerate(fed):
            images, labels = self.data.prepare(*one)
            taken = self.schedule.last_epoch  # steps
            with processes.own_draws(self.augment, self.device.torch, taken, number):
                if self.augment:
                    images = self.augment(images)
                with self.device.autocast():
                    embeddings = self.embed(images)
            embeddings, labels = processes.gathered(embeddings, labels, self.batch_size)
            loss = self.head(embeddings, labels)
            if self.penalty:
                loss = loss + self.penalty(self.head.weight)
            if self.accumulate > 1:
                loss = loss / self.accumulate
            loss.backward()
            mean = loss.detach() if mean is None else mean + loss.detach()
        if self.clip_norm:
            parameters, norm = processes.norm_of_gradients(self.backbone, self.head)
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        with self.rates_as_tensors(), sampled_rows(self.optimizer, self.head):
            self.optimizer.step()
        if self.average:
            self.average.update(self.backbone, self.head)
        return mean

    @contextmanager
    def rates_as_tensors(self) -> Iterator[None]:
        groups = self.optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for group, rate in zip(groups, self.rates, strict=False):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number


def has_fused(optimizer: Optimizer) -> bool:
    """Whether the optimizer is one kernel on the device, which takes rates from memory."""
    return all(group.get("fused") for group in optimizer.param_groups)


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, and trains none of them."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
