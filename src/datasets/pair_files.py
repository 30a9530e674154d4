"""The two file formats that list verification pairs: LFW's text, and `.bin` of face recognition."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..foreign import one_line, regular_file
from .files import SUFFIXES, composed
from .harmless_pickle import Array, load_harmless
from .images import channels_of, opened
from .splits import Pairs

BIN_FOLDS = 10
NUMBER = re.compile("[0-9]{1,9}")
MOST_PIXELS = 2**22  # of an image in a .bin; faces there are 112×112
MOST_BYTES = 2**28  # of a list of pairs


def read_lfw(file: Path, root: Path) -> tuple[list[Path], Pairs]:
    """The images below `root` that an LFW pairs file names, each once, and its pairs. Raises ValueError
    that names the line which is wrong.

    The first line is `<folds> <n>`, or `<n>` for a single fold. Each fold has n lines `<name> <i> <j>`,
    the same person, and n lines `<name> <i> <name> <j>`, two people. Image i of a name is
    <name>/<name>_<i as 0001>."""
    per_fold, lines = _lfw_lines(file)
    row_of: dict[Path, int] = {}
    path_of: dict[tuple[str, str], Path] = {}

    def row(image: tuple[str, str], number: int) -> int:
        if image not in path_of:
            path_of[image] = _lfw_image(file, root, *image, number)
        return row_of.setdefault(path_of[image], len(row_of))

    rows = []
    for number, line in lines:
        parts = line.split("\t") if "\t" in line else line.split()
        if len(parts) not in (3, 4):
            raise ValueError(
                f"{file}: line {number} is neither `name i j` nor `name i name j`: {line[:100]!r}"
            )
        first = (composed(parts[0]), parts[1])
        second = (composed(parts[2]) if len(parts) == 4 else first[0], parts[-1])
        rows.append((row(first, number), row(second, number), first[0] == second[0]))
    first, second, same = map(np.array, zip(*rows, strict=True))
    fold = np.arange(len(rows)) // (2 * per_fold)
    return list(row_of), Pairs(first=first, second=second, same=same, fold=fold)


def _lfw_lines(file: Path) -> tuple[int, list[tuple[int, str]]]:
    """How many pairs of each kind a fold has, and the lines that hold pairs, with their numbers."""
    try:
        regular_file(file, MOST_BYTES)
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        header = [int(part) for part in lines[0].split()]
        folds, per_fold = header if len(header) == 2 else (1, *header)
        if min(folds, per_fold) < 1:
            raise ValueError("both from 1")
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{file}: line 1 is not LFW's, the number of folds and of pairs ({one_line(error)})"
        ) from None
    numbered = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    expected = 2 * folds * per_fold
    if len(numbered) != expected:
        raise ValueError(
            f"{file}: {len(numbered)} pairs; its first line says {folds} × 2 × {per_fold} = {expected}"
        )
    return per_fold, numbered


def _lfw_image(file: Path, root: Path, name: str, image: str, number: int) -> Path:
    if not NUMBER.fullmatch(image) or name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{file}: line {number} names no image: {name[:100]!r} {image[:100]!r}")
    for spelling in (name, unicodedata.normalize("NFD", name)):  # a folder from a Mac
        for suffix in (".jpg", ".png", *sorted(SUFFIXES)):
            path = root / spelling / f"{spelling}_{int(image):04d}{suffix}"
            if os.path.exists(path):
                return path
    wanted = root / f"{name}/{name}_{int(image):04d}.jpg"
    raise ValueError(f"{file}: line {number} wants {str(wanted)[:300]}, which is not there")


def read_bin(file: Path) -> tuple[list[bytes], Pairs]:
    """The images of a `.bin` verification file, encoded as JPEG or PNG, and its pairs. The file is a
    pickle of (images, same); images 2k and 2k + 1 are a pair, and the ten folds follow one another.
    Raises ValueError if it is anything else, without running what it holds."""
    try:
        images, same = load_harmless(file)
        contents, same = [_encoded(image) for image in _items(images)], list(map(_flag, _items(same)))
    except Exception as error:  # an unpickler raises anything, given something else
        why = one_line(error)
        raise ValueError(f"{file}: not a verification .bin of images and pairs ({why})") from None
    if len(contents) != 2 * len(same) or not same:
        raise ValueError(f"{file}: {len(contents)} images for {len(same)} pairs; expected two each")
    rows = np.arange(len(same))
    fold = rows * BIN_FOLDS // len(same)
    return contents, Pairs(first=2 * rows, second=2 * rows + 1, same=np.array(same), fold=fold)


def _items(several: object) -> list | tuple | np.ndarray:
    several = several.values if isinstance(several, Array) else several
    if not isinstance(several, (list, tuple, np.ndarray)):
        raise ValueError(f"it holds {type(several).__name__} where a list belongs")
    return several


def _encoded(image: object) -> bytes:
    """An image's content, which some write as an array."""
    image = image.values if isinstance(image, Array) else image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image.tobytes()
    if not isinstance(image, (bytes, bytearray)):
        raise ValueError(f"it holds {type(image).__name__} where an image belongs")
    return bytes(image)


def _flag(same: object) -> bool:
    if not isinstance(same, (bool, int, float, np.generic)):
        raise ValueError(f"it holds {type(same).__name__} where true or false belongs")
    return bool(same)


def image_shape(
    content: bytes, file: Path, size: Sequence[int] | None, channels: int | None
) -> tuple[int, int, int]:
    """(channels, height, width) of an encoded image, unless `size` and `channels` say otherwise. Raises
    ValueError that names the `file` it is from."""
    try:
        with opened(content, MOST_PIXELS) as image:
            return channels or channels_of(image), *(size or image.size[::-1])
    except Exception as error:  # given a hostile file, Pillow raises anything
        raise ValueError(f"{file}: its first image cannot be read ({one_line(error)})") from None
