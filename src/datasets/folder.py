"""The user's own images: one folder per class."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..losses import BadArgument
from .files import Files, common_shape, composed, examine, find_images, subfolders
from .images import Header
from .metadata import find_metadata, read_metadata
from .options import Channels, ClosedOrOpen, MinImages, Seed, Size, TestFraction
from .parts import NOT_SPLIT, PART_NAMES, source_of
from .samples import source_of_images
from .splits import Labelled, Source


def image_folder(
    root: Path,
    *,
    split: ClosedOrOpen = "open_set",
    test_fraction: TestFraction = 0.2,
    split_seed: Seed = 0,
    size: Size = None,
    channels: Channels = None,
    min_images: MinImages = None,
    skip_broken: bool = False,
) -> Source:
    """Images `root`/<class>/…/<image>, or the same in `root`/train, `root`/val and `root`/test, which
    may also be called training, valid, validation, testing, and of which train is enough. A
    metadata.csv or metadata.jsonl with columns file_name and label, in `root` or in each of these
    folders, says the labels instead, as Hugging Face's image folders have it.

    What is missing is drawn by `split_seed`: `test_fraction` of each class's images if `split` is
    `closed_set`, and otherwise that fraction of the classes; 1 leaves nothing to train on. Classes of
    fewer than `min_images` are left out and named in `skipped`, as are unreadable images and empty
    classes with `skip_broken`.

    Raises ValueError for unreadable images and empty classes without `skip_broken`, for a class of one
    image without `min_images`, for images that differ in size without `size`, and for folders that do
    not fit the `split`."""
    how = {"split": split, "test_fraction": test_fraction, "split_seed": split_seed}
    folders, where = part_folders(root), str(root)
    tables, ignored = find_metadata(root, folders)
    if tables:
        listed, notes = read_metadata(root, tables)
        own = {"size": size, "channels": channels, "min_images": min_images, "skip_broken": skip_broken}
        return source_of_images(listed, where, **own, **how, notes=notes)
    if NOT_SPLIT in folders and not subfolders(root):
        raise BadArgument("root", root, "no folders in it; expected one folder per class")
    class_files = {part: collect(folder, min_images, skip_broken) for part, folder in folders.items()}
    shape = common_shape(
        [path for part in class_files.values() for path in part.paths],
        [header for part in class_files.values() for header in part.headers],
        size,
        channels,
    )
    parts = {part: label(folders[part], files.paths, root, shape) for part, files in class_files.items()}
    return source_of(
        parts,
        where,
        **how,
        skipped=tuple(
            os.path.relpath(path, root) for files in class_files.values() for path in files.skipped
        ),
        notes=ignored,
    )


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of train and perhaps val and test, by these names; `root` as the only part if it holds
    class folders. Raises ValueError if it could be either."""
    if not os.path.isdir(root):
        raise BadArgument("root", root, "no such folder; name the one that your class folders are in")
    folders = subfolders(root)
    parts = [
        (PART_NAMES[path.name.lower()], path) for path in folders if path.name.lower() in PART_NAMES
    ]
    found = dict(parts)
    others = [path.name for path in folders if path not in found.values()]
    if "train" not in found or (len(parts) == 1 and others):  # a class may be called train
        if parts and not others:
            names = "/, ".join(path.name for path in folders)
            raise BadArgument(
                "root",
                root,
                f"has {names}/, which look like splits; expected train/ (optionally val/, test/), or "
                "one folder per class",
            )
        return {NOT_SPLIT: root}
    if others:
        names = " and ".join(f"{path.name}/" for path in found.values())
        raise BadArgument("root", root, f"has {names}, and beside them {others[0]}/: which is it?")
    return {part: found[part] for part in ("train", "val", "test") if part in found}


class ClassFiles(NamedTuple):
    """Image files by class and name, the header of each, and the files and class folders left out."""

    paths: list[Path]
    headers: list[Header]
    skipped: list[Path]


def collect(folder: Path, min_images: int | None, skip_broken: bool) -> ClassFiles:
    """The readable images of the class folders in `folder`. Raises ValueError that names what is wrong,
    as `image_folder` does."""
    class_folders = {composed(path.name): path for path in subfolders(folder)}
    if not class_folders:
        raise ValueError(f"{folder}: no folders in it; expected one folder per class")
    images: dict[str, list[Path]] = {name: [] for name in class_folders}
    for path in find_images(folder):
        if path.parent == folder:
            raise ValueError(
                f"{path}: an image beside the class folders: put it into one, or move it elsewhere"
            )
        images[class_of(path, folder)].append(path)
    result = ClassFiles([], [], [])
    for name, paths in images.items():
        class_folder = class_folders[name]
        headers, broken = examine(
            paths, whole=skip_broken
        )  # else pixels are looked at only once, by load
        readable = [path for path in paths if path not in broken]
        if not skip_broken:
            refuse_broken(class_folder, broken, readable)
        if len(readable) == 1 and min_images is None:
            raise ValueError(
                f"{class_folder}: a class of one image ({readable[0].name}), which no other resembles: "
                "min_images=2 leaves such classes out, min_images=1 keeps them"
            )
        result.skipped.extend(broken)
        if len(readable) < (min_images or 1):
            result.skipped.append(class_folder)
            continue
        result.paths.extend(readable)
        result.headers.extend(header for header in headers if header)
    if not result.paths:
        raise ValueError(f"{folder}: no images are left in it")
    return result


def refuse_broken(class_folder: Path, broken: dict[Path, str], readable: list[Path]) -> None:
    """Raise ValueError if a class has `broken` images, or none that are `readable`."""
    if broken:
        path, why = next(iter(broken.items()))
        others = f" (and {len(broken) - 1} more in its class)" if len(broken) > 1 else ""
        raise ValueError(
            f"{path}: not an image that can be read{others}: {why}; skip_broken=true leaves such files "
            "out"
        )
    if not readable:
        raise ValueError(
            f"{class_folder}: no images in it, where each folder is a class; skip_broken=true leaves "
            "it out"
        )


def label(folder: Path, paths: list[Path], root: Path, shape: tuple[int, int, int]) -> Labelled:
    """Files of one `shape`, each labelled by the folder directly below `folder` that it is in, and named
    by its path from `root`."""
    class_of_each = [class_of(path, folder) for path in paths]
    classes, labels = np.unique(class_of_each, return_inverse=True)
    names = np.array([composed(Path(os.path.relpath(path, root)).as_posix()) for path in paths])
    files = Files(np.array([str(path) for path in paths]), shape)
    return Labelled(files, labels, tuple(classes.tolist()), names)


def class_of(path: Path, folder: Path) -> str:
    """The name of the folder directly below `folder` that a path is in."""
    return composed(path.relative_to(folder).parts[0])
