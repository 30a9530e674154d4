"""Labelled images, as a reader finds them and as training sees them."""

import multiprocessing
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import UserError
from .files import Files


class Pairs(NamedTuple):
    """Rows `first` and `second` (P,) of a split, whether they are of the `same` class (P,), and the
    `fold` (P,) of a protocol that each pair belongs to."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray


class Labelled(NamedTuple):
    """What a reader returns for a split: bytes (N, channels, height, width), or files that hold them,
    labels (N,) into `classes`, and where they came from, if from files."""

    images: np.ndarray | Files
    labels: np.ndarray
    classes: tuple[str, ...]
    names: np.ndarray | None = None  # (N,) of str
    pairs: Pairs | None = None

    def pick(self, rows: np.ndarray, classes: np.ndarray | None = None) -> "Labelled":
        """Samples `rows` (indices or a mask); with `classes` (indices), labels count those alone."""
        labels, names = self.labels[rows], self.classes
        if classes is not None:
            new = np.full(len(self.classes), -1)
            new[classes] = np.arange(len(classes))
            labels, names = new[labels], tuple(self.classes[i] for i in classes)
        kept = None if self.names is None else self.names[rows]
        return Labelled(self.images[rows], labels, names, kept)

    def split_classes(self, fraction: float, seed: int) -> "tuple[Labelled, Labelled] | None":
        """Two parts without a class in common, the second of that share of the classes, drawn by
        `seed`, and of two at least: one alone has nothing to be told from. None where that leaves
        fewer than two."""
        count = len(self.classes)
        held = max(2, round(fraction * count))
        if count - held < 2:
            return None
        drawn = np.random.default_rng(seed).permutation(count)
        return tuple(
            self.pick(np.isin(self.labels, chosen), np.sort(chosen))
            for chosen in (drawn[held:], drawn[:held])
        )


class Source(NamedTuple):
    """What a reader returns. `val` where the data come with one; `skipped` names files left out."""

    train: Labelled | None
    test: Labelled
    val: Labelled | None = None
    skipped: tuple[str, ...] = ()


class Split:
    """Images uint8 (N, channels, height, width) resident on a device, channels last in memory, the
    order in which convolutions are fastest, with labels int64 (N,). `mean` and `std` are of the bytes,
    one a channel."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: list[float],
        std: list[float],
        classes: tuple[str, ...] = (),
        names: np.ndarray | None = None,
        pairs: Pairs | None = None,
    ):
        self.images = images
        self.labels, self.classes, self.names, self.pairs = labels, classes, names, pairs
        self.normalise_by(mean, std)
        if isinstance(images, Tensor):
            self.images = images.to(memory_format=torch.channels_last)
            self._pixels = self.images.permute(0, 2, 3, 1)  # as they lie, so that rows are picked whole

    def __len__(self) -> int:
        return len(self.labels)

    def normalise_by(self, mean: list[float], std: list[float]) -> None:
        """Take bytes of this mean and deviation, one a channel, to 0 and 1."""
        self.mean, self.std = mean, std
        self._mean = torch.tensor(mean, device=self.labels.device).view(-1, 1, 1)
        self._scale = 1 / torch.tensor(std, device=self.labels.device).view(-1, 1, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """Bytes (…, channels, height, width) -> float32."""
        return torch.sub(images, self._mean).mul_(self._scale)

    def thumbnails(self, rows: np.ndarray, most: int = 64) -> np.ndarray:
        """Images `rows` (n,) as bytes (n, height, width, channels), sides thinned to `most`."""
        step = -(-max(self.images.shape[2:]) // most)
        return self._pixels[torch.from_numpy(rows).to(self.labels.device), ::step, ::step].cpu().numpy()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows `index` (B,) as (images (B, channels, height, width) float32, labels (B,))."""
        images = self._pixels.index_select(0, index).permute(0, 3, 1, 2)
        return self.normalise(images), self.labels.index_select(0, index)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`batch` of each `size` rows of `order`, one after the other; the last may be smaller."""
        return map(self.batch, order.split(size))


class StreamedSplit(Split):
    """A split whose images stay in their files until a batch wants them."""

    images: Files

    def thumbnails(self, rows: np.ndarray, most: int = 64) -> np.ndarray:
        step = -(-max(self.images.shape[2:]) // most)
        return self.images[rows].decode()[:, :, ::step, ::step].transpose(0, 2, 3, 1)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self._to_device(self.images[index.cpu().numpy()].decode(), index)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        index = order.cpu().split(size)
        # A sweep's workers are daemons, which may have no children; these end with their parent.
        multiprocessing.current_process().daemon = False
        loader = DataLoader(
            _Decoded(self.images),
            sampler=index,
            batch_size=None,
            num_workers=min(torch.get_num_threads(), len(index)),  # as many as the run may use cores
            pin_memory=self.labels.device.type == "cuda",
            generator=torch.Generator(),  # its own: the run draws what it draws when resident
        )
        for rows, images in zip(index, loader, strict=True):
            if isinstance(images, str):
                raise UserError(images)
            yield self._to_device(images, rows)

    def _to_device(self, images: np.ndarray | Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.as_tensor(images).to(self.labels.device, non_blocking=True)
        images = images.to(memory_format=torch.channels_last)
        return self.normalise(images), self.labels[index.to(self.labels.device)]


class _Decoded(torch.utils.data.Dataset):
    """Batches of bytes by their rows. An error is returned, not raised: a DataLoader would pass on a
    page of traceback in its place."""

    def __init__(self, files: Files):
        self.files = files

    def __getitem__(self, rows: Tensor) -> Tensor | str:
        try:
            return torch.from_numpy(self.files[rows.numpy()].decode(threads=1))
        except UserError as error:
            return str(error)


class Dataset(NamedTuple):
    """Splits with one normalisation. `val` is held out to choose settings by; None where nothing was.
    `train` is None only where a finished run is evaluated. `skipped` names files that were left out;
    `fingerprint` is the same for the same images, whichever folder they are in."""

    train: Split | None
    val: Split | None
    test: Split
    skipped: tuple[str, ...] = ()
    fingerprint: str = ""

    def normalise_by(self, mean: list[float], std: list[float]) -> None:
        for split in (self.train, self.val, self.test):
            if split is not None:
                split.normalise_by(mean, std)

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that are trained on."""
        return self.train.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.test.images.shape[1:])
