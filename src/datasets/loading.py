"""From a reader to a `Dataset`: labels checked, a validation split set apart, images in memory if they
fit."""

import functools
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from ..losses import BadArgument
from . import sharing
from .duplicates import WhatToDo, look_for_duplicates, pixel_hashes
from .files import Files
from .folds import check_fold, deal
from .images import BrokenImage
from .splits import Dataset, Dealt, Labelled, Source, Split, StreamedSplit

SAMPLE_BYTES = 2**26  # of images, evenly spaced, give mean and standard deviation, and the fingerprint
GIB = 2**30
SPLITS = ("train", "val", "test")


def load(
    reader: Callable[..., Source],
    root: str | Path,
    device: torch.device,
    *,
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    memory: Annotated[float, Field(ge=0)] = 4.0,
    duplicates: WhatToDo = "warn",
    folds: Annotated[int, Field(ge=2)] | None = None,
    fold: Annotated[int, Field(ge=0)] | None = None,
    **options,
) -> Dataset:
    """The data set that `reader(root, **options)` reads, on `device`.

    `val_fraction` of the training images become the validation split, unless the data come with one.
    With `folds`, all samples are dealt anew and `fold` is tested, see `deal`; the reader's `split_seed`
    draws them, or 0. Images in files are read into memory if they take at most `memory` GiB, and
    otherwise batch by batch. `duplicates` are named, dropped, or refused, see
    `look_for_duplicates`. The last two data sets are kept, so that the runs of a sweep read theirs
    once. Raises BadArgument if an option cannot be met, and ValueError if a file or a label is wrong."""
    hashable = _Options({k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
    dealt_as = (folds, fold)
    where = Path(root).expanduser()
    loaded = _load(reader, where, val_fraction, memory, duplicates, dealt_as, hashable)

    def on_device(part: Labelled) -> Split:
        labels = torch.from_numpy(part.labels.astype(np.int64)).to(device)
        details = (loaded.mean, loaded.std, part.classes, *part[3:])
        if isinstance(part.images, Files):
            return StreamedSplit(part.images, labels, *details)
        return Split(torch.from_numpy(part.images).to(device), labels, *details)

    splits = {split: on_device(part) for split, part in loaded.parts.items()}
    return Dataset(
        train=splits.get("train"),
        val=splits.get("val"),
        test=splits["test"],
        skipped=loaded.skipped,
        notes=loaded.notes,
        duplicates=loaded.duplicates,
        fingerprint=loaded.fingerprint,
        dealt=loaded.dealt,
    )


class _Options(dict):
    """Options that a cache can look up, whatever their values are."""

    def __hash__(self) -> int:
        return hash(repr(sorted(self.items())))


@dataclass(frozen=True)
class _Loaded:
    parts: dict[str, Labelled]  # those of SPLITS that there are, in that order
    mean: list[float]
    std: list[float]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    duplicates: tuple[str, ...]
    fingerprint: str
    dealt: Dealt | None


@functools.lru_cache(maxsize=2)
def _load(*what) -> _Loaded:
    """Read and divide a data set, or take it from the folder in which another process has put it."""
    return sharing.get(_read_and_divide, *what)


def _read_and_divide(
    reader: Callable[..., Source],
    root: Path,
    val_fraction: float,
    memory: float,
    duplicates: WhatToDo,
    dealt_as: tuple[int | None, int | None],
    options: _Options,
) -> _Loaded:
    # Folds share their images, so that these are not read anew for each.
    reading = _read_once if dealt_as[0] else checked
    source, dealt = divided(reading(reader, root, options), val_fraction, dealt_as, options)
    files = parts_of(source)
    parts, hashes = decoded_and_hashed(files, memory, hint_of(reader))
    hashed = fingerprint(files, parts)
    parts, said, dropped = look_for_duplicates(parts, hashes, duplicates)
    notes = (*source.notes, *source.drawn)
    if dropped:
        check_source(replace(source, **parts))
        notes, said = (*notes, *(f"left out: {line}" for line in said)), ()
    mean, std = statistics(parts.get("train", parts["test"]).images, source.standardise)
    return _Loaded(parts, mean, std, (*source.skipped, *dropped), notes, said, hashed, dealt)


def fingerprint_of(
    reader: Callable[..., Source],
    root: str | Path,
    *,
    val_fraction: float = 0.0,
    folds: int | None = None,
    fold: int | None = None,
    **options,
) -> str:
    """The `fingerprint` of the data set that `load` would give, of the images as they are now; keeps
    none of them. Raises ValueError as `load` does."""
    source = checked(reader, Path(root).expanduser(), options)
    parts = parts_of(divided(source, val_fraction, (folds, fold), options)[0])
    return fingerprint(parts, parts)


def checked(reader: Callable[..., Source], root: Path, options: dict) -> Source:
    """What the reader returns, its labels checked."""
    source = reader(root, **options)
    check_source(source)
    return source


_read_once = functools.lru_cache(maxsize=1)(checked)


def divided(
    source: Source,
    val_fraction: float,
    dealt_as: tuple[int | None, int | None],
    options: dict,
) -> tuple[Source, Dealt | None]:
    """Return the source with a validation split. With `dealt_as`, (folds, fold), its samples are first
    dealt into folds, and `fold` is tested."""
    folds, fold = dealt_as
    check_fold(folds, fold)
    dealt = None
    if folds:
        source, dealt = deal(source, folds, fold, options.get("split_seed", 0))
    return with_validation(source, val_fraction), dealt


def parts_of(source: Source) -> dict[str, Labelled]:
    """The splits that there are, by name."""
    parts = {split: getattr(source, split) for split in SPLITS}
    return {split: part for split, part in parts.items() if part is not None}


def check_source(source: Source) -> None:
    """Raise ValueError for labels, images or classes that cannot be trained on or tested."""
    for split, part in parts_of(source).items():
        check_labels(split, part.labels, part.classes)
        count, shape = len(part.images), part.images.shape[1:]
        kind = None if isinstance(part.images, Files) else part.images.dtype
        if kind not in (None, np.uint8, np.float32):
            raise ValueError(f"{split} images are {kind}, expected uint8 or float32")
        if count != len(part.labels):
            raise ValueError(f"{count} {split} images, but {len(part.labels)} labels")
        if shape != source.test.images.shape[1:]:
            shapes = ["×".join(map(str, sides)) for sides in (shape, source.test.images.shape[1:])]
            raise ValueError(f"{split} images are {shapes[0]}, test images {shapes[1]}")
    if source.train is not None and len(source.train.classes) < 2:
        only = ", ".join(source.train.classes)
        raise ValueError(f"one class to train on ({only}), expected at least two")
    if not len(source.test.labels):
        raise ValueError("no images to test on: use more, or larger classes")


def check_labels(split: str, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raise ValueError for a label that no class has. Losses do not check: that would slow each step."""
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} of {len(labels)} {split} labels are outside the {len(classes)} classes "
            f"(0…{len(classes) - 1}), the first is {int(wrong[0])}"
        )


def with_validation(source: Source, fraction: float) -> Source:
    """Set `fraction` of the training images apart for validation, so that validation asks what the test
    asks: a share of each class, at least one image of two or more, if the test classes are trained on,
    and otherwise whole classes. Every run gets the same images, whatever its seed. Raises BadArgument if
    a part would be empty."""
    whole = source.train
    if source.val is not None or whole is None or not fraction:
        return source
    if set(whole.classes) >= set(source.test.classes):
        parts = whole.split_samples(fraction, seed=0)
    else:
        parts = whole.split_classes(fraction, seed=0)
    if parts is None:
        why = "classes to train on are too few to hold some out: use 0 for no validation split"
        raise BadArgument("val_fraction", fraction, f"{len(whole.classes)} {why}")
    train, val = parts
    if not len(val.labels):
        why = "no class has two images to train on: use 0 for no validation split"
        raise BadArgument("val_fraction", fraction, why)
    return replace(source, train=train, val=val)


def decoded_and_hashed(
    parts: dict[str, Labelled], gib: float, hint: str = ""
) -> tuple[dict[str, Labelled], dict[str, np.ndarray]]:
    """Return the splits, with their files decoded if all together take at most `gib` GiB, and the
    `pixel_hashes` of each. Hashing reads every image, so a broken one is found before training. Raises
    ValueError that names it and ends in `hint`."""
    in_files = {split: part for split, part in parts.items() if isinstance(part.images, Files)}
    fits = sum(part.images.nbytes for part in in_files.values()) <= gib * GIB
    try:
        if fits:
            decoded = {split: part.images.decode() for split, part in in_files.items()}
            parts = parts | {split: parts[split]._replace(images=decoded[split]) for split in decoded}
        return parts, {split: pixel_hashes(part.images) for split, part in parts.items()}
    except BrokenImage as error:
        raise ValueError(f"{error}{hint}") from None


def hint_of(reader: Callable) -> str:
    """What to do about a broken image, if the reader can leave it out."""
    can_skip = "skip_broken" in inspect.signature(reader).parameters
    return "; skip_broken=true leaves such files out" if can_skip else ""


def sample(images: np.ndarray | Files) -> np.ndarray:
    """Images (n, channels, height, width) as bytes, evenly spaced: all, or as many as SAMPLE_BYTES."""
    count = min(len(images), max(1, SAMPLE_BYTES // int(np.prod(images.shape[1:]))))
    pixels = images[np.linspace(0, len(images) - 1, count).astype(int)]
    return pixels.decode() if isinstance(pixels, Files) else pixels


def statistics(images: np.ndarray | Files, standardise: bool = False) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's bytes; of features 0 and 1, or those of each if they
    are to be standardised."""
    if not isinstance(images, Files) and images.dtype == np.float32:
        if not standardise:
            return [0.0] * images.shape[1], [1.0] * images.shape[1]
        values = images.reshape(len(images), -1)
        deviations = values.std(0, dtype=np.float64)
        deviations[deviations == 0] = 1
        return values.mean(0, dtype=np.float64).tolist(), deviations.tolist()
    pixels = sample(images)
    means, deviations = [], []
    for channel in range(pixels.shape[1]):
        # Exact, and far cheaper than np.std.
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256)
        mean = float(np.average(np.arange(256), weights=counts))
        means.append(mean)
        deviations.append(float(np.average((np.arange(256) - mean) ** 2, weights=counts)) ** 0.5 or 1.0)
    return means, deviations


def fingerprint(files: dict[str, Labelled], parts: dict[str, Labelled]) -> str:
    """A hash of names, labels, pairs, roles, shapes, sizes of files and a `sample` of pixels, sixteen
    hexadecimal digits. `files` are the parts as they were read, `parts` the same, perhaps in memory."""
    digest = hashlib.sha256()
    for split, part in files.items():
        names = None if part.names is None else part.names.tolist()
        digest.update(repr((split, part.classes, names, tuple(part.images.shape[1:]))).encode())
        digest.update(part.labels.astype(np.int64).tobytes())
        for paired in part.pairs or ():
            digest.update(np.ascontiguousarray(paired))
        for values in part.queries or ():
            if values is not None:
                digest.update(repr(values.tolist()).encode())
        if part.templates is not None:
            for values in (part.templates.rows, part.templates.template, part.templates.media):
                digest.update(values.astype(np.int64).tobytes())
            digest.update(part.templates.weight.astype(np.float64).tobytes())
            digest.update(bytes([part.templates.lengths]))
        if isinstance(part.images, Files):
            digest.update(repr(part.images.sizes()).encode())
        digest.update(np.ascontiguousarray(sample(parts[split].images)))
    return digest.hexdigest()[:16]
