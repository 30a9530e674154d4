"""Face recognition's training sets as insightface hands them out: MXNet's RecordIO, read without MXNet.

A file is a sequence of records: a magic number, a word with a length and what the record is a part of,
so many bytes, and zeros up to a multiple of four. Where the bytes hold the magic number themselves, the
record is divided there, without it. The bytes are a header with the label and then an encoded image.
Records without an image say which identities there are, which the images' own labels say as well.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..foreign import check_file
from .options import File
from .parts import NOT_SPLIT
from .samples import Samples, followed_by, source_of_images
from .slices import MOST_BYTES, Slices
from .tables import found

MAGIC = 0xCED7230A
WORDS = struct.Struct("<II")  # of a part: the magic number, then its kind (3 bits) and length (29 bits)
HEADER = struct.Struct("<IfQQ")  # how many labels follow, the label if that is 0, and two ids
WHOLE, FIRST, MIDDLE, LAST = range(4)
MOST_FILE_BYTES = 2**42


@followed_by(source_of_images)
def recordio(root: Path, *, file: File = "train.rec") -> Samples:
    """The images in the RecordIO file `root`/`file`, of which each record says the label. The index
    beside it is not needed. Raises ValueError that names the record which is wrong."""
    path = found(root, file)
    check_file(path, MOST_FILE_BYTES)
    return read_records(path)


class Records(Slices):
    """Images in the records of one file, with the number of each from 0."""

    rowwise = ("places", "numbers")

    def __init__(self, file: Path, places: np.ndarray, numbers: np.ndarray):
        super().__init__([file], places)
        self.numbers = numbers

    def content(self, row: int) -> bytes:
        _, image = unpacked(joined(super().content(row)))
        return image

    def called(self, row: int) -> str:
        return f"{self.files[0]}: record {self.numbers[row]}"


def read_records(path: Path) -> Samples:
    """The records of a file that hold images. Raises ValueError with the number of a record that is
    none, or whose label is none."""
    if not os.path.getsize(path):
        raise ValueError(f"{path}: an empty file")
    places, labels, numbers, number = [], [], [], 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            for first, last in records(content):
                label, image = unpacked(joined(content[first:last]))
                if image:
                    places.append((0, first, last - first))
                    labels.append(label)
                    numbers.append(number)
                number += 1
        except ValueError as error:
            raise ValueError(f"{path}: record {number}: {error}") from None
    if not places:
        raise ValueError(f"{path}: holds no images")
    return Samples(
        str(path),
        Records(path, np.array(places), np.array(numbers)),
        np.array([str(label) for label in labels]),
        np.array([str(number) for number in numbers]),
        np.full(len(places), NOT_SPLIT),
    )


def records(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where each record begins and ends. Raises ValueError where none does."""
    at, size = 0, len(content)
    while at < size:
        first, expected = at, (WHOLE, FIRST)
        while expected:
            if at + WORDS.size > size:
                raise ValueError(f"the file ends within it, at byte {size}")
            magic, word = WORDS.unpack_from(content, at)
            kind, length = word >> 29, word & (1 << 29) - 1
            if magic != MAGIC or kind not in expected:
                raise ValueError(f"none begins at byte {at}: not a RecordIO file, or a damaged one")
            at += WORDS.size + length
            if at > size:
                raise ValueError(f"the file ends within it, at byte {size}")
            if at - first > MOST_BYTES:
                raise ValueError(f"of {at - first:,} bytes, more than any image has")
            at += -length % 4
            expected = () if kind in (WHOLE, LAST) else (MIDDLE, LAST)
        yield first, min(at, size)


def joined(record: bytes) -> bytes:
    """The bytes of a record, its parts put together."""
    parts, at = [], 0
    while at + WORDS.size <= len(record):
        length = WORDS.unpack_from(record, at)[1] & (1 << 29) - 1
        at += WORDS.size
        parts.append(record[at : at + length])
        at += length + -length % 4
    return MAGIC.to_bytes(4, "little").join(parts)


def unpacked(record: bytes) -> tuple[int, bytes]:
    """The label and the encoded image of a record; where there is no image, the label means nothing.
    Raises ValueError for a label that is no whole number from 0."""
    if len(record) < HEADER.size:
        raise ValueError(f"{len(record)} bytes, too few for its header")
    count, label, _, _ = HEADER.unpack_from(record)
    image = record[HEADER.size + 4 * count :]
    if not image:
        return 0, b""
    if count:  # the first of so many
        (label,) = struct.unpack_from("<f", record, HEADER.size)
    if not (label >= 0 and float(label).is_integer()):
        raise ValueError(f"label {label}, expected a whole number from 0")
    return int(label), image
