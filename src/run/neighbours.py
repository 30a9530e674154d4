"""Nearest neighbours among embeddings, and a picture of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .embedding import Embedded

SHOWN, NEIGHBOURS = 20, 6  # images in the picture, and the nearest of each
AT_ONCE = 1024  # queries


class Nearest(NamedTuple):
    """For queries (Q,), the `rows` (Q, K) of the nearest in a gallery, nearest first, and their
    `cosines` (Q, K); −1 and −1 where the gallery has fewer."""

    rows: Tensor
    cosines: Tensor


@torch.no_grad()
def nearest(
    queries: Tensor, gallery: Tensor, k: int, without: tuple[Tensor, Tensor] | None = None
) -> Nearest:
    """Return the `k` rows of gallery (M, D) with the largest cosine to each of queries (Q, D), all of
    length 1. `without` labels (Q,), (M,) leaves out the rows that have the query's own label."""
    found = []
    for part in torch.arange(len(queries), device=queries.device).split(AT_ONCE):
        cosines = queries[part] @ gallery.T
        if without:
            cosines.masked_fill_(without[0][part].unsqueeze(1) == without[1], -torch.inf)
        top = cosines.topk(min(k, len(gallery)))
        none = top.values.isinf()
        found.append((top.indices.masked_fill(none, -1), top.values.masked_fill(none, -1.0)))
    return Nearest(*map(torch.cat, zip(*found, strict=True)))


def draw_neighbours(
    path: Path,
    images: Embedded,
    rows: Tensor,
    gallery: Embedded,
    neighbours: Tensor,
    labels: Tensor,
    captions: Sequence[str],
    title: str,
) -> None:
    """Draw images `rows` (n,) beside their `neighbours` (n, K) in a gallery, which are framed by whether
    they have the label of `labels` (n,)."""
    from .. import plots

    beside, found = gallery.thumbnails(neighbours.flatten()), gallery.labels[neighbours]
    fig = plots.plot_neighbours(
        images.thumbnails(rows),
        beside.reshape(*neighbours.shape, *beside.shape[1:]),
        (found == labels.unsqueeze(1)).cpu().numpy(),
        list(captions),
        [[gallery.classes[label] for label in row] for row in found.tolist()],
        title,
    )
    plots.save(fig, path)
