"""Images with labels, wherever a reader found them: checked, brought to one shape, and split."""

from typing import NamedTuple

import numpy as np

from .files import Files, common_shape
from .images import Header
from .options import Channels, MinImages, Size
from .parts import source_of
from .splits import Labelled, Source


class Samples(NamedTuple):
    """Images of no certain shape yet, and of each the label as text, the name, and the part that it is
    of, `NOT_SPLIT` or train, val or test."""

    images: Files | np.ndarray
    labels: np.ndarray
    names: np.ndarray | None
    parts: np.ndarray

    def pick(self, rows: np.ndarray) -> "Samples":
        names = None if self.names is None else self.names[rows]
        return Samples(self.images[rows], self.labels[rows], names, self.parts[rows])


def source_of_images(
    samples: Samples,
    where: str,
    *,
    size: Size,
    channels: Channels,
    min_images: MinImages,
    skip_broken: bool,
    skipped: tuple[str, ...] = (),
    **how,
) -> Source:
    """The source that consists of `samples` from images in files, after `source_of` with `how`. Messages
    call the place `where`; `skipped` was left out before. Raises ValueError as `image_folder` does."""
    samples, headers, left_out = usable(samples, where, min_images, skip_broken)
    shape = common_shape(samples.names, headers, size, channels)
    return source_of(labelled(samples, shape), where, skipped=(*skipped, *left_out), **how)


def usable(
    samples: Samples, where: str, min_images: int | None, skip_broken: bool
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
    samples, kept, small = without_small_classes(samples.pick(good), where, min_images)
    return samples, [headers[row] for row in good[kept]], [*left_out, *small]


def without_small_classes(
    samples: Samples, where: str, min_images: int | None
) -> tuple[Samples, np.ndarray, list[str]]:
    """The samples of classes that have at least `min_images`, their rows, and the classes left out.
    Raises ValueError for a class of one without `min_images`, and if none is left."""
    classes, label, counts = np.unique(samples.labels, return_inverse=True, return_counts=True)
    single = np.flatnonzero(counts == 1)
    if len(single) and min_images is None:
        row = int(np.flatnonzero(label == single[0])[0])
        name = samples.names[row] if samples.names is not None else f"row {row + 1}"
        raise ValueError(
            f"{where}: {classes[single[0]]} is a class of one ({name}), which no other resembles: "
            "min_images=2 leaves such classes out, min_images=1 keeps them"
        )
    small = counts < (min_images or 1)
    kept = np.flatnonzero(~small[label])
    if not len(kept):
        raise ValueError(f"{where}: no samples are left in it")
    return samples.pick(kept), kept, classes[small].tolist()


def labelled(samples: Samples, shape: tuple[int, int, int] | None = None) -> dict[str, Labelled]:
    """The parts that there are, by name, each with labels that index its classes; files are to be
    decoded to `shape`."""
    parts = {}
    for part in np.unique(samples.parts):
        own = samples.pick(np.flatnonzero(samples.parts == part))
        images = own.images.shaped(shape) if shape else own.images
        classes, labels = np.unique(own.labels, return_inverse=True)
        parts[str(part)] = Labelled(images, labels, tuple(classes.tolist()), own.names)
    return parts
