"""Images in files: find them, check them, decode them to bytes."""

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".webp"}
SUFFIXES |= {".tif", ".tiff"}
UNSUPPORTED = {".avif", ".cr2", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".psd", ".svg"}
ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}
LARGEST_SIDE = 256  # pixels; larger images need an explicit size
ORIENTATION = 274  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width
PIL_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


class BrokenImage(ValueError):
    """A file turned out not to be an image when it was read, perhaps in the middle of training."""


class Header(NamedTuple):
    """What an image file says of itself: its number of channels, and its size (height, width) once it is
    turned upright."""

    channels: int
    size: tuple[int, int]


def channels_of(image: Image.Image) -> int:
    """1 for a grey image, 3 for any other."""
    return 1 if image.mode in GREY else 3


def eight_bits(image: Image.Image) -> Image.Image:
    """The upper eight bits of a deep grey image, where `convert` would clip at 255. Raises ValueError if
    the value of white is unknown."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white is unknown: save 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "I" and (pixels.min() < 0 or not 0xFF < pixels.max() <= 0xFFFF):
        raise ValueError("32-bit pixels, whose white is unknown: save 8 or 16 bits")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


def on_white(image: Image.Image) -> Image.Image:
    """The image on white paper: what lies under transparent pixels is often black."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def to_bytes(file: Path | bytes, shape: tuple[int, int, int], name: object = None) -> np.ndarray:
    """An image as bytes (channels, height, width) of `shape`: turned upright, on white, grey or RGB, and
    resized (bilinear over the whole area, so that thin lines survive). Raises ValueError that calls the
    file `name`, or by its path, if it is not an image."""
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            image = eight_bits(ImageOps.exif_transpose(image))
            image = on_white(image).convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except PIL_ERRORS as error:
        raise BrokenImage(f"{name or file}: not an image that can be read ({error})") from None
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def in_parallel(function: Callable, items: Iterable, threads: int | None = None) -> list:
    """`function` of each item, in order. Threads pay off because decoding releases Python's lock."""
    items = list(items)
    if threads == 1 or len(items) < 8:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(function, items))


class Files:
    """Image files that decode to one shape, when they are needed. `shape` is (N, channels, height,
    width), as if they were an array."""

    def __init__(self, paths: np.ndarray, image_shape: tuple[int, int, int]):
        self.paths, self.shape = paths, (len(paths), *image_shape)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray) -> "Files":
        return Files(self.paths[rows], self.shape[1:])

    def decode(self, threads: int | None = None) -> np.ndarray:
        """All of them as bytes (N, channels, height, width). Raises ValueError that names a broken
        file."""
        pixels = np.empty(self.shape, np.uint8)

        def decode_one(row: int) -> None:
            pixels[row] = to_bytes(self.paths[row], self.shape[1:])

        in_parallel(decode_one, range(len(self)), threads)
        return pixels

    @property
    def nbytes(self) -> int:
        """The memory that they take once decoded."""
        return int(np.prod(self.shape, dtype=np.int64))


def find_images(folder: Path) -> list[Path]:
    """The image files in a folder and below, sorted; links are followed. Hidden files and files of other
    kinds are ignored. Raises ValueError for an archive or an unsupported image format, whose images
    would be missed, and for what cannot be read."""
    images = []
    for directory, subdirectories, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        ancestors = map(os.path.realpath, Path(directory).parents)
        if os.path.islink(directory) and os.path.realpath(directory) in ancestors:  # an endless loop
            subdirectories.clear()
            continue
        subdirectories[:] = sorted(name for name in subdirectories if not _is_hidden(name))
        for path in (Path(directory, name) for name in sorted(files) if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in ARCHIVES:
                raise ValueError(
                    f"{path}: an archive among the images: extract it, or move it elsewhere"
                )
            if suffix in UNSUPPORTED:
                raise ValueError(
                    f"{path}: an unsupported image format: save it as PNG, or move it elsewhere"
                )
            if suffix in SUFFIXES:
                images.append(_utf8(path))
    return images


def subfolders(folder: Path) -> list[Path]:
    """The folders directly below one, sorted, without hidden ones. Raises ValueError if the folder
    cannot be read."""
    try:
        return sorted(
            _utf8(path) for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name)
        )
    except OSError as error:
        _unreadable(error)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _utf8(path: Path) -> Path:
    """Raise ValueError for a name that is not text, as in old archives: no table could show it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!a}: a name that is not UTF-8: rename it") from None
    return path


def _unreadable(error: OSError) -> NoReturn:
    raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from None


def examine(paths: Sequence[Path], whole: bool) -> tuple[list[Header | None], dict[Path, str]]:
    """The header of each file, None for a broken one, and the reason for each broken one. Reads every
    pixel if `whole`, and otherwise headers only."""

    def header_or_error(path: Path) -> Header | str:
        try:
            with Image.open(path) as image:
                if whole:
                    image.load()
                    eight_bits(image)
                sideways = image.getexif().get(ORIENTATION) in SIDEWAYS
                return Header(channels_of(image), image.size if sideways else image.size[::-1])
        except PIL_ERRORS as error:
            return str(error)

    results = in_parallel(header_or_error, paths)
    broken = {path: why for path, why in zip(paths, results, strict=True) if isinstance(why, str)}
    return [None if isinstance(result, str) else result for result in results], broken


def common_shape(
    paths: Sequence[Path],
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
            raise ValueError(
                f"size=null: images differ in size ({paths[0]} is {height}×{width}, {path} "
                f"{header.size[0]}×{header.size[1]}, height × width): give one for all, as in "
                "size=[112,112]"
            )
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(
            f"size=null: images of {height}×{width} are more than a backbone needs: give a size, as in "
            "size=[112,112]"
        )
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
