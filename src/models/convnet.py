"""The five-layer network of the demo that this project grew out of."""

from torch import Tensor, nn


class Maximum(nn.Module):
    """(B, channels, pixels) -> (B, channels)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.max(2).values


def convnet(image_shape: tuple[int, int, int]) -> nn.Module:
    """Features (B, 512): five 3×3 convolutions, each with ReLU, then BatchNorm, and a maximum over the
    image.

    The original was made for 28×28. Its convolutions lose two pixels each, so images under 14 pixels are
    padded, and the last maximum adapts to whatever size is left (8×8 in the original).
    """
    channels, height, width = image_shape
    padding = 0 if min(height, width) >= 14 else 1

    def layer(n_in: int, n_out: int, padding: int = padding) -> list[nn.Module]:
        return [nn.Conv2d(n_in, n_out, 3, padding=padding), nn.ReLU(), nn.BatchNorm2d(n_out)]

    return nn.Sequential(
        *layer(channels, 32),
        *layer(32, 64),
        *layer(64, 128, padding=1),
        nn.MaxPool2d(2),
        *layer(128, 256),
        *layer(256, 512),
        nn.Flatten(2),
        Maximum(),
    )
