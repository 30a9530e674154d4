"""The two file formats that list verification pairs: LFW's text, and `.bin` of face recognition."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .files import PIL_ERRORS, SUFFIXES, channels_of
from .splits import Pairs

BIN_FOLDS = 10


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
                f"{file}: line {number} is neither `name i j` nor `name i name j`: {line!r}"
            )
        first = (parts[0], parts[1])
        second = (parts[2] if len(parts) == 4 else parts[0], parts[-1])
        rows.append((row(first, number), row(second, number), first[0] == second[0]))
    first, second, same = map(np.array, zip(*rows, strict=True))
    fold = np.arange(len(rows)) // (2 * per_fold)
    return list(row_of), Pairs(first=first, second=second, same=same, fold=fold)


def _lfw_lines(file: Path) -> tuple[int, list[tuple[int, str]]]:
    """How many pairs of each kind a fold has, and the lines that hold pairs, with their numbers."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        header = [int(part) for part in lines[0].split()]
        folds, per_fold = header if len(header) == 2 else (1, *header)
        if min(folds, per_fold) < 1:
            raise ValueError("both from 1")
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{file}: line 1 is not LFW's, the number of folds and of pairs ({error})"
        ) from None
    numbered = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    expected = 2 * folds * per_fold
    if len(numbered) != expected:
        raise ValueError(
            f"{file}: {len(numbered)} pairs; its first line says {folds} × 2 × {per_fold} = {expected}"
        )
    return per_fold, numbered


def _lfw_image(file: Path, root: Path, name: str, image: str, number: int) -> Path:
    if not image.isdecimal() or name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{file}: line {number} names no image: {name!r} {image!r}")
    stem = f"{name}_{int(image):04d}"
    for suffix in (".jpg", ".png", *sorted(SUFFIXES)):
        path = root / name / f"{stem}{suffix}"
        if path.exists():
            return path
    raise ValueError(f"{file}: line {number} wants {root / name / stem}.jpg, which is not there")


# All that a pickle of lists, bytes, numbers and arrays asks for; numpy 1 says `core`, 2 `_core`.
_HARMLESS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numpy._core.numeric", "_frombuffer"): lambda buffer, dtype, shape, order: np.frombuffer(
        buffer, dtype
    ).reshape(shape, order=order),
    # How Python 3 writes bytes for Python 2.
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin1"),
}


class _HarmlessUnpickler(pickle.Unpickler):
    """Unpickles lists, bytes, numbers and arrays, but nothing that could run code."""

    def find_class(self, module: str, name: str):
        key = module.replace("numpy.core.", "numpy._core."), name
        if key not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _HARMLESS[key]


def read_bin(file: Path) -> tuple[list[bytes], Pairs]:
    """The images of a `.bin` verification file, encoded as JPEG or PNG, and its pairs. The file is a
    pickle of (images, same); images 2k and 2k + 1 are a pair, and the ten folds follow one another.
    Raises ValueError if it is anything else, without running what it holds."""
    try:
        with open(file, "rb") as opened:
            images, same = _HarmlessUnpickler(opened, encoding="bytes").load()
        contents = [
            image if isinstance(image, bytes) else np.asarray(image, np.uint8).tobytes()
            for image in images
        ]
        same = np.array([bool(flag) for flag in same])
    except Exception as error:  # an unpickler raises anything, given something else
        raise ValueError(f"{file}: not a verification .bin of images and pairs ({error})") from None
    if len(contents) != 2 * len(same) or not len(same):
        raise ValueError(f"{file}: {len(contents)} images for {len(same)} pairs, two each are wanted")
    rows = np.arange(len(same))
    fold = rows * BIN_FOLDS // len(same)
    return contents, Pairs(first=2 * rows, second=2 * rows + 1, same=same, fold=fold)


def image_shape(
    content: bytes, file: Path, size: Sequence[int] | None, channels: int | None
) -> tuple[int, int, int]:
    """(channels, height, width) of an encoded image, unless `size` and `channels` say otherwise. Raises
    ValueError that names the `file` it is from."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return channels or channels_of(image), *(size or image.size[::-1])
    except PIL_ERRORS as error:
        raise ValueError(f"{file}: its first image cannot be read ({error})") from None
