"""Which labels may be wrong? Images that a trained run finds nearer to another class."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import durable
from ..datasets import Split

SHOWN, NEIGHBOURS = 20, 6  # candidates in the picture, and what each is most like
AT_ONCE = 1024


class Outliers(NamedTuple):
    """Rows (K,) of the candidates among N samples, the most suspicious first; and for each of the N the
    cosine with its `own` class, which is the mean direction of the others of that class, and with the
    nearest `other` one, `nearest`. A sample alone in its class has no own and is no candidate."""

    rows: Tensor
    own: Tensor
    other: Tensor
    nearest: Tensor


@torch.no_grad()
def outliers(embeddings: Tensor, labels: Tensor, classes: int) -> Outliers:
    """Of embeddings (N, D), labels (N,) from 0 to `classes` − 1, at least two of which are there."""
    x = F.normalize(embeddings, dim=1)
    sums = torch.zeros(classes, x.shape[1], device=x.device, dtype=x.dtype).index_add_(0, labels, x)
    counts = torch.bincount(labels, minlength=classes)
    own = (F.normalize(sums[labels] - x, dim=1) * x).sum(1)
    own = own.where(counts[labels] > 1, torch.nan)
    centres, empty = F.normalize(sums, dim=1), counts == 0
    parts = []
    for part, label in zip(x.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
        cosines = (part @ centres.T).masked_fill(empty, -torch.inf)
        parts.append(cosines.scatter(1, label.unsqueeze(1), -torch.inf).max(1))
    other = torch.cat([part.values for part in parts])
    nearest = torch.cat([part.indices for part in parts])
    excess = (other - own).nan_to_num(-torch.inf)
    order = excess.argsort(descending=True)
    return Outliers(*(t.cpu() for t in (order[: int((excess > 0).sum())], own, other, nearest)))


def rows_of(images: Split, found: Outliers) -> list[dict[str, object]]:
    """A row for each candidate, as it is shown and written."""
    labels, rows = images.labels.cpu(), []
    for i in found.rows.tolist():
        rows.append(
            {
                "image": str(images.names[i]) if images.names is not None else str(i),
                "label": images.classes[labels[i]],
                "own_cosine": round(found.own[i].item(), 4),
                "nearest_class": images.classes[found.nearest[i]],
                "its_cosine": round(found.other[i].item(), 4),
            }
        )
    return rows


@torch.no_grad()
def write_outliers(
    out: Path, images: Split, embeddings: Tensor, found: Outliers, title: str
) -> list[dict[str, object]]:
    """`outliers.csv`, and `outliers.png` of the first of them with the images that are nearest to each;
    returns the rows."""
    from .. import plots

    rows, text = rows_of(images, found), io.StringIO(newline="")
    columns = ("image", "label", "own_cosine", "nearest_class", "its_cosine")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    durable.write_text(out / "outliers.csv", text.getvalue(), encoding="utf-8")
    some = found.rows[:SHOWN]
    if not len(some):
        return rows
    x, labels = F.normalize(embeddings, dim=1).cpu(), images.labels.cpu()
    cosines = (x[some] @ x.T).scatter(1, some.unsqueeze(1), -torch.inf)
    nearest = cosines.topk(min(NEIGHBOURS, len(x) - 1)).indices
    shown = images.thumbnails(nearest.flatten().numpy())
    fig = plots.plot_neighbours(
        images.thumbnails(some.numpy()),
        shown.reshape(*nearest.shape, *shown.shape[1:]),
        np.asarray(labels[nearest] == labels[some].unsqueeze(1)),
        [f"{row['label']}/or {row['nearest_class']}?" for row in rows[: len(some)]],
        title,
    )
    plots.save(fig, out / "outliers.png")
    return rows
