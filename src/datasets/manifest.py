"""Images that a table lists with their labels."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .files import Files, composed, name_some
from .options import (
    Channels,
    ClosedOrOpen,
    Column,
    File,
    MinImages,
    Seed,
    Size,
    TestFraction,
)
from .parts import NOT_SPLIT
from .samples import Samples, source_of_images
from .splits import Source
from .tables import Table, column, found, part_at, read_table, text_at

WINDOWS = re.compile(r"^[A-Za-z]:/|\\")


def manifest(
    root: Path,
    *,
    file: File,
    path_column: Column = "path",
    label_column: Column = "label",
    split_column: Column = "split",
    split: ClosedOrOpen = "open_set",
    test_fraction: TestFraction = 0.2,
    split_seed: Seed = 0,
    size: Size = None,
    channels: Channels = None,
    min_images: MinImages = None,
    skip_broken: bool = False,
) -> Source:
    """The images that the table `root`/`file` lists: a CSV, TSV, JSON lines or Parquet file with a
    column of paths, from the table's folder or absolute, and one of labels. A column `split` of train,
    val (or validation) and test says which are which; without it, or for what it leaves out, they are
    drawn as by `image_folder`. Other columns are not used, and named in a note.

    Raises ValueError that names the line of an image that is not there, listed twice, or broken, and of
    a label or split that is missing or unknown. `skip_broken` leaves out images that are missing or
    broken, `min_images` small classes."""
    listed, notes = read_listed(read_table(found(root, file)), path_column, label_column, split_column)
    return source_of_images(
        listed,
        f"{root / file}",
        split=split,
        test_fraction=test_fraction,
        split_seed=split_seed,
        size=size,
        channels=channels,
        min_images=min_images,
        skip_broken=skip_broken,
        notes=notes,
    )


class ListedFiles(Files):
    """Files that messages call by their line in a table, too: `places` (N, 2) are indices of a table and
    of a row in it."""

    rowwise = ("paths", "places")

    def __init__(self, paths: np.ndarray, tables: list[Table], places: np.ndarray):
        super().__init__(paths)
        self.tables, self.places = tables, places

    def called(self, row: int) -> str:
        table, line = self.places[row]
        return f"{self.tables[table].place(line)}: {self.paths[row]}"


def joined(listed: list[Samples]) -> Samples:
    """The images of several tables."""
    places = [samples.images.places + np.array([k, 0]) for k, samples in enumerate(listed)]
    images = ListedFiles(
        np.concatenate([samples.images.paths for samples in listed]),
        [samples.images.tables[0] for samples in listed],
        np.concatenate(places),
    )
    rest = [np.concatenate(values) for values in list(zip(*listed, strict=True))[1:]]
    return Samples(images, *rest)


def read_listed(
    table: Table, path_column: str, label_column: str, split_column: str
) -> tuple[Samples, tuple[str, ...]]:
    """The images of a table, and what there is to say of it."""
    folder = table.file.parent
    paths, labels = (
        column(table, path_column, "path_column"),
        column(table, label_column, "label_column"),
    )
    if split_column != "split":
        column(table, split_column, "split_column")
    splits = table.columns.get(split_column)
    first_row: dict[str, int] = {}
    listed = _Columns([], [], [], [])
    for row in range(len(table.numbers)):
        typed = text_at(table, paths, row, path_column)
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(typed)))
        if WINDOWS.search(typed) and os.sep == "/" and not os.path.exists(path):
            why = "a path of Windows: write / for \\, and where the images are on this machine"
            raise ValueError(f"{table.place(row)}: {typed[:200]} is {why}")
        other = first_row.setdefault(path, row)
        if other != row:
            raise ValueError(
                f"{table.place(row)} names {typed[:200]}, as {table.unit} {table.numbers[other]} does: "
                "list each image once"
            )
        listed.paths.append(path)
        listed.labels.append(composed(text_at(table, labels, row, label_column)))
        listed.parts.append(NOT_SPLIT if splits is None else part_at(table, splits, row))
        listed.names.append(composed(os.path.relpath(path, folder)))  # the same in any place
    rows = np.arange(len(listed.paths))
    files = ListedFiles(np.array(listed.paths), [table], np.stack([0 * rows, rows], 1))
    unused = [name for name in table.columns if name not in (path_column, label_column, split_column)]
    notes = (f"{table.file}: columns that are not used: {name_some(unused)}",) if unused else ()
    labels, parts, names = map(np.array, (listed.labels, listed.parts, listed.names))
    return Samples(files, labels, names, parts), notes


class _Columns(NamedTuple):
    paths: list[str]
    labels: list[str]
    parts: list[str]
    names: list[str]
