"""The user's own images: one folder per class."""

import os
from pathlib import Path

import numpy as np

from ..losses import BadArgument
from .files import Files, composed, find_images, name_some, subfolders
from .images import SUFFIXES
from .metadata import find_metadata, read_metadata
from .parts import NOT_SPLIT, OTHER_PARTS, PART_NAMES
from .samples import Samples, followed_by, source_of_images


@followed_by(source_of_images)
def image_folder(root: Path) -> Samples:
    """Images `root`/<class>/…/<image>, or the same in `root`/train, `root`/val and `root`/test, which
    may also be called training, valid, validation, testing, and of which train is enough. A
    metadata.csv or metadata.jsonl with columns file_name and label, in `root` or in each of these
    folders, says the labels instead, as Hugging Face's image folders have it. Raises ValueError for
    folders that could be classes or parts, for images beside class folders, and for archives and
    unsupported images, which would be missed."""
    folders = part_folders(root)
    tables, notes = find_metadata(root, folders)
    if tables:
        return read_metadata(root, tables)
    return in_class_folders(root, folders)._replace(notes=notes)


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


def in_class_folders(root: Path, folders: dict[str, Path]) -> Samples:
    """The images in the class folders of the `folders` of parts, named by their paths from `root`.
    Raises ValueError for a part without class folders, and for an image beside them."""
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
    samples = samples_of(root, paths, labels)
    return samples._replace(parts=np.array(parts, str), empty=tuple(empty))


def samples_of(root: Path, paths: list[Path], labels: list[str]) -> Samples:
    """Image files with labels, named by their paths from `root`."""
    files = Files(np.array([str(path) for path in paths], str))
    names = np.array([name_from(root, path) for path in paths], str)
    return Samples(str(root), files, np.array(labels, str), names, np.full(len(paths), NOT_SPLIT))


def class_of(path: Path, folder: Path) -> str:
    """The name of the folder directly below `folder` that a path is in."""
    return composed(path.relative_to(folder).parts[0])


def name_from(root: Path, path: Path) -> str:
    return composed(Path(os.path.relpath(path, root)).as_posix())
