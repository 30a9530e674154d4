"""Images in files: found, checked, and decoded to bytes."""

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError

SUFFIXES = {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".webp"}
SUFFIXES |= {".tif", ".tiff"}
UNREAD = {".avif", ".cr2", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".psd", ".svg"}
ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}
LARGEST = 256  # pixels a side that are kept as they are without being asked for
LISTED = 10  # of what is left out, in a message
PIL_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def channels_of(image: Image.Image) -> int:
    return 1 if image.mode in GREY else 3


def eight_bits(image: Image.Image) -> Image.Image:
    """A deep grey image by its upper bits, which `convert` would cut at 255. Raises ValueError where 0
    and white are nobody's guess."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, of which nobody says what is white: save 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "I" and (pixels.min() < 0 or not 0xFF < pixels.max() <= 0xFFFF):
        raise ValueError("32-bit pixels, of which nobody says what is white: save 8 or 16 bits")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


def on_white(image: Image.Image) -> Image.Image:
    """What is transparent shows white, as on paper: below, there is often nothing but black."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def to_bytes(file: Path | bytes, shape: tuple[int, int, int], name: object = None) -> np.ndarray:
    """An image as bytes (channels, height, width) of `shape`: turned upright, grey or RGB as asked,
    on white, resized (bilinear over the whole area, so that thin lines survive). Raises UserError naming
    it."""
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            image = eight_bits(ImageOps.exif_transpose(image))
            image = on_white(image).convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except PIL_ERRORS as error:
        raise UserError(f"{name or file}: not an image that can be read ({error})") from None
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def in_parallel(function, items: Iterable, threads: int | None = None) -> list:
    """`function` of each item, in order; decoding lets other threads run."""
    items = list(items)
    if threads == 1 or len(items) < 8:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(function, items))


class Files:
    """Images of one `shape` (channels, height, width), in files, decoded when asked for."""

    def __init__(self, paths: np.ndarray, shape: tuple[int, int, int]):
        self.paths, self.shape = paths, (len(paths), *shape)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray) -> "Files":
        return Files(self.paths[rows], self.shape[1:])

    def decode(self, threads: int | None = None) -> np.ndarray:
        """All of them as bytes (N, channels, height, width). Raises UserError naming a broken file."""
        out = np.empty(self.shape, np.uint8)

        def put(row: int) -> None:
            out[row] = to_bytes(self.paths[row], self.shape[1:])

        in_parallel(put, range(len(self)), threads)
        return out

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def find_images(folder: Path) -> list[Path]:
    """Image files in a folder and below, sorted, links followed. Hidden files and what are no images are
    passed over; archives and images of kinds that are not read, which would be missed, are refused by
    name, as is what cannot be read."""
    found = []
    for directory, subfolders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        above = map(os.path.realpath, Path(directory).parents)
        if os.path.islink(directory) and os.path.realpath(directory) in above:  # back up: for ever
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        for path in (Path(directory, name) for name in sorted(files) if not name.startswith(".")):
            if path.suffix.lower() in ARCHIVES:
                raise UserError(f"{path}: an archive among the images: extract it, or take it away")
            if path.suffix.lower() in UNREAD:
                raise UserError(
                    f"{path}: an image of a kind that is not read: save it as PNG, or take it away"
                )
            if path.suffix.lower() in SUFFIXES:
                found.append(_named(path))
    return found


def subfolders(folder: Path) -> list[Path]:
    """Folders right below one, sorted, hidden ones left out. Raises UserError naming what cannot be
    read."""
    try:
        return sorted(
            _named(path)
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
        )
    except OSError as error:
        _refuse(error)


def _named(path: Path) -> Path:
    """Refuses a name that is no text, as of an old archive, which no table or picture could show."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: a name that is not UTF-8: rename it") from None
    return path


def _refuse(error: OSError) -> None:
    raise UserError(f"dataset.root: {error.filename} cannot be read ({error.strerror})") from None


def examine(
    paths: list[Path], whole: bool
) -> tuple[list[tuple[int, tuple[int, int]] | None], dict[Path, str]]:
    """Of each file its (channels, (height, width)), None for a broken one, and the broken ones with the
    reason. Reads headers only, or, if `whole`, every pixel."""

    def look(path: Path):
        try:
            with Image.open(path) as image:
                if whole:
                    image.load()
                    eight_bits(image)
                turned = image.getexif().get(274) in (5, 6, 7, 8)  # EXIF: lying on its side
                return channels_of(image), image.size if turned else image.size[::-1]
        except PIL_ERRORS as error:
            return str(error)

    seen = in_parallel(look, paths)
    broken = {path: what for path, what in zip(paths, seen, strict=True) if isinstance(what, str)}
    return [None if isinstance(what, str) else what for what in seen], broken


def common_shape(
    paths: list[Path],
    kinds: list[tuple[int, tuple[int, int]]],
    size: tuple[int, int] | None,
    channels: int | None,
) -> tuple[int, int, int]:
    """The shape that all images are brought to: `size` (height, width), or the one that they share;
    RGB if any is, unless `channels` says otherwise. Raises UserError naming two that differ."""
    channels = channels or max(kind[0] for kind in kinds)
    if size:
        return channels, *size
    first = kinds[0][1]
    for path, (_, other) in zip(paths, kinds, strict=True):
        if other != first:
            raise UserError(
                f"dataset.size=null: images differ in size ({paths[0]} is {first[0]}×{first[1]}, {path} "
                f"{other[0]}×{other[1]}, height × width): give one for all, as in dataset.size=[112,112]"
            )
    if max(first) > LARGEST:
        raise UserError(
            f"dataset.size=null: images of {first[0]}×{first[1]} are more than a backbone wants: give a "
            "size, as in dataset.size=[112,112]"
        )
    return channels, *first


def remove_empty(folder: Path, root: Path) -> None:
    """What a failed download made below `root`: a folder, and those above it, if they are empty."""
    for path in (folder, *folder.parents):
        if path == root:
            return
        try:
            path.rmdir()
        except OSError:
            return


def listed(names: Iterable[object]) -> str:
    """The first few of many names, and how many there are more."""
    names = [str(name) for name in names]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
