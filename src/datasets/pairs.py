"""Verification sets: pairs of images, of the same person or not."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .files import PIL_ERRORS, SUFFIXES, channels_of, common_shape, examine, in_parallel, to_bytes
from .folder import collect, label
from .splits import Labelled, Pairs, Source

FOLDS = 10


def pairs(
    root: Path,
    *,
    pairs: str = "pairs.txt",
    train: str | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    min_images: int | None = 1,
    skip_broken: bool = False,
) -> Source:
    """Tests on the pairs that the file `root`/`pairs` lists: LFW's format over the folders of `root`,
    or a `.bin` file that holds the images too. Trains on the classes in `root`/`train`; without it, on
    those of `root` that no pair names; on none where only a `.bin` is there. Raises UserError naming a
    file, and the line, that is not right."""
    file = root / pairs
    if root.is_file():
        raise UserError(
            f"dataset.root={root}: a file; dataset.root={root.parent} dataset.pairs={root.name} reads it"
        )
    if not file.is_file():
        raise UserError(
            f"dataset.pairs={pairs}: not in dataset.root={root}; an LFW pairs file, or a .bin, is wanted"
        )
    binary = file.suffix == ".bin"
    if not binary:
        paths, listed = read_lfw(file, root)
        kinds, broken = examine(paths, whole=False)
        if broken:  # a protocol with a pair less is another protocol
            path, why = next(iter(broken.items()))
            raise UserError(f"{path}: named in {file}, not an image that can be read: {why}")
    else:
        contents, listed = read_bin(file)
        paths, kinds = [], []

    trained, skipped = None, ()
    if train is not None or not binary:
        folder = root / (train or "")
        found, seen, left_out = collect(folder, min_images, skip_broken)
        named = {path.relative_to(root).parts[0] for path in paths}
        free = [path.relative_to(folder).parts[0] not in named for path in found]
        if train is not None and not all(free):
            both = found[free.index(False)].relative_to(folder).parts[0]
            raise UserError(
                f"dataset.train={train}: {both} is in it and in {file}; pairs test those who were not "
                "trained on"
            )
        found = [path for path, keep in zip(found, free, strict=True) if keep]
        seen = [kind for kind, keep in zip(seen, free, strict=True) if keep]
        skipped = tuple(os.path.relpath(path, root) for path in left_out)
        if found:
            shape = common_shape(found + paths, seen + kinds, size, channels)
            trained = label(folder, found, root, shape)
    if binary:
        shape = trained.images.shape[1:] if trained else _shape_of(contents[0], file, size, channels)
        images = np.stack(in_parallel(lambda one: to_bytes(one, shape, file), contents))
        return Source(
            trained,
            Labelled(images, np.zeros(len(images), int), ("unknown",), pairs=listed),
            skipped=skipped,
        )
    if trained is None:
        shape = common_shape(paths, kinds, size, channels)
    tested = label(root, paths, root, shape)
    return Source(trained, tested._replace(pairs=listed), skipped=skipped)


def read_lfw(file: Path, root: Path) -> tuple[list[Path], Pairs]:
    """The images that an LFW pairs file names, each once, and its pairs.

    First line: `<folds> <n>`, or `<n>`, one fold; then for each fold n lines `<name> <i> <j>`, the same
    person, and n lines `<name> <i> <name> <j>`, two. Image i of a name is <name>/<name>_<i as 0001>."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        header = [int(part) for part in lines[0].split()]
        folds, each = header if len(header) == 2 else (1, *header)
        if min(folds, each) < 1:
            raise ValueError("both from 1")
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{file}: line 1 is not LFW's, the number of folds and of pairs ({error})"
        ) from None
    wanted = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if len(wanted) != 2 * folds * each:
        raise UserError(
            f"{file}: {len(wanted)} pairs; its first line says {folds} × 2 × {each} = {2 * folds * each}"
        )
    rows: dict[Path, int] = {}
    known: dict[tuple[str, str], Path] = {}

    def row(name: str, image: str, number: int) -> int:
        if (name, image) not in known:
            known[name, image] = _lfw_image(file, root, name, image, number)
        return rows.setdefault(known[name, image], len(rows))

    found = []
    for number, line in wanted:
        parts = line.split("\t") if "\t" in line else line.split()
        if len(parts) not in (3, 4):
            raise UserError(f"{file}: line {number} is neither `name i j` nor `name i name j`: {line!r}")
        first, second = (parts[0], parts[1]), (parts[-2] if len(parts) == 4 else parts[0], parts[-1])
        found.append((row(*first, number), row(*second, number), first[0] == second[0]))
    first, second, same = map(np.array, zip(*found, strict=True))
    return list(rows), Pairs(first, second, same, np.arange(len(found)) // (2 * each))


def _lfw_image(file: Path, root: Path, name: str, image: str, number: int) -> Path:
    if not image.isdecimal() or name in ("", ".", "..") or "/" in name or "\\" in name:
        raise UserError(f"{file}: line {number} names no image: {name!r} {image!r}")
    stem = f"{name}_{int(image):04d}"
    for suffix in (".jpg", ".png", *sorted(SUFFIXES)):
        path = root / name / f"{stem}{suffix}"
        if path.exists():
            return path
    raise UserError(f"{file}: line {number} wants {root / name / stem}.jpg, which is not there")


# All that a pickle of lists, bytes, numbers and arrays asks for; numpy 1 says `core`, 2 `_core`.
_PLAIN = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numpy._core.numeric", "_frombuffer"): lambda buffer, dtype, shape, order: np.frombuffer(
        buffer, dtype
    ).reshape(shape, order=order),
    # How Python 3 writes bytes that Python 2 can read.
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin1"),
}


class _Plain(pickle.Unpickler):
    """Unpickles lists, bytes, numbers and arrays; nothing that could run."""

    def find_class(self, module: str, name: str):
        key = module.replace("numpy.core.", "numpy._core."), name
        if key not in _PLAIN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _PLAIN[key]


def read_bin(file: Path) -> tuple[list[bytes], Pairs]:
    """The images, as the JPEG files they are, and the pairs of a `.bin` verification file: a pickle of
    (images, same), images 2k and 2k + 1 a pair; ten folds, one after the other."""
    try:
        with open(file, "rb") as opened:
            images, same = _Plain(opened, encoding="bytes").load()
        contents = [
            image if isinstance(image, bytes) else np.asarray(image, np.uint8).tobytes()
            for image in images
        ]
        same = np.array([bool(one) for one in same])
    except Exception as error:  # whatever a file that is no such pickle makes of the unpickler
        raise UserError(f"{file}: not a verification .bin of images and pairs ({error})") from None
    if len(contents) != 2 * len(same) or not len(same):
        raise UserError(f"{file}: {len(contents)} images for {len(same)} pairs, two each are wanted")
    rows = np.arange(len(same))
    return contents, Pairs(2 * rows, 2 * rows + 1, same, rows * FOLDS // len(same))


def _shape_of(
    content: bytes, file: Path, size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return channels or channels_of(image), *(size or image.size[::-1])
    except PIL_ERRORS as error:
        raise UserError(f"{file}: its first image cannot be read ({error})") from None
