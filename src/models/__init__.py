"""Backbones: normalised images (B, channels, height, width) -> embeddings (B, embedding_dim).

A body makes features (B, F) of images, of this project or of a library; a neck makes embeddings of them.
"""

import torch
from torch import nn

from .convnet import convnet
from .iresnet import iresnet
from .library import LIBRARIES, library_names
from .mlp import mlp
from .small_cnn import small_cnn

__all__ = ["BACKBONES", "LIBRARIES", "NECKLESS", "build_backbone", "library_names"]


def pixels(image_shape: tuple[int, int, int]) -> nn.Module:
    """The images themselves: what a trained embedding has to be better than."""
    return nn.Flatten()


# The names that configurations use; conf/model/ holds a file for each, and one for each library.
BACKBONES = {
    "convnet": convnet,
    "small_cnn": small_cnn,
    "mlp": mlp,
    "iresnet18": iresnet((2, 2, 2, 2)),
    "iresnet34": iresnet((3, 4, 6, 3)),
    "iresnet50": iresnet((3, 4, 14, 3)),
    "pixels": pixels,
}
NECKLESS = ("pixels",)  # their features are the embedding


def build_backbone(
    name: str,
    image_shape: tuple[int, int, int],
    embedding_dim: int,
    *,
    library: str | None = None,
    pretrained: bool = False,
    fetch: bool = True,
    norm: bool = False,
    dropout: float = 0.0,
    options: dict | None = None,
) -> nn.Module:
    """The backbone `name`, of this project or of a `library`, for images of `image_shape` (channels,
    height, width). Its neck is dropout, a linear layer, and, with `norm`, BatchNorm without a weight,
    as ArcFace's reference code has it: embeddings then keep every dimension at one length, so none
    dies. Weights of a `pretrained` one are not looked for if `fetch` is false: others will be loaded.
    `normalisation` of what is returned is the (mean, std), of bytes, that learned weights want, or
    None."""
    if library:
        body = LIBRARIES[library](
            name, image_shape, pretrained=pretrained, fetch=fetch, **(options or {})
        )
    else:
        body = BACKBONES[name](image_shape, **(options or {}))
    body.normalisation = getattr(body, "normalisation", None)
    if name in NECKLESS:
        return body
    body.eval()
    with torch.no_grad():
        features = body(torch.zeros(2, *image_shape)).shape[1]
    body.train()
    neck = [nn.Dropout(dropout)] if dropout else []
    neck.append(nn.Linear(features, embedding_dim, bias=not norm))
    if norm:
        neck.append(nn.BatchNorm1d(embedding_dim))
        neck[-1].weight.requires_grad_(False)
    backbone = nn.Sequential(body, *neck)
    backbone.normalisation = body.normalisation
    return backbone
