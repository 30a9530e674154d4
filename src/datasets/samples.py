"""Images with labels, wherever a reader found them: checked, brought to one shape, and split."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..losses import BadArgument
from .files import Files, common_shape
from .images import Header
from .options import Channels, ClosedOrOpen, MinImages, Seed, Size, TestFraction
from .parts import NOT_SPLIT, check_classes, draw_test, relabelled
from .splits import Labelled, Pairs, Queries, Source, picked
from .trials import Trials, check_agreement, rows_of_trials


class Samples(NamedTuple):
    """Images of no certain shape yet, or features, found in a place that messages call `where`. Of each
    the label as text, the name, and the part that it is of, `NOT_SPLIT` or train, val or test. `empty`
    classes have no image; `notes` and `standardise` are those of a `Source`, `queries` those of a
    `Labelled`, `trials` the pairs that are tested."""

    where: str
    images: Files | np.ndarray
    labels: np.ndarray
    names: np.ndarray | None
    parts: np.ndarray
    empty: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    standardise: bool = False
    queries: Queries | None = None
    trials: Trials | None = None

    def pick(self, rows: np.ndarray) -> "Samples":
        each = ("images", "labels", "names", "parts")
        some = {name: picked(getattr(self, name), rows) for name in each}
        return self._replace(**some, queries=self.queries and self.queries.pick(rows))


def followed_by(make: Callable[..., Source]) -> Callable:
    """Make a reader that returns `Samples` one that returns the Source that `make` makes of them, and
    that takes the options of both."""
    options = {name: p for name, p in inspect.signature(make).parameters.items() if name != "samples"}

    def complete(read: Callable[..., Samples]) -> Callable[..., Source]:
        @functools.wraps(read)
        def reader(root, **given) -> Source:
            later = {name: given.pop(name) for name in options if name in given}
            return make(read(root, **given), **later)

        own = inspect.signature(read)
        every = [*own.parameters.values(), *options.values()]
        reader.__signature__ = own.replace(parameters=every, return_annotation=Source)
        return reader

    return complete


def source_of_images(
    samples: Samples,
    *,
    split: ClosedOrOpen = "open_set",
    test_fraction: TestFraction = 0.2,
    split_seed: Seed = 0,
    size: Size = None,
    channels: Channels = None,
    min_images: MinImages = None,
    skip_broken: bool = False,
) -> Source:
    """The source that consists of samples from images in files, which are brought to `size` and
    `channels`, or to what they share. `skip_broken` leaves out unreadable images and empty classes,
    `min_images` classes of fewer, over all parts; both are named in `skipped`. What is missing is drawn,
    as by `divided_into_parts`.

    Raises ValueError for unreadable images and empty classes without `skip_broken`, for a class of one
    image without `min_images`, for images that differ in size without `size`, and for parts that do not
    fit the `split`."""
    if samples.empty and not skip_broken:
        raise ValueError(
            f"{samples.where}/{samples.empty[0]}: no images in it, where each folder is a class; "
            "skip_broken=true leaves it out"
        )
    kept, headers, left_out = usable(samples, min_images, skip_broken)
    shape = common_shape(kept.names, headers, size, channels)
    skipped = (*samples.empty, *left_out)
    return divided_into_parts(kept, labelled(kept, shape), skipped, split, test_fraction, split_seed)


def source_of_features(
    samples: Samples,
    *,
    split: ClosedOrOpen = "open_set",
    test_fraction: TestFraction = 0.2,
    split_seed: Seed = 0,
    min_images: MinImages = None,
) -> Source:
    """The source that consists of samples in memory, as `source_of_images` makes one."""
    kept, _, small = without_small_classes(samples, min_images)
    return divided_into_parts(kept, labelled(kept), tuple(small), split, test_fraction, split_seed)


def divided_into_parts(
    samples: Samples,
    parts: dict[str, Labelled],
    skipped: tuple[str, ...],
    split: str,
    test_fraction: float,
    split_seed: int,
) -> Source:
    """The source that consists of the `labelled` parts of samples, `NOT_SPLIT`, or some of train, val
    and test.

    Without a test part, `split_seed` draws it: `test_fraction` of each class's samples if `split` is
    `closed_set`, and otherwise that fraction of the classes; 1 leaves nothing to train on. Raises
    ValueError for classes that do not fit the `split`, and for too few."""
    where, drawn = samples.where, ()
    if samples.trials is not None and split != "verification":
        why = "only verification tests these pairs: leave the list out"
        raise BadArgument("trials", str(samples.trials.file), why)
    if NOT_SPLIT in parts:
        parts, given = {"train": parts[NOT_SPLIT]}, ()
    else:
        parts, given = dict(parts), tuple(parts)
    if "test" not in parts:
        if "train" not in parts:
            raise ValueError(f"{where}: no samples to train on and none to test")
        parts["train"], parts["test"] = draw_test(
            where, parts["train"], split, test_fraction, split_seed
        )
        if given:
            what = "each class" if split == "closed_set" else "the classes"
            drawn += (f"{where} has no test part: {test_fraction:.0%} of {what} to train on became one",)
    if given and "val" not in given and parts.get("train") is not None:
        drawn += (f"{where} has no validation part: val_fraction of the training part becomes one",)
    parts = {part: labelled for part, labelled in parts.items() if labelled is not None}
    check_classes(where, split, parts)
    if split == "closed_set" and "train" in parts:
        parts = {part: relabelled(labelled, parts["train"].classes) for part, labelled in parts.items()}
    if samples.trials is not None:
        parts["test"] = tested_by(samples.trials, parts["test"], where)
    return Source(
        train=parts.get("train"),
        val=parts.get("val"),
        test=parts["test"],
        skipped=skipped,
        notes=samples.notes,
        drawn=drawn,
        standardise=samples.standardise,
    )


def tested_by(trials: Trials, test: Labelled, where: str) -> Labelled:
    """The test part with the pairs of a list. Raises ValueError for one that names other samples, or
    says another thing than their labels."""
    if test.names is None:
        raise ValueError(f"{where}: has no names, by which trials name its samples")
    first, second = rows_of_trials(trials, test.names, "test sample")
    check_agreement(trials, (first, second), test.labels, f"the labels in {where}")
    return test._replace(pairs=Pairs(first, second, trials.same, np.full(len(first), -1)))


def usable(
    samples: Samples, min_images: int | None, skip_broken: bool
) -> tuple[Samples, list[Header], list[str]]:
    """The samples from files that are images, of classes that are large enough, the header of each, and
    the names of the files and classes left out. Raises ValueError for a file that is no image without
    `skip_broken`, and as `without_small_classes`."""
    headers, broken = samples.images.examine(whole=skip_broken)
    if broken and not skip_broken:
        row, why = next(iter(broken.items()))
        every = len(broken) == len(headers)
        more = f"{len(broken) - 1} more" + ", all there are" * every
        others = f" (and {more})" if len(broken) > 1 else ""
        hint = "" if every else "; skip_broken=true leaves such files out"
        called = samples.images.called(row)
        raise ValueError(f"{called}: not an image that can be read{others}: {why}{hint}")
    good = np.array([row for row, header in enumerate(headers) if header], int)
    left_out = samples.names[list(broken)].tolist()
    samples, kept, small = without_small_classes(samples.pick(good), min_images)
    return samples, [headers[row] for row in good[kept]], [*left_out, *small]


def without_small_classes(
    samples: Samples, min_images: int | None
) -> tuple[Samples, np.ndarray, list[str]]:
    """The samples of classes that have at least `min_images`, their rows, and the classes left out.
    Raises ValueError for a class of one sample without `min_images`, and if none is left."""
    classes, label, counts = np.unique(samples.labels, return_inverse=True, return_counts=True)
    single = np.flatnonzero(counts == 1)
    if len(single) and min_images is None:
        row = int(np.flatnonzero(label == single[0])[0])
        name = samples.names[row] if samples.names is not None else f"row {row + 1}"
        alone = f"class {classes[single[0]]} has a single sample ({name})"
        raise ValueError(
            f"{samples.where}: {alone}, so nothing can match it: min_images=2 leaves such classes out, "
            "min_images=1 keeps them"
        )
    small = counts < (min_images or 1)
    kept = np.flatnonzero(~small[label])
    if not len(kept):
        raise ValueError(f"{samples.where}: no samples are left in it")
    return samples.pick(kept), kept, classes[small].tolist()


def labelled(samples: Samples, shape: tuple[int, int, int] | None = None) -> dict[str, Labelled]:
    """The parts that there are, by name, each with labels that index its classes; files are to be
    decoded to `shape`."""
    parts = {}
    for part in np.unique(samples.parts):
        own = samples.pick(np.flatnonzero(samples.parts == part))
        images = own.images.shaped(shape) if shape else own.images
        classes, labels = np.unique(own.labels, return_inverse=True)
        found = Labelled(images, labels, tuple(classes.tolist()), own.names)
        if own.queries and (own.queries.roles != "").any():
            found = found._replace(queries=own.queries)
        parts[str(part)] = found
    return parts
