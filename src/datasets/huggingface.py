"""Image sets of the `datasets` library, as `save_to_disk` leaves them."""

import os
from pathlib import Path

import numpy as np

from ..foreign import one_line
from ..losses import BadArgument
from .files import Files, composed
from .options import Column
from .parts import NOT_SPLIT, PART_NAMES
from .samples import Samples, followed_by, source_of_images
from .tables import Table, column, text_at


@followed_by(source_of_images)
def huggingface(
    root: Path,
    *,
    image_column: Column = "image",
    label_column: Column = "label",
) -> Samples:
    """The images of a dataset, or of the train, validation and test part of several, that the `datasets`
    library has saved in `root`. Raises ValueError for a folder that is none, for columns that are not
    there, and, with the row, counted from 0, for a label or an image that is wrong."""
    parts = {part: undecoded(root, part, rows, image_column) for part, rows in saved_in(root).items()}
    images = Rows(list(parts), list(parts.values()), image_column, root)
    labels, names, of = [], [], []
    for part, rows in parts.items():
        labels += labels_of(Path(root, part), rows, label_column)
        names += [f"{part}/{row}".lstrip("/") for row in range(len(rows))]
        of += [PART_NAMES.get(part.lower(), NOT_SPLIT)] * len(rows)
    return Samples(str(root), images, *map(np.array, (labels, names, of)))


def saved_in(root: Path) -> dict:
    """What is saved in a folder, by part; of one part alone by the name ''."""
    try:
        import datasets
    except ImportError:
        raise ValueError("datasets is not installed, pip install -e '.[datasets]'") from None
    try:
        saved = datasets.load_from_disk(str(root))
    except Exception as error:  # torn or foreign: whatever pyarrow makes of it
        raise BadArgument("root", root, f"not what save_to_disk leaves ({one_line(error)})") from None
    if not isinstance(saved, datasets.DatasetDict):
        return {NOT_SPLIT: saved}
    unknown = [part for part in saved if part.lower() not in PART_NAMES]
    if unknown:
        raise ValueError(f"{root}: part {unknown[0]!r} is none of train, validation and test")
    return dict(saved)


def undecoded(root: Path, part: str, rows, image_column: str):
    """The rows, of which the images are bytes or paths. Raises ValueError for a column of others."""
    import datasets

    where = f"{root}/{part}".rstrip("/")
    column(Table(Path(where), rows.features, []), image_column, "image_column")
    if not isinstance(rows.features[image_column], datasets.Image):
        kind = type(rows.features[image_column]).__name__
        raise BadArgument("image_column", image_column, f"in {where} it holds {kind}, not images")
    if not len(rows):
        raise ValueError(f"{where}: has no rows")
    return rows.cast_column(image_column, datasets.Image(decode=False))


def labels_of(where: Path, rows, label_column: str) -> list[str]:
    """The labels of all rows as text."""
    import datasets

    column(Table(where, rows.features, []), label_column, "label_column")
    table = Table(where, {}, range(len(rows)), "row")
    values, feature = list(rows[label_column]), rows.features[label_column]
    if isinstance(feature, datasets.ClassLabel):
        known = range(feature.num_classes)  # -1 stands for unknown
        values = [feature.int2str(value) if value in known else None for value in values]
    return [composed(text_at(table, values, row, "label")) for row in range(len(values))]


class Rows(Files):
    """Images in rows of several `tables` by the names of their parts; `places` (N, 2) are indices of a
    table and of a row in it."""

    rowwise = ("places",)

    def __init__(self, parts: list[str], tables: list, image_column: str, root: Path):
        self.parts, self.tables, self.column, self.root = parts, tables, image_column, root
        each = [np.stack([np.full(len(t), k), np.arange(len(t))], 1) for k, t in enumerate(tables)]
        self.places = np.concatenate(each)
        self.shape = (len(self.places), 0, 0, 0)

    def content(self, row: int) -> str | bytes:
        table, place = self.places[row].tolist()
        image = self.tables[table][place][self.column] or {}
        if image.get("bytes") is None and not image.get("path"):
            raise ValueError("no image is there")
        return image["path"] if image.get("bytes") is None else image["bytes"]

    def called(self, row: int) -> str:
        table, place = self.places[row].tolist()
        return f"{self.root}/{self.parts[table]}".rstrip("/") + f": row {place}"

    def sizes(self) -> list[int]:
        contents = map(self.content, range(len(self)))
        return [len(found) if isinstance(found, bytes) else os.path.getsize(found) for found in contents]
