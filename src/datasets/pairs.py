"""Verification sets: pairs of images, of the same person or of two."""

import math
import os
from pathlib import Path

import numpy as np

from ..losses import BadArgument
from .files import common_shape, examine, in_parallel
from .folder import ClassFiles, class_of, collect, label
from .images import Header, to_bytes
from .options import Channels, File, MinImages, Size
from .pair_files import MOST_PIXELS, image_shape, read_bin, read_lfw
from .splits import Labelled, Source

USUAL_BYTES = 2**30  # that the images of a .bin may always take
MOST_EXPANSION = 500  # and beyond that, of their size in the file


def pairs(
    root: Path,
    *,
    pairs: File = "pairs.txt",
    train: str | None = None,
    size: Size = None,
    channels: Channels = None,
    min_images: MinImages = 1,
    skip_broken: bool = False,
) -> Source:
    """Tests on the pairs in the file `root`/`pairs`. Either it has LFW's format, and the images are in
    the folders of `root`, or it is a `.bin` file, which holds the images too.

    Trains on the classes in `root`/`train`. Without `train`, LFW's format trains on the classes in
    `root` that no pair names, and a `.bin` file on nothing. Training images are left out, resized and
    refused as by `image_folder`. Raises ValueError that names a wrong file, and the line in it."""
    file = root / pairs
    if os.path.isfile(root):
        why = f"a file; expected its folder, {root.parent}, with pairs={root.name}"
        raise BadArgument("root", root, why)
    if not os.path.isfile(file):
        raise BadArgument("pairs", pairs, f"not in {root}; expected an LFW pairs file or a .bin")
    folder, files = root / (train or ""), ClassFiles([], [], [])
    if file.suffix == ".bin":
        contents, listed_pairs = read_bin(file)
        if train is None:
            shape = image_shape(contents[0], file, size, channels)
        else:
            files = collect(folder, min_images, skip_broken)
            shape = common_shape(files.paths, files.headers, size, channels)
        images = decode_bin(contents, shape, file)
        test = Labelled(images, np.zeros(len(images), int), ("unknown",), pairs=listed_pairs)
    else:
        paths, listed_pairs = read_lfw(file, root)
        headers = examine_all(paths, file)
        tested = {class_of(path, root) for path in paths}
        files = collect(folder, min_images, skip_broken)
        if train is not None:
            refuse_tested(files, folder, tested, train, file)
        files = without_classes(files, folder, tested)
        shape = common_shape(files.paths + paths, files.headers + headers, size, channels)
        test = label(root, paths, root, shape)._replace(pairs=listed_pairs)
    return Source(
        train=label(folder, files.paths, root, shape) if files.paths else None,
        test=test,
        skipped=tuple(os.path.relpath(path, root) for path in files.skipped),
    )


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


def examine_all(paths: list[Path], file: Path) -> list[Header]:
    """The headers of the images that `file` names. A broken one raises ValueError even with skip_broken:
    without one of its pairs, a protocol is another protocol."""
    headers, broken = examine(paths, whole=False)
    if broken:
        path, why = next(iter(broken.items()))
        raise ValueError(f"{path}: named in {file}, not an image that can be read: {why}")
    return headers


def refuse_tested(files: ClassFiles, folder: Path, tested: set[str], train: str, file: Path) -> None:
    """Raise BadArgument if a class to train on is one of the `tested`."""
    for path in files.paths:
        name = class_of(path, folder)
        if name in tested:
            why = f"{name} is in it and in {file}; pairs test classes that were not trained on"
            raise BadArgument("train", train, why)


def without_classes(files: ClassFiles, folder: Path, excluded: set[str]) -> ClassFiles:
    """The class files of `folder` that are not of the `excluded` classes."""
    remaining = [
        (path, header)
        for path, header in zip(files.paths, files.headers, strict=True)
        if class_of(path, folder) not in excluded
    ]
    return ClassFiles(
        [path for path, _ in remaining], [header for _, header in remaining], files.skipped
    )
