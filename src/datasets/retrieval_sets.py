"""The benchmarks of deep metric learning: half of the classes train, the other half are searched.

Each is read from the files as they were published, below `root` or below its own folder there, and is
refused if it has other numbers of images and classes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..losses import BadArgument
from .folder import samples_of
from .samples import Samples, followed_by, source_of_images


class Published(NamedTuple):
    """Numbers of images and classes of each part."""

    train: tuple[int, int]
    test: tuple[int, int]


CUB = Published((5_864, 100), (5_924, 100))
CARS196 = Published((8_054, 98), (8_131, 98))
SOP = Published((59_551, 11_318), (60_502, 11_316))


@followed_by(source_of_images)
def cub(root: Path) -> Samples:
    """Caltech-UCSD Birds 200 (2011): the first 100 species train. Reads images.txt,
    image_class_labels.txt and images/ of CUB_200_2011/. Raises ValueError, with the line, for other
    files."""
    folder = folder_of(root, "CUB_200_2011", "images.txt", "image_class_labels.txt")
    paths = dict(lines_of(folder / "images.txt", 2))
    classes = dict(lines_of(folder / "image_class_labels.txt", 2))
    missing = paths.keys() ^ classes.keys()
    if missing:
        raise ValueError(f"{folder}: image {min(missing)} is in only one of its two lists")
    labels = {key: whole(folder / "image_class_labels.txt", label) for key, label in classes.items()}
    parts = ["train" if labels[key] <= CUB.train[1] else "test" for key in paths]
    names = [path.partition("/")[0] for path in paths.values()]
    images = [folder / "images" / path for path in paths.values()]
    return checked(root, images, names, parts, CUB)


@followed_by(source_of_images)
def cars196(root: Path) -> Samples:
    """Stanford Cars: the first 98 models train. Reads cars_annos.mat and car_ims/. Raises ValueError for
    other files."""
    from scipy.io import loadmat

    folder = folder_of(root, "cars196", "cars_annos.mat")
    try:
        annotations = loadmat(folder / "cars_annos.mat", squeeze_me=True)["annotations"]
        rows = [(str(one["relative_im_path"]), int(one["class"])) for one in np.atleast_1d(annotations)]
    except Exception as error:  # scipy raises anything, given something else
        raise ValueError(f"{folder}/cars_annos.mat: not the published annotations ({error})") from None
    parts = ["train" if label <= CARS196.train[1] else "test" for _, label in rows]
    images = [folder / path for path, _ in rows]
    return checked(root, images, [f"{label:03d}" for _, label in rows], parts, CARS196)


@followed_by(source_of_images)
def sop(root: Path) -> Samples:
    """Stanford Online Products, split as published. Reads Ebay_train.txt, Ebay_test.txt and the images
    that they name, of Stanford_Online_Products/. Raises ValueError, with the line, for other files."""
    folder = folder_of(root, "Stanford_Online_Products", "Ebay_train.txt", "Ebay_test.txt")
    images, labels, parts = [], [], []
    for part in ("train", "test"):
        for _, label, _, path in lines_of(folder / f"Ebay_{part}.txt", 4, header=True):
            images.append(folder / path)
            labels.append(label)
            parts.append(part)
    return checked(root, images, labels, parts, SOP)


def folder_of(root: Path, name: str, *files: str) -> Path:
    """The folder `name` in `root`, or `root` itself, that has these files."""
    for folder in (root / name, root):
        if all((folder / file).is_file() for file in files):
            return folder
    raise BadArgument("root", root, f"expected {' and '.join(files)} in it or in {name}/")


def lines_of(file: Path, fields: int, header: bool = False) -> list[list[str]]:
    """The lines of a list, each of so many fields separated by spaces."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        parts = line.split(maxsplit=fields - 1)
        if (header and number == 1) or not parts:
            continue
        if len(parts) != fields or ".." in Path(parts[-1]).parts or Path(parts[-1]).is_absolute():
            raise ValueError(f"{file}: line {number} is not as published: {line[:100]!r}")
        found.append(parts)
    return found


def whole(file: Path, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{file}: class {text[:60]!r}, expected a whole number")
    return int(text)


def checked(
    root: Path, images: list[Path], labels: list[str], parts: list[str], published: Published
) -> Samples:
    """The samples, if they are as many as were published."""
    samples = samples_of(root, images, labels)._replace(parts=np.array(parts))
    for part, expected in published._asdict().items():
        own = samples.labels[samples.parts == part]
        if (len(own), len(np.unique(own))) != expected:
            numbers = f"{len(own):,} images of {len(np.unique(own)):,} classes"
            want = f"{expected[0]:,} of {expected[1]:,}"
            raise ValueError(f"{root}: {numbers} in its {part} part, published are {want}")
    return samples
