"""A plain multilayer perceptron."""

import math

from torch import nn


def mlp(image_shape: tuple[int, int, int], embedding_dim: int, hidden: int = 256) -> nn.Module:
    """Two hidden layers of `hidden` units with BatchNorm and ReLU, then the embedding."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(image_shape), hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, embedding_dim),
    )
