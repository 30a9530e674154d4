"""Backbones: normalised images (B, channels, height, width) -> embeddings (B, embedding_dim)."""

from torch import nn

from .convnet import convnet
from .mlp import mlp
from .resnet import resnet18
from .small_cnn import small_cnn

# The names that configurations use; conf/model/ holds a file for each.
BACKBONES = {"convnet": convnet, "small_cnn": small_cnn, "mlp": mlp, "resnet18": resnet18}


def build_backbone(
    name: str, image_shape: tuple[int, int, int], embedding_dim: int, **options
) -> nn.Module:
    """The backbone `name` for images of `image_shape` (channels, height, width)."""
    return BACKBONES[name](image_shape, embedding_dim, **options)
