"""A linear map of what is given."""

from torch import nn


def linear(image_shape: tuple[int, int, int]) -> nn.Module:
    """Features (B, channels · height · width): the images themselves, from which the neck, a linear
    layer, makes embeddings. For features of another encoder."""
    return nn.Flatten()
