"""Backbones: normalised images (B, channels, height, width) -> embeddings (B, embedding_dim).

A body is any callable `body(image_shape, **options) -> nn.Module` whose module makes features (B, F);
those of this project are here, and conf/model/ names them. A neck makes embeddings of the features.
"""

from .backbone import build_backbone, check_neck
from .convnet import convnet
from .iresnet import iresnet
from .library import timm_body, torchvision_body
from .linear import linear
from .mlp import mlp
from .mobilefacenet import mobilefacenet
from .pixels import Pixels
from .small_cnn import small_cnn

__all__ = [
    "Pixels",
    "build_backbone",
    "check_neck",
    "convnet",
    "iresnet",
    "linear",
    "mlp",
    "mobilefacenet",
    "small_cnn",
    "timm_body",
    "torchvision_body",
]
