"""Images in files: found, whoever wrote them, examined, and decoded when they are needed."""

import copy
import functools
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from ..foreign import one_line
from ..losses import BadArgument
from .images import HEIC, SUFFIXES, BrokenImage, Header, header_of, opened, to_bytes, upright

# Images that Pillow does not read, or not everywhere.
OTHER_IMAGES = {".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".heic", ".heif"}
OTHER_IMAGES |= {".hif", ".jp2", ".jxl", ".jxr", ".nef", ".orf", ".psd", ".raf", ".rw2", ".svg", ".xcf"}
NO_IMAGES = {".bufr", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".pdf"}  # of which it knows the endings
MANY = 1000  # images, of which a terminal shows how far they are read
LARGEST_SIDE = 256  # pixels; larger images need an explicit size
ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
# What other programs leave beside images, in lower case: thumbnails, bins, and what a file system needs.
SIDE_FOLDERS = {"__macosx", "__pycache__", "@eadir", "@recycle", "@tmp", "@transcode", "#recycle"}
SIDE_FOLDERS |= {"#snapshot", "~snapshot", "@recently-snapshot", "$recycle.bin", "lost+found"}
SIDE_FOLDERS |= {"system volume information", "network trash folder", "temporary items"}


@functools.cache
def unsupported() -> frozenset[str]:
    """Endings of images that are not read here; passed over, they would be missed."""
    Image.init()
    return frozenset((OTHER_IMAGES | set(Image.EXTENSION)) - SUFFIXES - NO_IMAGES)


def composed(name: str) -> str:
    """A name as most systems spell it: é as one character (NFC), which Macs write as two (NFD)."""
    return unicodedata.normalize("NFC", name)


def find_images(folder: Path) -> list[Path]:
    """The image files in a folder and below, sorted. Links are followed, but within each folder directly
    below no folder is read twice, however they link each other. Hidden files, those of other kinds, and
    what other programs leave are ignored. Raises ValueError for an archive or an image of an unsupported
    format, which would be missed, and for what cannot be read."""
    images, seen = [], set()
    for directory, subdirectories, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        if Path(directory).parent == folder:
            seen = {_identity(folder)}
        identity = _identity(directory)
        if identity in seen:
            subdirectories.clear()
            continue
        seen.add(identity)
        subdirectories[:] = sorted((n for n in subdirectories if not _is_side_folder(n)), key=composed)
        for name in sorted(files, key=composed):
            path = Path(directory, name)
            suffix = "" if name.startswith(".") else path.suffix.lower()
            if suffix in ARCHIVES:
                raise ValueError(
                    f"{path}: an archive among the images: extract it, or move it elsewhere"
                )
            if suffix in unsupported():
                other = "pip install -e '.[heic]' reads it, or " if suffix in HEIC else ""
                raise ValueError(
                    f"{path}: an unsupported image format: {other}save it as PNG, or move it elsewhere"
                )
            if suffix in SUFFIXES:
                images.append(_text(path))
    return images


def _identity(directory: str | Path) -> tuple[int, int]:
    try:
        found = os.stat(directory)
    except OSError as error:
        _unreadable(error)
    return found.st_dev, found.st_ino


def subfolders(folder: Path) -> list[Path]:
    """The folders directly below one, sorted, without hidden ones. Raises ValueError if the folder
    cannot be read."""
    try:
        found = [path for path in folder.iterdir() if path.is_dir() and not _is_side_folder(path.name)]
    except OSError as error:
        _unreadable(error)
    return sorted(map(_text, found), key=lambda path: composed(path.name))


def _is_side_folder(name: str) -> bool:
    return name.startswith(".") or name.lower() in SIDE_FOLDERS


def _text(path: Path) -> Path:
    """Raise ValueError for a name that is not text, as in old archives, or is none to print: no table
    could show it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!a}: a name that is not UTF-8: rename it") from None
    if any(unicodedata.category(character) == "Cc" for character in path.name):
        raise ValueError(f"{str(path)!a}: a name with control characters: rename it")
    return path


def _unreadable(error: OSError) -> NoReturn:
    raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from None


def in_parallel(
    function: Callable, items: Iterable, threads: int | None = None, doing: str | None = None
) -> list:
    """`function` of each item, in order. Threads pay off because decoding releases Python's lock; they
    take several items at a time, since small ones cost less than to hand them over. With `doing`, a
    terminal shows a bar with this word in front if it takes a while."""
    items, threads = list(items), threads or os.cpu_count()
    if threads == 1 or len(items) < 8:
        return [function(item) for item in items]
    size = max(1, min(32, len(items) // (8 * threads)))
    blocks = [items[first : first + size] for first in range(0, len(items), size)]
    with ThreadPoolExecutor(threads) as pool:
        results = chain.from_iterable(pool.map(lambda block: [function(item) for item in block], blocks))
        console = Console(stderr=True) if doing and len(items) >= MANY else None
        if console and console.is_terminal:
            results = track(results, doing, len(items), console=console, transient=True)
        return list(results)


class Files:
    """Image files that decode to one shape, when they are needed. `shape` is (N, channels, height,
    width), as if they were an array. Images that lie elsewhere override `content`, `called` and `sizes`,
    and name in `rowwise` their arrays of a row for each image."""

    rowwise: tuple[str, ...] = ("paths",)

    def __init__(self, paths: np.ndarray, image_shape: tuple[int, int, int] = (0, 0, 0)):
        self.paths, self.shape = paths, (len(paths), *image_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> "Files":
        return self._with({name: getattr(self, name)[rows] for name in self.rowwise})

    def joined(self, others: "Sequence[Files]") -> "Files":
        """These and others that were picked from where these were."""
        every = [self, *others]
        return self._with(
            {name: np.concatenate([getattr(one, name) for one in every]) for name in self.rowwise}
        )

    def _with(self, rows: dict[str, np.ndarray]) -> "Files":
        other = copy.copy(self)
        vars(other).update(rows)
        other.shape = (len(rows[self.rowwise[0]]), *self.shape[1:])
        return other

    def shaped(self, image_shape: tuple[int, int, int]) -> "Files":
        """The same files, to be decoded to this shape."""
        other = copy.copy(self)
        other.shape = (len(self), *image_shape)
        return other

    def content(self, row: int) -> str | bytes:
        """Where an image is, or what is there."""
        return str(self.paths[row])

    def called(self, row: int) -> str:
        """What messages call an image."""
        return str(self.paths[row])

    def sizes(self) -> list[int]:
        """The size of each in bytes, as it is stored."""
        return [os.path.getsize(path) for path in self.paths]

    def decode(self, threads: int | None = None) -> np.ndarray:
        """All of them as bytes (N, channels, height, width). Raises ValueError that names a broken
        one."""
        pixels = np.empty(self.shape, np.uint8)

        def decode_one(row: int) -> None:
            pixels[row] = self._pixels(row)

        in_parallel(decode_one, range(len(self)), threads, "reading images")
        return pixels

    def of_each(self, function: Callable[[np.ndarray], Any], doing: str) -> list:
        """`function` of the bytes (channels, height, width) of each, of which none is kept. Raises
        ValueError that names a broken one."""
        return in_parallel(lambda row: function(self._pixels(row)), range(len(self)), None, doing)

    def examine(self, whole: bool) -> tuple[list[Header | None], dict[int, str]]:
        """The header of each, None for a broken one, and the reason for each broken one by its row.
        Reads every pixel if `whole`, and otherwise headers only."""
        results = in_parallel(
            lambda row: header_or_why(self.content, row, whole),
            range(len(self)),
            None,
            "looking at images",
        )
        broken = {row: why for row, why in enumerate(results) if isinstance(why, str)}
        return [None if isinstance(result, str) else result for result in results], broken

    def _pixels(self, row: int) -> np.ndarray:
        try:
            content = self.content(row)
        except (OSError, ValueError) as error:
            raise BrokenImage(f"{self.called(row)}: cannot be read ({one_line(error)})") from None
        return to_bytes(content, self.shape[1:], self.called(row))

    @property
    def nbytes(self) -> int:
        """The memory that they take once decoded."""
        return int(np.prod(self.shape, dtype=np.int64))


def header_or_why(content: Callable[[int], str | Path | bytes], row: int, whole: bool) -> Header | str:
    """The header of one image, or why it is broken."""
    try:
        with opened(content(row)) as image:
            if whole:
                upright(image)
            return header_of(image)
    except Exception as error:  # given a hostile file, Pillow raises anything
        return one_line(error)


def examine(paths: Sequence[Path], whole: bool) -> tuple[list[Header | None], dict[Path, str]]:
    """`Files.examine` of files, the reason for each broken one by its path."""
    headers, broken = Files(np.array([str(path) for path in paths])).examine(whole)
    return headers, {paths[row]: why for row, why in broken.items()}


def common_shape(
    paths: Sequence[object],
    headers: Sequence[Header],
    size: Sequence[int] | None,
    channels: int | None,
) -> tuple[int, int, int]:
    """The shape (channels, height, width) that all images are brought to: `size` (height, width), or the
    one they share; `channels`, or RGB if any image is. Raises ValueError that names two images which
    differ."""
    channels = channels or max(header.channels for header in headers)
    if size:
        return channels, *size
    height, width = headers[0].size
    for path, header in zip(paths, headers, strict=True):
        if header.size != (height, width):
            raise BadArgument(
                "size",
                size,
                f"images differ in size ({paths[0]} is {height}×{width}, {path} {header.size[0]}×"
                f"{header.size[1]}, height × width): give one for all, as in [112,112]",
            )
    if max(height, width) > LARGEST_SIDE:
        why = f"images of {height}×{width} are more than a backbone needs: give a size, as in [112,112]"
        raise BadArgument("size", size, why)
    return channels, height, width


def remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove what a failed download leaves: `folder`, and its parents below `root`, as far as they are
    empty."""
    for path in (folder, *folder.parents):
        if path == root:
            return
        try:
            path.rmdir()
        except OSError:
            return


def left_out(skipped: Iterable[object]) -> str:
    """How many: `1 file or class`, `3 files and classes`."""
    number = len(list(skipped))
    return "1 file or class" if number == 1 else f"{number} files and classes"


def name_some(names: Iterable[object], most: int = 10) -> str:
    """The first few of many names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
