"""A plain multilayer perceptron."""

import math

from torch import nn


def mlp(image_shape: tuple[int, int, int], hidden: int = 256) -> nn.Module:
    """Two hidden layers of `hidden` units with BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(image_shape), hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
    )
