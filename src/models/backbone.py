"""A body and its neck."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from ..losses import BadArgument
from ..words import first_line


def build_backbone(
    body: nn.Module,
    image_shape: tuple[int, int, int],
    embedding_dim: Annotated[int, Field(ge=2)],
    *,
    norm: bool = False,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> nn.Module:
    """A module from images (B, *image_shape) to embeddings (B, embedding_dim): the `body`, which makes
    features (B, F) of images, and a neck of dropout and a linear layer. With `norm` the neck ends in
    BatchNorm without a weight, as in ArcFace's reference code: each dimension of the embeddings then
    keeps the same variance, so that none dies.

    A body that says `features_are_embeddings` is returned as it is, whatever `embedding_dim`. The
    `normalisation` of the result is the body's: the (mean, std) of bytes that learned weights expect, or
    None. Raises BadArgument if `norm` or `dropout` is asked of a body without a neck, and ValueError if
    the body does not take such images."""
    check_neck(body, norm=norm, dropout=dropout)
    body.normalisation = getattr(body, "normalisation", None)
    if getattr(body, "features_are_embeddings", False):
        return body
    body.eval()
    try:
        with torch.no_grad():
            features = body(torch.zeros(2, *image_shape)).shape[1]
    except (
        RuntimeError,
        ValueError,
        IndexError,
        AssertionError,
    ) as error:  # of a size it was not made for
        said = first_line(error)
        raise ValueError(f"takes no images {'×'.join(map(str, image_shape))} ({said})") from error
    body.train()
    neck = [nn.Dropout(dropout)] if dropout else []
    neck.append(nn.Linear(features, embedding_dim, bias=not norm))
    if norm:
        neck.append(nn.BatchNorm1d(embedding_dim))
        neck[-1].weight.requires_grad_(False)
    backbone = nn.Sequential(body, *neck)
    backbone.normalisation = body.normalisation
    return backbone


def check_neck(body: Callable | nn.Module, *, norm: bool = False, dropout: float = 0.0) -> None:
    """Raise BadArgument if a neck is asked for and `body`, or the class of a body to be, has none."""
    if getattr(body, "features_are_embeddings", False):
        for option, value in (("norm", norm), ("dropout", dropout)):
            if value:
                name = getattr(body, "__name__", type(body).__name__).lower()
                raise BadArgument(option, value, f"{name} has no neck, leave it out")
