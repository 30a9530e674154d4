"""Labelled images: first as a reader returns them, then as training and evaluation use them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .files import Files
from .images import BrokenImage

if TYPE_CHECKING:  # templates are read from tables, whose parts are these
    from .templates import Templates


class Pairs(NamedTuple):
    """Pairs of images to verify: rows `first` and `second` (P,) of a split, whether both show the `same`
    class (P,), and the `fold` (P,) of the protocol that the pair belongs to."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray


class Queries(NamedTuple):
    """The queries of a test, and the gallery that they search: the `roles` (N,) of samples, query,
    gallery or both; the `cameras` (N,), if they are known; and rows (P, 2) of a query and a sample that
    is `relevant` to it, if lists say so and not the classes."""

    roles: np.ndarray
    cameras: np.ndarray | None = None
    relevant: np.ndarray | None = None

    def pick(self, rows: np.ndarray) -> "Queries":
        """The same of some rows (indices or a mask); what is relevant as far as both are among these."""
        relevant = self.relevant
        if relevant is not None:
            place = np.full(len(self.roles), -1)
            place[rows] = np.arange(len(self.roles[rows]))
            relevant = place[relevant]
            relevant = relevant[(relevant >= 0).all(1)]
        return Queries(self.roles[rows], picked(self.cameras, rows), relevant)


class Labelled(NamedTuple):
    """One split as a reader returns it: images as bytes (N, channels, height, width) or as files, labels
    (N,) that index `classes`, and, for images from files, their `names` (N,) of str. An open set's test
    may have `queries`. With `templates` of the images, `pairs` are of these."""

    images: np.ndarray | Files
    labels: np.ndarray
    classes: tuple[str, ...]
    names: np.ndarray | None = None
    pairs: Pairs | None = None
    queries: Queries | None = None
    templates: "Templates | None" = None

    def pick(self, rows: np.ndarray, classes: np.ndarray | None = None) -> "Labelled":
        """The samples in `rows` (indices or a mask). With `classes` (indices), only those classes remain
        and labels index them. Pairs and templates, of all samples, are left out."""
        labels, class_names = self.labels[rows], self.classes
        if classes is not None:
            new_label = np.full(len(self.classes), -1)
            new_label[classes] = np.arange(len(classes))
            labels, class_names = new_label[labels], tuple(self.classes[i] for i in classes)
        queries = self.queries and self.queries.pick(rows)
        names = picked(self.names, rows)
        return Labelled(self.images[rows], labels, class_names, names, queries=queries)

    def split_samples(self, fraction: float, seed: int) -> "tuple[Labelled, Labelled]":
        """Two parts with the same classes. The second gets `fraction` of each class's samples, drawn by
        `seed`; each class of two samples or more has at least one in both parts."""
        rng, in_second = np.random.default_rng(seed), np.zeros(len(self.labels), bool)
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            in_second[rng.choice(members, count, replace=False)] = True
        return self.pick(~in_second), self.pick(in_second)

    def split_classes(self, fraction: float, seed: int) -> "tuple[Labelled, Labelled] | None":
        """Two parts without a common class. The second gets `fraction` of the classes, drawn by `seed`,
        and at least two, since a single class has no other to be confused with. None if fewer than two
        would remain for the first."""
        total = len(self.classes)
        count = max(2, round(fraction * total))
        if total - count < 2:
            return None
        order = np.random.default_rng(seed).permutation(total)
        return tuple(
            self.pick(np.isin(self.labels, chosen), np.sort(chosen))
            for chosen in (order[count:], order[:count])
        )


