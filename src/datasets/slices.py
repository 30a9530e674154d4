"""Images that are parts of larger files."""

from pathlib import Path

import numpy as np

from .files import Files

MOST_BYTES = 2**28  # of one encoded image


class Slices(Files):
    """Images of which each is `places` (N, 3): the index of one of `files`, its first byte there, and
    how many bytes it has."""

    rowwise = ("places",)

    def __init__(self, files: list[Path], places: np.ndarray):
        self.files, self.places, self.shape = files, places, (len(places), 0, 0, 0)

    def content(self, row: int) -> bytes:
        which, first, size = self.places[row].tolist()
        with open(self.files[which], "rb") as file:
            file.seek(first)
            content = file.read(size)
        if len(content) != size:
            raise ValueError("the file has become shorter")
        return content

    def called(self, row: int) -> str:
        which, first, size = self.places[row].tolist()
        return f"{self.files[which]}: bytes {first} to {first + size}"

    def sizes(self) -> list[int]:
        return self.places[:, 2].tolist()
