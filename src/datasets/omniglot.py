"""Omniglot (Lake et al. 2015): 1623 hand-drawn characters, 20 drawings each, for open-set evaluation."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import UserError
from .files import ARCHIVES, find_images, in_parallel, remove_empty, to_bytes
from .splits import Labelled, Source

DRAWINGS = 20
PARTS = {"background": 964, "evaluation": 659}  # characters, no alphabet in both


def omniglot(root: Path, *, size: tuple[int, int] | None = None) -> Source:
    """The official split: trained on the background characters, tested on those of the evaluation set.

    Reads, from `root`/omniglot-py or `root` itself, a folder images_<part>/<alphabet>/<character>/*.png,
    or else any images_*.zip that holds as many characters and drawings as published; otherwise
    torchvision downloads it. Drawings are 105×105, grey, ink 0; `size` (height, width) resizes them.
    Raises UserError naming a file or folder that is not right; nothing is extracted or written over."""
    shape = (1, *(size or (105, 105)))
    return Source(*(_labelled(part, _files(part, root), shape) for part in PARTS))


def _files(part: str, root: Path) -> dict[str, bytes | Path]:
    """The drawings of a part by `<alphabet>/<character>/<file>`."""
    for folder in (root / "omniglot-py", root):
        tree = folder / f"images_{part}"
        if tree.is_dir():
            held = {path.relative_to(tree).as_posix(): path for path in find_images(tree)}
            return _counted(part, held, tree)
        # By what they hold, not by their md5: the images are the same however they were zipped.
        for archive in sorted(folder.glob("images_*.zip")):
            held = _in_archive(archive, part)
            if held:
                return _counted(part, held, archive)
    try:
        from ..vision import datasets

        datasets.Omniglot(root, background=part == "background", download=True)
    except Exception as error:  # torchvision passes on whatever its network stack raises
        remove_empty(root / "omniglot-py", root)
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"dataset.root={root}: no omniglot-py/images_{part} there, nor an images_{part}.zip, and it "
            f"could not be downloaded ({reason}): put one there, or set DATA_ROOT"
        ) from error
    return _files(part, root)


def _in_archive(archive: Path, part: str) -> dict[str, bytes]:
    """The drawings of `part` in a zip, by their path below images_<part>/."""
    try:
        with zipfile.ZipFile(archive) as opened:
            held = {}
            for name in (entry.filename for entry in opened.infolist() if not entry.is_dir()):
                path = PurePosixPath(name)
                if ".." in path.parts or path.is_absolute() or "\\" in name:
                    raise UserError(
                        f"{archive}: holds {name}, a path out of the folder: not the published file"
                    )
                if path.suffix.lower() in ARCHIVES:
                    raise UserError(
                        f"{archive}: holds an archive, {name}: extract that one into its place"
                    )
                if path.parts[0] == f"images_{part}" and path.suffix == ".png":
                    held["/".join(path.parts[1:])] = opened.read(name)
            return held
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive}: cannot be read ({error}): delete it, or replace it") from None


def _counted(part: str, held: dict[str, bytes | Path], where: Path) -> dict[str, bytes | Path]:
    """`held`, if it has as many characters and drawings as were published."""
    drawings: dict[str, int] = {}
    for name in held:
        character = name.rpartition("/")[0]
        drawings[character] = drawings.get(character, 0) + 1
    odd = next((f"{name} has {n}" for name, n in drawings.items() if n != DRAWINGS), None)
    if len(drawings) != PARTS[part] or odd:
        raise UserError(
            f"{where}: {len(drawings)} characters, {len(held)} drawings; published are {PARTS[part]} "
            f"with {DRAWINGS} each{f' ({odd})' if odd else ''}: delete it, or replace it"
        )
    return held


def _labelled(part: str, held: dict[str, bytes | Path], shape: tuple[int, int, int]) -> Labelled:
    names = sorted(held)
    images = np.stack(in_parallel(lambda name: to_bytes(held[name], shape, name), names))
    classes, labels = np.unique([name.rpartition("/")[0] for name in names], return_inverse=True)
    return Labelled(images, labels, tuple(classes.tolist()), np.array(names))
