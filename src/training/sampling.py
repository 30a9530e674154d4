"""Orders: the images of an epoch."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ..losses import BadArgument

Order = Callable[[Generator], Tensor]


def shuffled(count: int) -> Order:
    """Each of so many images once, in a random order."""
    return lambda generator: torch.randperm(count, generator=generator)


def shortened(order: Order, count: int) -> Order:
    """The first so many images of an order."""
    return lambda generator: order(generator)[:count]


class ByClass:
    """The indices of samples, by class: labels (N,) in [0, C), of which some classes may have none."""

    def __init__(self, labels: Tensor):
        labels = labels.cpu()
        counts = torch.bincount(labels)
        self.present = counts.nonzero()[:, 0]
        self.counts = counts[self.present]
        self.starts = self.counts.cumsum(0) - self.counts
        self.indices = labels.argsort(stable=True)

    def draw(self, classes: Tensor, generator: Generator) -> Tensor:
        """For each of `classes` (n,), as places among those present, a random sample of it (n,)."""
        share = torch.rand(len(classes), generator=generator, dtype=torch.float64)
        within = (share * self.counts[classes]).long()
        return self.indices[self.starts[classes] + within]

    def shuffled(self, generator: Generator) -> Tensor:
        """`indices` with the samples of each class in a random order (N,)."""
        order = torch.randperm(len(self.indices), generator=generator)
        place = torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)
        return self.indices[order[place[order].argsort(stable=True)]]


def balanced(labels: Tensor) -> Order:
    """As many draws as there are samples, each of a class at random and then of one of its samples:
    every class comes as often, and rare ones repeat their samples."""
    by_class = ByClass(labels)

    def order(generator: Generator) -> Tensor:
        classes = torch.randint(len(by_class.present), (len(labels),), generator=generator)
        return by_class.draw(classes, generator)

    return order


def classes_in_batches(labels: Tensor, batch_size: int, samples_per_class: int) -> Order:
    """Batches of `batch_size // samples_per_class` different classes with `samples_per_class` samples of
    each, different ones where a class has as many: the P × K batches of metric learning. As many samples
    as there are, to the last whole batch. Raises BadArgument if batches do not divide, or if there are
    fewer classes than in a batch."""
    by_class, per_batch = ByClass(labels), batch_size // samples_per_class
    if batch_size % samples_per_class:
        why = f"does not divide a batch of {batch_size}"
        raise BadArgument("samples_per_class", samples_per_class, why)
    if per_batch > len(by_class.present):
        raise BadArgument(
            "samples_per_class",
            samples_per_class,
            f"a batch of {batch_size} then has {per_batch} classes, and there are only "
            f"{len(by_class.present)}; give more samples, or a smaller batch_size",
        )

    def order(generator: Generator) -> Tensor:
        drawn, shuffled = [], by_class.shuffled(generator)
        for _ in range(len(labels) // batch_size):
            classes = torch.randperm(len(by_class.present), generator=generator)[:per_batch]
            start = torch.rand(per_batch, generator=generator, dtype=torch.float64)
            counts = by_class.counts[classes, None]
            # Neighbours in a class's shuffled samples, from a random one on, around its end.
            within = (start[:, None] * counts).long() + torch.arange(samples_per_class)
            drawn.append(shuffled[by_class.starts[classes, None] + within % counts].flatten())
        return torch.cat(drawn)

    return order
