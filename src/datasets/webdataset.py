"""Tar archives in WebDataset's layout.

Python's own tarfile reads them: it says where in the archive each image lies, so that a batch reads just
its own. The library named webdataset reads archives from front to back, and shuffles within a buffer:
there is then no epoch that is one permutation of all images, and none that goes on where it was cut.
"""

import json
import re
import tarfile
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from ..foreign import check_file, one_line
from ..losses import BadArgument
from .files import SUFFIXES, composed
from .parts import OTHER_PARTS, PART_NAMES, parts_called
from .samples import Samples, followed_by, source_of_images
from .slices import MOST_BYTES, Slices
from .tables import Table, text_at

MOST_FILE_BYTES = 2**42
MOST_LABEL_BYTES = 2**20
LABEL = re.compile(r"[A-Za-z0-9_]+|json:.+")


def _label(value: str) -> str:
    if not LABEL.fullmatch(value):
        raise ValueError("expected the ending of the members that hold labels, as in cls, or json:<key>")
    return value


@followed_by(source_of_images)
def webdataset(
    root: Path,
    *,
    label: Annotated[str, AfterValidator(_label)] = "cls",
) -> Samples:
    """The images in the archives `root`/…/*.tar. A sample is what has one name up to the first dot: an
    image, and its label in a member that ends in `label`, or under a key of a .json, `json:<key>`.
    Archives whose names begin with train, val and test, or that are in folders of these names, are
    these parts. Raises ValueError that names the archive and the sample that is wrong."""
    archives = sorted(root.rglob("*.tar"), key=lambda path: composed(str(path)))
    if not archives:
        packed = next(iter(sorted(root.rglob("*.tar.*")) + sorted(root.rglob("*.tgz"))), None)
        if packed:
            raise ValueError(f"{packed}: is compressed, so that single images cannot be read: unpack it")
        raise BadArgument("root", root, "no .tar in it")
    return read_archives(root, archives, label)


class Members(Slices):
    """Images in archives, which messages call by `root` and name."""

    rowwise = ("places", "names")

    def __init__(self, files: list[Path], places: np.ndarray, root: Path, names: np.ndarray):
        super().__init__(files, places)
        self.root, self.names = root, names

    def called(self, row: int) -> str:
        return f"{self.root}/{self.names[row]}"


def read_archives(root: Path, archives: list[Path], label: str) -> Samples:
    """The samples of several archives, in their order."""
    divided = parts_called([part_word(path.relative_to(root)) for path in archives], str(root))
    places, labels, names, parts = [], [], [], []
    for number, path in enumerate(archives):
        check_file(path, MOST_FILE_BYTES)
        for name, (member, text) in read_archive(path, label).items():
            if member.size > MOST_BYTES:
                raise ValueError(f"{path}: {name}: an image of {member.size:,} bytes")
            places.append((number, member.offset_data, member.size))
            labels.append(composed(text))
            names.append(composed(f"{path.relative_to(root).as_posix()}/{member.name}"))
            parts.append(divided[number])
    if not places:
        raise ValueError(f"{root}: no samples in its archives")
    named = np.array(names)
    images = Members(archives, np.array(places), root, named)
    return Samples(str(root), images, np.array(labels), named, np.array(parts))


def part_word(path: Path) -> str:
    """The word in an archive's folders and name that says its part, or may; empty if there is none."""
    words = [*path.parts[:-1], re.match("[A-Za-z]*", path.name).group()]
    return next((word for word in words if {word.lower()} & (PART_NAMES.keys() | OTHER_PARTS)), "")


def read_archive(path: Path, label: str) -> dict[str, tuple[tarfile.TarInfo, str]]:
    """The image and label of each sample by its name."""
    ending, _, key = label.partition(":")
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                if not member.isreg() or member.issparse() or file.startswith("."):
                    continue
                stem, _, rest = file.partition(".")
                name = f"{folder}/{stem}" if folder else stem
                if Path(file).suffix.lower() in SUFFIXES:
                    if name in images:
                        others = f"{images[name].name} and {member.name}"
                        raise ValueError(f"sample {name[:100]} has two images, {others}")
                    images[name] = member
                elif rest.lower() == ending:
                    content = archive.extractfile(member).read(MOST_LABEL_BYTES)
                    labels[name] = label_in(path, name, content, key)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        said = str(error) if str(error).startswith(str(path)) else f"{path}: {one_line(error)}"
        raise ValueError(said) from None
    for name in (*images, *labels):
        if name not in labels or name not in images:
            what = f"label, no member {name[:100]}.{ending}" if name not in labels else "image"
            raise ValueError(f"{path}: sample {name[:100]} has no {what}")
    return {name: (member, labels[name]) for name, member in images.items()}


def label_in(path: Path, name: str, content: bytes, key: str) -> str:
    """The label that a member holds, as text, or under a `key` of its JSON."""
    place = Table(path, {}, [name[:100]], "sample")
    try:
        value = json.loads(content)[key] if key else content.decode().strip()
    except (ValueError, KeyError, TypeError, RecursionError):
        what = f"JSON with the key {key}" if key else "UTF-8"
        raise ValueError(f"{place.place(0)}: its label is not {what}") from None
    return text_at(place, [value], 0, "label")
