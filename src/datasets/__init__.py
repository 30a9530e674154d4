"""Labelled images, resident on the device as the bytes they are.

A reader returns `Arrays`; `load` checks them once and makes them resident.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .digits import digits
from .mnist import fashion_mnist, mnist

# The names that configurations use; conf/dataset/ holds a file for each. A reader takes the root
# folder and returns (train images, train labels, test images, test labels, class names), images
# uint8 (N, channels, height, width).
READERS = {"digits": digits, "mnist": mnist, "fashion_mnist": fashion_mnist}


class Split:
    """Images uint8 (N, channels, height, width), channels last in memory, the order in which
    convolutions are fastest, and labels int64 (N,), on one device."""

    def __init__(self, images: Tensor, labels: Tensor, mean: float, std: float):
        self.images = images.to(memory_format=torch.channels_last)
        self.labels, self.mean, self.std = labels, mean, std
        self._pixels = self.images.permute(0, 2, 3, 1)  # as they lie, so that rows are picked whole

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> "Split":
        return Split(self.images[rows], self.labels[rows], self.mean, self.std)

    def normalise(self, images: Tensor) -> Tensor:
        """Bytes -> float32 of mean 0 and deviation 1 over the training split."""
        return torch.sub(images, self.mean).mul_(1 / self.std)

    def thumbnails(self, rows: np.ndarray, most: int = 64) -> np.ndarray:
        """Images `rows` (n,) as bytes (n, height, width, channels), sides thinned to `most`."""
        step = -(-max(self.images.shape[2:]) // most)
        return self._pixels[torch.from_numpy(rows).to(self.labels.device), ::step, ::step].cpu().numpy()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows `index` (B,) as (images (B, channels, height, width) float32, labels (B,))."""
        images = self._pixels.index_select(0, index).permute(0, 3, 1, 2)
        return self.normalise(images), self.labels.index_select(0, index)


class Dataset(NamedTuple):
    """Splits with one normalisation, and the classes' names by label. `val` is held out of the training
    images, to choose settings by; None where nothing was."""

    train: Split
    val: Split | None
    test: Split
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.train.images.shape[1:])


def check_labels(name: str, split: str, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raise UserError for a label outside the classes; losses do not look, that would slow a step."""
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise UserError(
            f"dataset={name}: {len(wrong)} of {len(labels)} {split} labels are outside its "
            f"{len(classes)} classes (0…{len(classes) - 1}), the first is {int(wrong[0])}"
        )


def held_out(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Which samples (N,) are held out: that share of each class, always the same ones, so that runs of
    all seeds are judged by the same images."""
    rng, out = np.random.default_rng(0), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        out[rng.choice(members, round(fraction * len(members)), replace=False)] = True
    return out


@functools.lru_cache(maxsize=4)  # the runs of a sweep read a data set once
def _read(name: str, root: Path, val_fraction: float):
    train_x, train_y, test_x, test_y, classes = READERS[name](root)
    for split, labels in (("train", train_y), ("test", test_y)):
        check_labels(name, split, labels, classes)
    val = held_out(train_y, val_fraction)
    splits = [(train_x[~val], train_y[~val]), (train_x[val], train_y[val]), (test_x, test_y)]
    counts = np.bincount(splits[0][0].ravel(), minlength=256)  # exact, and far cheaper than np.std
    mean = float(np.average(np.arange(256), weights=counts))
    variance = float(np.average((np.arange(256) - mean) ** 2, weights=counts))
    return splits, classes, mean, variance**0.5 or 1.0


def load(name: str, root: str | Path, device: torch.device, val_fraction: float = 0.0) -> Dataset:
    """The data set `name`, on `device`. Raises UserError if its files or labels are not right."""
    splits, classes, mean, std = _read(name, Path(root), val_fraction)

    def resident(images: np.ndarray, labels: np.ndarray) -> Split:
        labels = torch.from_numpy(labels.astype(np.int64))
        return Split(torch.from_numpy(images).to(device), labels.to(device), mean, std)

    train, val, test = (resident(*split) if len(split[1]) else None for split in splits)
    if train is None or (val_fraction and val is None):
        raise UserError(
            f"dataset.val_fraction={val_fraction}: leaves no image of dataset={name} to "
            + ("train on" if train is None else "validate on, use more, or 0 for no validation split")
        )
    return Dataset(train, val, test, classes)
