"""The benchmarks of retrieval: half of the classes train, the other half are searched, all by all or
queries in a gallery.

Each is read from the files as they were published, below `root` or below its own folder there, and is
refused if it has other numbers of images and classes."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..losses import BadArgument
from .folder import samples_of
from .samples import Samples, followed_by, source_of_images
from .splits import Queries


class Listed(NamedTuple):
    """An image as a benchmark lists it: its file, its class, its part (train, test, query or gallery),
    and the camera, of persons."""

    image: Path
    label: str
    part: str
    camera: str = ""


# Numbers of images and classes of each part; None: however many.
Published = dict[str, tuple[int, int | None]]
CUB: Published = {"train": (5_864, 100), "test": (5_924, 100)}
CARS196: Published = {"train": (8_054, 98), "test": (8_131, 98)}
SOP: Published = {"train": (59_551, 11_318), "test": (60_502, 11_316)}
INSHOP: Published = {"train": (25_882, 3_997), "query": (14_218, 3_985), "gallery": (12_612, 3_985)}
MARKET1501: Published = {"train": (12_936, 751), "query": (3_368, 750)}
MARKET1501_GALLERY = 19_732  # files; of junk and distractors as well
PERSON = re.compile(r"(-1|\d{4})_c(\d)s\d_\d{6}_\d\d\.jpg")


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
    half = CUB["train"][1]
    listed = [
        Listed(
            folder / "images" / path,
            path.partition("/")[0],
            "train" if labels[key] <= half else "test",
        )
        for key, path in paths.items()
    ]
    return checked(root, listed, CUB)


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
    half = CARS196["train"][1]
    listed = [
        Listed(folder / path, f"{label:03d}", "train" if label <= half else "test")
        for path, label in rows
    ]
    return checked(root, listed, CARS196)


@followed_by(source_of_images)
def sop(root: Path) -> Samples:
    """Stanford Online Products, split as published. Reads Ebay_train.txt, Ebay_test.txt and the images
    that they name, of Stanford_Online_Products/. Raises ValueError, with the line, for other files."""
    folder = folder_of(root, "Stanford_Online_Products", "Ebay_train.txt", "Ebay_test.txt")
    listed = [
        Listed(folder / path, label, part)
        for part in ("train", "test")
        for _, label, _, path in lines_of(folder / f"Ebay_{part}.txt", 4, header=1)
    ]
    return checked(root, listed, SOP)


@followed_by(source_of_images)
def inshop(root: Path) -> Samples:
    """DeepFashion's In-Shop Clothes Retrieval: queries of 3,985 items search their gallery. Reads
    list_eval_partition.txt, in Eval/ or beside img/. Raises ValueError, with the line, for other
    files."""
    name = "list_eval_partition.txt"
    folder = folder_of(root, "inshop", f"Eval/{name}", or_else=(name,))
    file = next(file for file in (folder / "Eval" / name, folder / name) if file.is_file())
    above = next((each for each in (folder / "Img", folder) if (each / "img").is_dir()), folder)
    listed = []
    for path, label, part in lines_of(file, 3, header=2, path=0):
        if part not in INSHOP:
            raise ValueError(f"{file}: {path} is of {part[:60]!r}, expected {', '.join(INSHOP)}")
        listed.append(Listed(above / path, label, part))
    return checked(root, listed, INSHOP)


@followed_by(source_of_images)
def market1501(root: Path) -> Samples:
    """Market-1501, of persons: queries of 750 search a gallery that has others in it as well, each of
    whom is a class here; images of the query's person by its own camera do not count, and junk (-1) is
    left out. Reads bounding_box_train/, query/ and bounding_box_test/. Raises ValueError for other
    files."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    folder = folder_of(root, "Market-1501-v15.09.15", *folders.values())
    listed, files = [], 0
    for part, name in folders.items():
        for image in sorted((folder / name).glob("*.jpg")):
            files += part == "gallery"
            found = PERSON.fullmatch(image.name)
            if not found:
                raise ValueError(f"{image}: not named as published, as in 0002_c1s1_000451_03.jpg")
            person, camera = found.groups()
            if person != "-1":
                label = image.stem if person == "0000" else person  # nobody, another each time
                listed.append(Listed(image, label, part, camera))
    if files != MARKET1501_GALLERY:
        raise ValueError(
            f"{folder}/bounding_box_test: {files:,} images, published are {MARKET1501_GALLERY:,}"
        )
    return checked(root, listed, MARKET1501)


def folder_of(root: Path, name: str, *files: str, or_else: tuple[str, ...] = ()) -> Path:
    """The folder `name` in `root`, or `root` itself, that has these files and folders, or others."""
    for folder in (root / name, root):
        for there in (files, or_else):
            if there and all((folder / file).exists() for file in there):
                return folder
    raise BadArgument("root", root, f"expected {' and '.join(files)} in it or in {name}/")


def lines_of(file: Path, fields: int, header: int = 0, path: int = -1) -> list[list[str]]:
    """The lines of a list after its header, each of so many fields separated by spaces, of which the
    one at `path` is a path below the list's folder."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        parts = line.split(maxsplit=fields - 1)
        if number <= header or not parts:
            continue
        place = Path(parts[path])
        if len(parts) != fields or ".." in place.parts or place.is_absolute():
            raise ValueError(f"{file}: line {number} is not as published: {line[:100]!r}")
        found.append(parts)
    return found


def whole(file: Path, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{file}: class {text[:60]!r}, expected a whole number")
    return int(text)


def checked(root: Path, listed: list[Listed], published: Published) -> Samples:
    """The samples, if they are as many as were published; queries and gallery are the test's roles."""
    samples = samples_of(root, [one.image for one in listed], [one.label for one in listed])
    said = np.array([one.part for one in listed])
    for part, expected in published.items():
        own = samples.labels[said == part]
        images, classes = len(own), len(np.unique(own))
        if images != expected[0] or expected[1] not in (None, classes):
            numbers = f"{images:,} images of {classes:,} classes"
            want = f"{expected[0]:,}" + (f" of {expected[1]:,}" if expected[1] else "")
            raise ValueError(f"{root}: its {part} part has {numbers}, published are {want}")
    searched = np.isin(said, ("query", "gallery"))
    samples = samples._replace(parts=np.where(searched, "test", said))
    if not searched.any():
        return samples
    cameras = np.array([one.camera for one in listed])
    known = cameras if (cameras != "").any() else None
    return samples._replace(queries=Queries(np.where(searched, said, ""), known))
