"""Images that a table lists with their labels."""

import os
import re
from pathlib import Path

import numpy as np

from ..losses import BadArgument
from .files import Files, composed, name_some
from .options import Column, File
from .parts import NOT_SPLIT
from .samples import Samples, followed_by, source_of_images
from .splits import Queries
from .tables import Table, column, found, part_at, read_table, role_at, text_at

WINDOWS = re.compile(r"^[A-Za-z]:/|\\")


@followed_by(source_of_images)
def manifest(
    root: Path,
    *,
    file: File,
    path_column: Column = "path",
    label_column: Column = "label",
    split_column: Column = "split",
    role_column: Column = "role",
    camera_column: Column = "camera",
) -> Samples:
    """The images that the table `root`/`file` lists: a CSV, TSV, JSON lines or Parquet file with a
    column of paths, from the table's folder or absolute, and one of labels. A column `split` of train,
    val (or validation) and test says which are which. With a column `role`, test images that are
    `query` or `both` search those that are `gallery` or `both`; with a column `camera` as well, images
    of one class and camera do not count for each other. Other columns are not used, and named in a
    note.

    Raises ValueError that names the line of an image that is listed twice, and of a label or split that
    is missing or unknown."""
    optional = {"split": split_column, "role": role_column, "camera": camera_column}
    return read_listed(read_table(found(root, file)), path_column, label_column, optional)


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


def joined(where: str, listed: list[Samples]) -> Samples:
    """The images of several tables."""
    places = [samples.images.places + np.array([k, 0]) for k, samples in enumerate(listed)]
    images = ListedFiles(
        np.concatenate([samples.images.paths for samples in listed]),
        [samples.images.tables[0] for samples in listed],
        np.concatenate(places),
    )
    each = ([getattr(samples, name) for samples in listed] for name in ("labels", "names", "parts"))
    notes = tuple(note for samples in listed for note in samples.notes)
    return Samples(where, images, *map(np.concatenate, each), notes=notes)


def read_listed(table: Table, path_column: str, label_column: str, optional: dict[str, str]) -> Samples:
    """The images that a table lists; `optional` names the columns of their split, role and camera."""
    folder = table.file.parent
    paths, labels = (
        column(table, path_column, "path_column"),
        column(table, label_column, "label_column"),
    )
    for what, name in optional.items():
        if name != what:
            column(table, name, f"{what}_column")
    if "role" in optional and optional["role"] not in table.columns:
        if optional["camera"] != "camera":
            why = "it counts beside a column of roles only, see role_column"
            raise BadArgument("camera_column", optional["camera"], why)
        optional = {what: name for what, name in optional.items() if what != "camera"}
    splits, roles, cameras = (
        table.columns.get(optional.get(what)) for what in ("split", "role", "camera")
    )
    first_row: dict[str, int] = {}
    listed: list[tuple[str, ...]] = []
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
        label = composed(text_at(table, labels, row, label_column))
        part = NOT_SPLIT if splits is None else part_at(table, splits, row)
        name = composed(os.path.relpath(path, folder))  # the same in any place
        role = role_at(table, roles, row, part) if roles else ""
        camera = text_at(table, cameras, row, "camera") if cameras and role else ""
        listed.append((path, label, name, part, role, camera))
    paths, *columns, role, camera = (np.array(values) for values in zip(*listed, strict=True))
    rows = np.arange(len(paths))
    files = ListedFiles(paths, [table], np.stack([0 * rows, rows], 1))
    used = (path_column, label_column, *optional.values())
    unused = [name for name in table.columns if name not in used]
    notes = (f"{table.file}: columns that are not used: {name_some(unused)}",) if unused else ()
    samples = Samples(str(table.file), files, *columns, notes=notes)
    if not roles:
        return samples
    return samples._replace(queries=Queries(role, camera if cameras else None))