def picked(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """Some of the values, if there are any."""
    return None if values is None else values[rows]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a reader returns. `train` is None where there is nothing to train on, `val` where the data
    come without a validation split. `skipped` names the files and classes that were left out; `notes`
    say, a line each, what the user should know of how the data were read, `drawn` which parts were not
    there. Features, images of float32, are taken as they are, unless they are to be `standardise`d."""

    train: Labelled | None
    val: Labelled | None = None
    test: Labelled
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    standardise: bool = False


def constants(values: list[float], image_shape: tuple[int, int, int]) -> Tensor:
    """One value for each channel of images, or for each of their elements, to be added to or multiplied
    with images (…, channels, height, width)."""
    per_channel = len(values) == image_shape[0]
    return torch.tensor(values).view((-1, 1, 1) if per_channel else tuple(image_shape))


class Dealt(NamedTuple):
    """How a data set was dealt: `fold` of 0 … `folds` − 1 is tested, `over` whole classes or the samples
    of each, drawn by `seed`; `rows` is a hash of the samples tested, sixteen hexadecimal digits."""

    folds: int
    fold: int
    over: str
    seed: int
    rows: str


class Split:
    """Images uint8 (N, channels, height, width), or features float32 of such a shape, on a device, with
    labels int64 (N,) that index `classes`. `mean` and `std` are those of the bytes, one per channel; of
    features 0 and 1, or one for each. In memory channels come last, which is the fastest order for
    convolutions."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: list[float],
        std: list[float],
        classes: tuple[str, ...] = (),
        names: np.ndarray | None = None,
        pairs: Pairs | None = None,
        queries: Queries | None = None,
        templates: "Templates | None" = None,
    ):
        self.images = images
        self.labels, self.classes, self.names, self.pairs = labels, classes, names, pairs
        self.queries, self.templates = queries, templates
        self.normalise_by(mean, std)
        if isinstance(images, Tensor):
            self.images = images.to(memory_format=torch.channels_last)
            self._pixels = self.images.permute(0, 2, 3, 1)  # contiguous, so that a row is one copy

    def __len__(self) -> int:
        return len(self.labels)

    def normalise_by(self, mean: list[float], std: list[float]) -> None:
        """From now on, `normalise` by this mean and standard deviation, see `constants`."""
        self.mean, self.std = mean, std
        shape = tuple(self.images.shape[1:])
        self._mean = constants(mean, shape).to(self.labels.device)
        self._scale = 1 / constants(std, shape).to(self.labels.device)

    def normalise(self, images: Tensor) -> Tensor:
        """Bytes or features (…, channels, height, width) -> float32 of the same shape."""
        return torch.sub(images, self._mean).mul_(self._scale)

    @property
    def pictures(self) -> bool:
        """Whether the images are bytes, which can be looked at, and not features."""
        return self.images.dtype == torch.uint8

    def thumbnails(self, rows: np.ndarray, most: int = 64) -> np.ndarray:
        """Images `rows` (n,) as bytes (n, height, width, channels), at most `most` pixels a side."""
        step = -(-max(self.images.shape[2:]) // most)
        return self._pixels[torch.from_numpy(rows).to(self.labels.device), ::step, ::step].cpu().numpy()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows `index` (B,) as (images (B, channels, height, width) float32, labels (B,))."""
        images = self._pixels.index_select(0, index).permute(0, 3, 1, 2)
        return self.normalise(images), self.labels.index_select(0, index)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A `batch` for every `size` rows of `order`; the last may be smaller."""
        return (self.prepare(*fed) for fed in self.feed(order, size))

    def feed(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
        """What makes a batch, for every `size` rows of `order`, on the device: what `prepare` takes."""
        return ((rows,) for rows in order.split(size))

    def prepare(self, *fed: Tensor) -> tuple[Tensor, Tensor]:
        """A batch of what `feed` gave, by the device alone, so that it can be part of a graph."""
        return self.batch(*fed)


class StreamedSplit(Split):
    """A split whose images stay in their files until a batch needs them. Reading raises ValueError that
    names a file which is no longer an image."""

    images: Files
    pictures = True

    def thumbnails(self, rows: np.ndarray, most: int = 64) -> np.ndarray:
        step = -(-max(self.images.shape[2:]) // most)
        return self.images[rows].decode()[:, :, ::step, ::step].transpose(0, 2, 3, 1)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(self.images[index.cpu().numpy()].decode())
        return self.prepare(*self._to_device(images, index))

    def feed(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        index = order.cpu().split(size)
        loader = DataLoader(
            _DecodedBatches(self.images),
            sampler=index,
            batch_size=None,
            num_workers=min(torch.get_num_threads(), len(index)),  # one for each core the run may use
            pin_memory=self.labels.device.type == "cuda",
            # Its own, so that the run draws the same numbers as with images in memory.
            generator=torch.Generator(),
        )
        for rows, images in zip(index, loader, strict=True):
            if isinstance(images, str):
                raise BrokenImage(images)
            yield self._to_device(images, rows)

    def _to_device(self, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Bytes (B, channels, height, width) and labels (B,); nothing waits for them to arrive."""
        images = images.to(self.labels.device, non_blocking=True)
        return images.to(memory_format=torch.channels_last), self.labels[index.to(self.labels.device)]

    def prepare(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise(images), labels


class _DecodedBatches(torch.utils.data.Dataset):
    """Batches of bytes by their rows. An error is returned as its text, not raised: a DataLoader would
    replace its message by a page of traceback."""

    def __init__(self, files: Files):
        self.files = files

    def __getitem__(self, rows: Tensor) -> Tensor | str:
        try:
            return torch.from_numpy(self.files[rows.numpy()].decode(threads=1))
        except BrokenImage as error:
            return str(error)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Splits that share one normalisation. Settings are chosen on `val`, which is None if there is no
    validation split. `train` is None only where a finished run is evaluated. `skipped` names the files
    and classes that were left out, `notes` what else to know of how the data were read, `duplicates`, a
    line each, which images are there more than once. The same images have the same `fingerprint` in any
    folder. `dealt` says which fold is tested, if it is one."""

    train: Split | None
    val: Split | None
    test: Split
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    fingerprint: str = ""
    dealt: Dealt | None = None

    def normalise_by(self, mean: list[float], std: list[float]) -> None:
        """Normalise every split by this mean and standard deviation, see `constants`."""
        for split in (self.train, self.val, self.test):
            if split is not None:
                split.normalise_by(mean, std)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are trained on."""
        return self.train.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width); of F features (1, 1, F)."""
        return tuple(self.test.images.shape[1:])

    @property
    def pictures(self) -> bool:
        """Whether there are images, and not features."""
        return self.test.pictures
