"""Omniglot (Lake et al. 2015): 1623 hand-drawn characters, 20 drawings each, for open-set evaluation."""

import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from ..foreign import check_file, check_zip, one_line
from ..losses import BadArgument
from .files import ARCHIVES, find_images, remove_empty_folders
from .images import to_bytes
from .options import Size
from .splits import Labelled, Source

DRAWINGS = 20
MOST_PIXELS = 2**16  # of a drawing, published with 105×105
MOST_BYTES = 2**28  # of a zip, and of what it expands to; published are 12 MB
CHARACTERS = {"background": 964, "evaluation": 659}  # of two parts that share no alphabet

Drawings = dict[str, bytes | Path]  # by <alphabet>/<character>/<file>


def omniglot(root: Path, *, size: Size = None) -> Source:
    """The official split: trained on the background characters, tested on those of the evaluation set.
    Drawings are 105×105, grey, ink 0; `size` (height, width) resizes them.

    Reads, from `root`/omniglot-py or `root` itself, a folder images_<part>/<alphabet>/<character>/*.png,
    or else any images_*.zip with as many characters and drawings as were published; otherwise
    torchvision downloads it. Nothing is extracted or overwritten. Raises ValueError that names a wrong
    file or folder."""
    shape = (1, *(size or (105, 105)))
    train, test = (_labelled(_find(part, root), shape) for part in ("background", "evaluation"))
    return Source(train=train, test=test)


def _find(part: str, root: Path) -> Drawings:
    for folder in (root / "omniglot-py", root):
        tree = folder / f"images_{part}"
        if tree.is_dir():
            drawings = {path.relative_to(tree).as_posix(): path for path in find_images(tree)}
            return _complete(part, drawings, tree)
        # Judged by content, not by md5: the images are the same however they were zipped.
        for archive in sorted(folder.glob("images_*.zip")):
            drawings = _in_archive(archive, part)
            if drawings:
                return drawings
    _download(part, root)
    return _find(part, root)


def _download(part: str, root: Path) -> None:
    from ..torchvision_compat import datasets

    try:
        datasets.Omniglot(root, background=part == "background", download=True)
    except Exception as error:  # torchvision passes on whatever its network stack raises
        remove_empty_folders(root / "omniglot-py", root)
        reason = str(error).strip().splitlines()[-1]
        raise BadArgument(
            "root",
            root,
            f"no omniglot-py/images_{part} there, nor an images_{part}.zip, and it could not be "
            f"downloaded ({reason}): put one there, or set DATA_ROOT",
        ) from error


def _in_archive(archive: Path, part: str) -> Drawings:
    """The drawings below images_<part>/ in a zip; none if it holds something else."""
    check_file(archive, MOST_BYTES)
    try:
        with zipfile.ZipFile(archive) as opened:
            check_zip(opened, MOST_BYTES)
            drawings = {}
            for entry in opened.infolist():
                name, path = entry.filename, PurePosixPath(entry.filename)
                if entry.is_dir():
                    continue
                if ".." in path.parts or path.is_absolute() or "\\" in name:
                    raise ValueError(
                        f"{archive}: holds {name}, a path out of the folder: not the published file"
                    )
                if path.suffix.lower() in ARCHIVES:
                    raise ValueError(
                        f"{archive}: holds an archive, {name}: extract that one in its place"
                    )
                if path.parts[:1] == (f"images_{part}",) and path.suffix == ".png":
                    drawings["/".join(path.parts[1:])] = entry
            if drawings:
                _complete(part, drawings, archive)
            return {name: _read(opened, entry) for name, entry in drawings.items()}
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, UnicodeError) as error:
        why = one_line(error)
        raise ValueError(f"{archive}: cannot be read ({why}): delete it, or replace it") from None


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as member:
        return member.read(entry.file_size)


def _complete(part: str, drawings: dict, where: Path) -> dict:
    """The drawings, if there are as many of them, and of characters, as were published."""
    counts = Counter(name.rpartition("/")[0] for name in drawings)
    wrong = next((f"{name} has {count}" for name, count in counts.items() if count != DRAWINGS), None)
    if len(counts) != CHARACTERS[part] or wrong:
        raise ValueError(
            f"{where}: {len(counts)} characters, {len(drawings)} drawings; published are "
            f"{CHARACTERS[part]} with {DRAWINGS} each{f' ({wrong})' if wrong else ''}: delete it, or "
            "replace it"
        )
    return drawings


def _labelled(drawings: Drawings, shape: tuple[int, int, int]) -> Labelled:
    names = sorted(drawings)
    # Not by several threads, which take twice as long: so small a drawing hardly releases Python's lock.
    images = np.stack([to_bytes(drawings[name], shape, name, MOST_PIXELS) for name in names])
    classes, labels = np.unique([name.rpartition("/")[0] for name in names], return_inverse=True)
    return Labelled(images, labels, tuple(classes.tolist()), np.array(names))
