"""torchvision's ResNet-18, with the stem that small images need."""

from torch import nn


def resnet18(image_shape: tuple[int, int, int], embedding_dim: int) -> nn.Module:
    """For images under 64 pixels the stem is a 3×3 convolution without pooling: the usual one
    (7×7 by steps of 2, then pooling by 2) would leave 7×7 of 28×28 before the first block."""
    from ..vision import models

    channels, height, width = image_shape
    net = models.resnet18(num_classes=embedding_dim)
    if min(height, width) < 64:
        net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return net
