"""Labelled images, resident on the device as the bytes they are where they fit, else read as needed.

A reader returns a `Source`; `load` checks it once, holds out a validation split, and makes `Split`s of
it.
"""

import functools
import hashlib
import inspect
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from .augmentation import AUGMENTATIONS, Augmentation
from .cifar import cifar10, cifar100
from .digits import digits
from .files import Files
from .folder import image_folder
from .mnist import fashion_mnist, kmnist, mnist
from .omniglot import omniglot
from .pairs import pairs
from .splits import Dataset, Labelled, Pairs, Source, Split, StreamedSplit
from .synthetic import synthetic, von_mises_fisher

# The names that configurations use; conf/dataset/ holds a file for each, with the reader's options. A
# reader takes the root folder and options, and returns a Source.
READERS = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "kmnist": kmnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "omniglot": omniglot,
    "image_folder": image_folder,
    "pairs": pairs,
    "synthetic": synthetic,
}
FOLDERS = ("image_folder", "pairs")  # which data these are, their root alone says
STATISTICS_BYTES = 2**26  # of training images, evenly picked, that mean and deviation are taken over
GIB = 2**30

__all__ = [
    "AUGMENTATIONS",
    "FOLDERS",
    "READERS",
    "Augmentation",
    "Dataset",
    "Files",
    "Labelled",
    "Pairs",
    "Source",
    "Split",
    "StreamedSplit",
    "check_labels",
    "held_out",
    "load",
    "reader_options",
    "von_mises_fisher",
]


def reader_options(name: str) -> set[str]:
    """The options that a reader takes besides the root."""
    return set(inspect.signature(READERS[name]).parameters) - {"root"}


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


def with_validation(name: str, source: Source, fraction: float) -> Source:
    """A share of the training images held out for validation: of each class, where the test classes are
    those that are trained on, and else whole classes, so that validation asks what the test asks."""
    train = source.train
    if source.val or train is None or not fraction:
        return source
    if set(train.classes) >= set(source.test.classes):
        out = held_out(train.labels, fraction)
        train, val = train.pick(~out), train.pick(out)
    else:
        parts = train.split_classes(fraction, seed=0)
        if parts is None:
            raise UserError(
                f"dataset.val_fraction={fraction}: dataset={name} has {len(train.classes)} classes to "
                "train on, too few to hold some out: use 0 for no validation split"
            )
        train, val = parts
    for part, use in (
        (train, "train on, use less"),
        (val, "validate on, use more, or 0 for no validation split"),
    ):
        if not len(part.labels):
            raise UserError(
                f"dataset.val_fraction={fraction}: leaves no image of dataset={name} to {use}"
            )
    return source._replace(train=train, val=val)


def statistics(images: np.ndarray | Files) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's bytes."""
    count = min(len(images), max(1, STATISTICS_BYTES // int(np.prod(images.shape[1:]))))
    pixels = images[np.linspace(0, len(images) - 1, count).astype(int)]
    pixels = pixels.decode() if isinstance(pixels, Files) else pixels
    means, deviations = [], []
    for channel in range(pixels.shape[1]):
        # Exact, and far cheaper than np.std.
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256)
        mean = float(np.average(np.arange(256), weights=counts))
        means.append(mean)
        deviations.append(float(np.average((np.arange(256) - mean) ** 2, weights=counts)) ** 0.5 or 1.0)
    return means, deviations


@functools.lru_cache(maxsize=2)  # the runs of a sweep read a data set once
def _read(name: str, root: Path, val_fraction: float, memory: float, options: tuple):
    source = READERS[name](root, **dict(options))
    for split in ("train", "test"):
        part = getattr(source, split)
        if part is not None:
            check_labels(name, split, part.labels, part.classes)
    if not len(source.test.labels):
        raise UserError(f"dataset={name}: leaves no image to test on: use more, or larger classes")
    source = with_validation(name, source, val_fraction)
    parts = {
        split: getattr(source, split) for split in ("train", "val", "test") if getattr(source, split)
    }
    files = [part.images for part in parts.values() if isinstance(part.images, Files)]
    if sum(held.nbytes for held in files) <= memory * GIB:
        parts = {
            split: part._replace(images=part.images.decode()) if isinstance(part.images, Files) else part
            for split, part in parts.items()
        }
    mean, std = statistics(parts.get("train", parts["test"]).images)
    return parts, source.skipped, mean, std, fingerprint(parts, mean, std)


def fingerprint(parts: dict[str, Labelled], mean: list[float], std: list[float]) -> str:
    """A hash of names, labels, shapes and statistics."""
    told = hashlib.sha256(repr((mean, std)).encode())
    for split, part in parts.items():
        names = None if part.names is None else part.names.tolist()
        told.update(repr((split, part.classes, names, tuple(part.images.shape[1:]))).encode())
        told.update(part.labels.astype(np.int64).tobytes())
    return told.hexdigest()[:16]


def load(
    name: str,
    root: str | Path,
    device: torch.device,
    val_fraction: float = 0.0,
    memory: float = 4.0,
    **options,
) -> Dataset:
    """The data set `name`, with its reader's `options`. Images in files are held on `device` if they are
    no more than `memory` GiB, else read batch by batch. Raises UserError if files or labels are not
    right."""
    key = tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in sorted(options.items()))
    where = Path(root).expanduser()
    parts, skipped, mean, std, told = _read(name, where, val_fraction, memory, key)

    def split(part: Labelled) -> Split:
        labels = torch.from_numpy(part.labels.astype(np.int64)).to(device)
        described = (mean, std, part.classes, part.names, part.pairs)
        if isinstance(part.images, Files):
            return StreamedSplit(part.images, labels, *described)
        return Split(torch.from_numpy(part.images).to(device), labels, *described)

    splits = (split(parts[s]) if s in parts else None for s in ("train", "val", "test"))
    return Dataset(*splits, skipped, told)
