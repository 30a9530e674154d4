"""A network small enough for a laptop's processor and good enough for digits and clothes."""

from typing import Annotated

from pydantic import Field
from torch import nn


def small_cnn(
    image_shape: tuple[int, int, int], *, width: Annotated[int, Field(ge=1)] = 32
) -> nn.Module:
    """Features (B, F) of images from 4×4: three 3×3 convolutions with BatchNorm, pooling and ReLU
    (`width`, 2· and 4· channels). The last pooling is a maximum over each quarter of what is left; where
    its height or width is odd, quarters share a row or column."""
    channels, sides = image_shape[0], [side // 4 for side in image_shape[1:]]

    def layer(n_in: int, n_out: int, pooling: nn.Module) -> list[nn.Module]:
        conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        # ReLU before the pooling would give the same numbers, of four times as many values.
        return [conv, nn.BatchNorm2d(n_out), pooling, nn.ReLU()]

    quarters = [side - side // 2 for side in sides], [max(1, side // 2) for side in sides]
    return nn.Sequential(
        *layer(channels, width, nn.MaxPool2d(2)),
        *layer(width, 2 * width, nn.MaxPool2d(2)),
        *layer(2 * width, 4 * width, nn.MaxPool2d(*quarters)),
        nn.Flatten(),
    )
