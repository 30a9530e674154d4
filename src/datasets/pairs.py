"""Verification sets: pairs of images, of the same person or of two."""

import math
import os
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ..losses import BadArgument
from .files import common_shape, in_parallel
from .folder import class_of, in_class_folders, samples_of
from .images import Header, to_bytes
from .options import Channels, File, MinImages, Size
from .pair_files import MOST_PIXELS, image_shape, read_bin, read_lfw
from .parts import NOT_SPLIT
from .samples import Samples, labelled, usable
from .splits import Labelled, Pairs, Source

USUAL_BYTES = 2**30  # that the images of a .bin may always take
MOST_EXPANSION = 500  # and beyond that, of their size in the file


def pairs(
    root: Path,
    *,
    pairs: File = "pairs.txt",
    count: Annotated[int, Field(ge=1)] | None = None,
    train: str | None = None,
    size: Size = None,
    channels: Channels = None,
    min_images: MinImages = 1,
    skip_broken: bool = False,
) -> Source:
    """Tests on the pairs in the file `root`/`pairs`. Either it has LFW's format, and the images are in
    the folders of `root`, or it is a `.bin` file, which holds the images too. It is refused if it has
    another `count` of pairs.

    Trains on the classes in `root`/`train`. Without `train`, LFW's format trains on the classes in
    `root` that no pair names, and a `.bin` file on nothing. Training images are left out, resized and
    refused as by `image_folder`. Raises ValueError that names a wrong file, and the line in it."""
    file = root / pairs
    if os.path.isfile(root):
        why = f"a file; expected its folder, {root.parent}, with pairs={root.name}"
        raise BadArgument("root", root, why)
    if not os.path.isfile(file):
        raise BadArgument("pairs", pairs, f"not in {root}; expected an LFW pairs file or a .bin")
    if file.suffix == ".bin":
        contents, listed_pairs = read_bin(file)
        check_count(file, listed_pairs, count)
        shape, trained, skipped = image_shape(contents[0], file, size, channels), None, []
        if train is not None:
            trained, headers, skipped = training_samples(root, train, min_images, skip_broken)
            shape = common_shape(trained.names, headers, size, channels)
        images = decode_bin(contents, shape, file)
        test = Labelled(images, np.zeros(len(images), int), ("unknown",), pairs=listed_pairs)
    else:
        paths, listed_pairs = read_lfw(file, root)
        check_count(file, listed_pairs, count)
        tested = samples_of(root, paths, [class_of(path, root) for path in paths])
        tested_headers = headers_of(tested, file)
        trained, headers, skipped = training_samples(root, train or "", min_images, skip_broken)
        in_pairs = np.isin(trained.labels, tested.labels)
        if train is not None and in_pairs.any():
            name = trained.labels[in_pairs][0]
            why = f"{name} is in it and in {file}; pairs test classes that were not trained on"
            raise BadArgument("train", train, why)
        rows = np.flatnonzero(~in_pairs)
        trained, headers = trained.pick(rows), [headers[row] for row in rows]
        names = [*trained.names, *tested.names]
        shape = common_shape(names, headers + tested_headers, size, channels)
        test = labelled(tested, shape)[NOT_SPLIT]._replace(pairs=listed_pairs)
    train = labelled(trained, shape).get(NOT_SPLIT) if trained else None
    return Source(train=train, test=test, skipped=tuple(skipped))


def check_count(file: Path, listed: Pairs, count: int | None) -> None:
    if count is not None and len(listed.same) != count:
        raise BadArgument("count", count, f"{file} has {len(listed.same):,} pairs")


def training_samples(
    root: Path, train: str, min_images: int | None, skip_broken: bool
) -> tuple[Samples, list[Header], list[str]]:
    """What `usable` leaves of the images in the class folders of `root`/`train`."""
    samples = in_class_folders(root, {NOT_SPLIT: root / train})
    return usable(samples, min_images, skip_broken)


def decode_bin(contents: list[bytes], shape: tuple[int, int, int], file: Path) -> np.ndarray:
    """The images of a .bin as bytes (N, channels, height, width). Raises ValueError, before it decodes,
    if that would take far more memory than such a file ever does: one image may be listed a million
    times."""
    held = sum({id(content): len(content) for content in contents}.values())
    needed = len(contents) * math.prod(shape)
    if needed > max(USUAL_BYTES, MOST_EXPANSION * held):
        raise ValueError(f"{file}: {held:,} bytes of images that would take {needed:,} in memory")
    images = np.empty((len(contents), *shape), np.uint8)

    def decode_one(row: int) -> None:
        images[row] = to_bytes(contents[row], shape, file, MOST_PIXELS)

    in_parallel(decode_one, range(len(contents)))
    return images


def headers_of(tested: Samples, file: Path) -> list[Header]:
    """The headers of the images that `file` names. A broken one raises ValueError even with skip_broken:
    without one of its pairs, a protocol is another protocol."""
    headers, broken = tested.images.examine(whole=False)
    if broken:
        row, why = next(iter(broken.items()))
        called = tested.images.called(row)
        raise ValueError(f"{called}: named in {file}, not an image that can be read: {why}")
    return headers
