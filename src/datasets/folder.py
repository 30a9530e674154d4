"""The user's own images: one folder per class."""

import os
from pathlib import Path

import numpy as np

from ..losses import BadArgument
from .files import Files, composed, find_images, name_some, subfolders
from .images import SUFFIXES
from .metadata import find_metadata, read_metadata
from .options import Channels, ClosedOrOpen, MinImages, Seed, Size, TestFraction
from .parts import NOT_SPLIT, OTHER_PARTS, PART_NAMES
from .samples import Samples, source_of_images
from .splits import Source


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
    fewer than `min_images`, over all parts, are left out and named in `skipped`, as are unreadable
    images and empty classes with `skip_broken`.

    Raises ValueError for unreadable images and empty classes without `skip_broken`, for a class of one
    image without `min_images`, for images that differ in size without `size`, and for folders that do
    not fit the `split`."""
    folders = part_folders(root)
    tables, notes = find_metadata(root, folders)
    empty: list[str] = []
    if tables:
        samples, notes = read_metadata(root, tables)
    else:
        samples, empty = in_class_folders(root, folders)
    if empty and not skip_broken:
        raise ValueError(
            f"{root / empty[0]}: no images in it, where each folder is a class; skip_broken=true leaves "
            "it out"
        )
    return source_of_images(
        samples,
        str(root),
        split=split,
        test_fraction=test_fraction,
        split_seed=split_seed,
        size=size,
        channels=channels,
        min_images=min_images,
        skip_broken=skip_broken,
        skipped=tuple(empty),
        notes=notes,
    )


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of train and perhaps val and test, by these names; `root` as the only part if it holds
    class folders. Raises BadArgument if it could be either."""
    if not os.path.isdir(root):
        raise BadArgument("root", root, "no such folder; name the one that your class folders are in")
    folders = subfolders(root)
    parts = [path for path in folders if path.name.lower() in PART_NAMES]
    found = {PART_NAMES[path.name.lower()]: path for path in parts}
    others = [path for path in folders if path not in found.values()]
    if "train" in found and not others:
        return {part: found[part] for part in ("train", "val", "test") if part in found}
    if "train" in found and len(parts) > 1:
        names = " and ".join(f"{path.name}/" for path in found.values())
        raise BadArgument("root", root, f"has {names}, and beside them {others[0].name}/: which is it?")
    splits = "train" in found or all(path.name.lower() in OTHER_PARTS for path in others)
    # A class may be called train, and then there are images in its folder.
    if folders and splits and (not others or all(map(holds_folders_alone, folders))):
        names = name_some(f"{path.name}/" for path in folders)
        raise BadArgument(
            "root",
            root,
            f"has {names}, which look like splits; expected train/ (optionally val/, test/), or one "
            "folder per class",
        )
    return {NOT_SPLIT: root}


def holds_folders_alone(folder: Path) -> bool:
    """Whether there are folders in a folder, and no image beside them."""
    return bool(subfolders(folder)) and not any(
        path.suffix.lower() in SUFFIXES for path in folder.iterdir()
    )


def in_class_folders(root: Path, folders: dict[str, Path]) -> tuple[Samples, list[str]]:
    """The images in the class folders of the `folders` of parts, named by their paths from `root`, and
    the class folders without any. Raises ValueError for a part without class folders, and for an image
    beside them."""
    paths, labels, parts, empty = [], [], [], []
    for part, folder in folders.items():
        classes = {composed(path.name): path for path in subfolders(folder)}
        if not classes:
            why = "no folders in it; expected one folder per class"
            raise BadArgument("root", root, why) if folder == root else ValueError(f"{folder}: {why}")
        found = find_images(folder)
        for path in found:
            if path.parent == folder:
                raise ValueError(
                    f"{path}: an image beside the class folders: put it into one, or move it elsewhere"
                )
        of = [class_of(path, folder) for path in found]
        paths, labels, parts = paths + found, labels + of, parts + [part] * len(found)
        empty += [name_from(root, path) for name, path in classes.items() if name not in set(of)]
    return samples_of(root, paths, labels)._replace(parts=np.array(parts, str)), empty


def samples_of(root: Path, paths: list[Path], labels: list[str]) -> Samples:
    """Image files with labels, named by their paths from `root`."""
    files = Files(np.array([str(path) for path in paths], str))
    names = np.array([name_from(root, path) for path in paths], str)
    return Samples(files, np.array(labels, str), names, np.full(len(paths), NOT_SPLIT))


def class_of(path: Path, folder: Path) -> str:
    """The name of the folder directly below `folder` that a path is in."""
    return composed(path.relative_to(folder).parts[0])


def name_from(root: Path, path: Path) -> str:
    return composed(Path(os.path.relpath(path, root)).as_posix())
