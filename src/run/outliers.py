"""Which labels may be wrong, and which images are there twice? As a trained run finds them."""

from math import isnan
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets import Split, duplicates_among
from ..durable import write_csv
from .embedding import Embedded
from .neighbours import NEIGHBOURS, SHOWN, draw_neighbours, nearest

# Two images are the same if they are this close in the model's eyes and by their pixels: a JPEG saved
# anew, or at another size, differs by about 1% of its contrast once it is brought to SMALL pixels.
SAME_COSINE, SAME_PIXELS, SMALL = 0.99, 0.05, 16
BATCH = 256  # images that are read at a time


class Outliers(NamedTuple):
    """Rows (K,) of the candidates among N samples, the most suspicious first; and for each of the N the
    cosine with its `own` class, which is the mean direction of the others of that class, and with the
    nearest `other` one, `nearest`. A sample alone in its class has no own and is no candidate."""

    rows: Tensor
    own: Tensor
    other: Tensor
    nearest: Tensor


class Suspect(NamedTuple):
    """A row of `outliers.csv`: an image that is nearer to another class than to its own, or that is the
    same as an earlier one."""

    image: str
    split: str
    label: str
    own_cosine: float | None
    nearest_class: str
    its_cosine: float
    duplicate_of: str = ""
    its_split: str = ""
    its_label: str = ""

    @property
    def contradicts(self) -> bool:
        """Whether the same image has another label."""
        return bool(self.duplicate_of) and self.label != self.its_label

    @property
    def across_splits(self) -> bool:
        return bool(self.duplicate_of) and self.split != self.its_split

    def __str__(self) -> str:
        said = []
        if self.own_cosine is not None and self.own_cosine <= self.its_cosine:
            said.append(f"({self.own_cosine:.2f}), or {self.nearest_class} ({self.its_cosine:.2f})?")
        if self.duplicate_of:
            of = named(self.duplicate_of, self.its_split)
            said.append(f"the same image as {of}" + f", {self.its_label}" * self.contradicts)
        return f"{named(self.image, self.split)}: {self.label} {' '.join(said)}"


def named(image: str, split: str) -> str:
    return f"{image} ({split})" if split else image


@torch.no_grad()
def outliers(embeddings: Tensor, labels: Tensor, classes: int) -> Outliers:
    """Of embeddings (N, D), labels (N,) from 0 to `classes` − 1, at least two of which are there."""
    x = F.normalize(embeddings, dim=1)
    sums = torch.zeros(classes, x.shape[1], device=x.device, dtype=x.dtype).index_add_(0, labels, x)
    counts = torch.bincount(labels, minlength=classes)
    own = (F.normalize(sums[labels] - x, dim=1) * x).sum(1)
    own = own.where(counts[labels] > 1, torch.nan)
    present = counts.nonzero().squeeze(1)
    found = nearest(x, F.normalize(sums[present], dim=1), 1, (labels, present))
    other = found.cosines[:, 0]
    excess = (other - own).nan_to_num(-torch.inf)
    order = excess.argsort(descending=True)
    return Outliers(order[: int((excess > 0).sum())], own, other, present[found.rows[:, 0]])


@torch.no_grad()
def duplicates(images: Embedded) -> list[tuple[int, int]]:
    """Pairs of images, the earlier first, that are the same or nearly so, among the nearest of each."""
    rows = torch.arange(len(images), device=images.labels.device)
    found = nearest(images.unit, images.unit, NEIGHBOURS, (rows, rows))
    close = (found.cosines > SAME_COSINE).nonzero()
    pairs = torch.stack([close[:, 0], found.rows[close[:, 0], close[:, 1]]], 1)
    pairs = pairs.sort(1).values.unique(dim=0)
    if not len(pairs):
        return []
    looked_at, place = pairs.unique(return_inverse=True)
    pixels = torch.cat([images.pick(part, small_pixels) for part in looked_at.split(BATCH)])
    contrast = (pixels - pixels.mean(1, keepdim=True)).norm(dim=1)[place].amin(1)
    parts = place.split(BATCH)
    difference = torch.cat([(pixels[part[:, 0]] - pixels[part[:, 1]]).norm(dim=1) for part in parts])
    return [tuple(pair) for pair in pairs[difference <= SAME_PIXELS * contrast].tolist()]


def small_pixels(split: Split, rows: Tensor) -> Tensor:
    """Images `rows` (n,) at SMALL pixels a side, or whole if they are features, as vectors (n, P)."""
    pixels, _ = split.batch(rows)
    height, width = pixels.shape[2:]
    if split.pictures:
        pixels = F.adaptive_avg_pool2d(pixels, (min(height, SMALL), min(width, SMALL)))
    return pixels.flatten(1)


def suspects(images: Embedded, found: Outliers, pairs: list[tuple[int, int]]) -> dict[int, Suspect]:
    """Return suspects by their row: first the same images with different labels, then labels that may be
    wrong, the most suspicious first, then other duplicates, those across splits first."""
    names, splits, own = images.names, images.split_names, found.own.tolist()
    label = [images.classes[each] for each in images.labels.tolist()]
    other, cosines = found.nearest.tolist(), found.other.tolist()
    kinds = duplicates_among(pairs, label, splits)
    earlier = kinds.within | kinds.across | kinds.contradicting  # of several, the one that tells most

    def suspect(row: int) -> Suspect:
        cosine = None if isnan(own[row]) else round(own[row], 4)
        nearest_class = images.classes[other[row]], round(cosines[row], 4)
        same = [of[earlier[row]] for of in (names, splits, label)] if row in earlier else ()
        return Suspect(names[row], splits[row], label[row], cosine, *nearest_class, *same)

    wrong = dict.fromkeys(found.rows.tolist())
    rest = sorted(earlier.keys() - wrong, key=lambda row: (splits[row] == splits[earlier[row]], row))
    listed = {row: suspect(row) for row in [*wrong, *rest]}
    return dict(sorted(listed.items(), key=lambda item: not item[1].contradicts))


def write_outliers(out: Path, images: Embedded, listed: dict[int, Suspect]) -> None:
    """Write `outliers.csv`, and `outliers.png` of the first images and what is nearest to each."""
    write_csv(out / "outliers.csv", [Suspect._fields, *listed.values()])
    some = torch.tensor(list(listed)[:SHOWN], device=images.labels.device)
    if not len(some) or not images.pictures:
        return
    rows, x = torch.arange(len(images), device=some.device), images.unit
    others = nearest(x[some], x, min(NEIGHBOURS, len(x) - 1), (some, rows)).rows
    captions = [
        f"{each.label}/{f'again {each.its_label}' if each.duplicate_of else f'or {each.nearest_class}?'}"
        for each in list(listed.values())[:SHOWN]
    ]
    title = "labels that may be wrong (blue: has the same label)"
    labels = images.labels[some]
    draw_neighbours(out / "outliers.png", images, some, images, others, labels, captions, title)
