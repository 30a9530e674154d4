"""A plain multilayer perceptron."""

import math
from typing import Annotated

from pydantic import Field
from torch import nn


def mlp(image_shape: tuple[int, int, int], *, hidden: Annotated[int, Field(ge=1)] = 256) -> nn.Module:
    """Features (B, hidden): two layers of `hidden` units with BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(image_shape), hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
    )
