"""Image folders whose labels are in a metadata.csv, as Hugging Face has them."""

from pathlib import Path

import numpy as np

from .manifest import joined, read_listed
from .parts import NOT_SPLIT, parts_called
from .samples import Samples
from .tables import Table, read_table

NAMES = ("metadata.csv", "metadata.jsonl")
FILE_NAME, LABEL = "file_name", "label"


def find_metadata(root: Path, folders: dict[str, Path]) -> tuple[dict[str, Table], tuple[str, ...]]:
    """The table in `root`, or those in the `folders` of the parts, by part; and notes on tables that are
    there but have no labels. Raises ValueError for two tables in one folder, and if some of the folders
    have one and others have none."""
    tables, notes = {}, []
    for part, folder in {NOT_SPLIT: root, **folders}.items():
        files = [folder / name for name in NAMES if (folder / name).is_file()]
        if len(files) > 1:
            raise ValueError(f"{folder}: has {files[0].name} and {files[1].name}: which is it?")
        table = read_table(files[0]) if files else None
        if table and {FILE_NAME, LABEL} <= set(table.columns):
            tables[part] = table
        elif table:
            names = f"{FILE_NAME} and {LABEL}"
            notes.append(f"{files[0]}: not used, has no columns {names}; classes are the folders")
    if NOT_SPLIT in tables:
        return {NOT_SPLIT: tables[NOT_SPLIT]}, ()
    if tables and len(tables) < len(folders):
        without = next(folder for part, folder in folders.items() if part not in tables)
        raise ValueError(f"{without}: has no {NAMES[0]}, which the folders beside it have")
    return tables, tuple(notes)


def read_metadata(root: Path, tables: dict[str, Table]) -> Samples:
    """The images that the tables list. Where one table lists images in train/, test/ and the like, these
    are the parts."""
    every = []
    for part, table in tables.items():
        listed = read_listed(table, FILE_NAME, LABEL, {"split": "split"})
        if part != NOT_SPLIT:
            listed = listed._replace(
                parts=np.full(len(listed.labels), part),
                names=np.array([f"{table.file.parent.name}/{name}" for name in listed.names]),
            )
        elif "split" not in table.columns:
            folders = [name.partition("/")[0] for name in listed.names]
            listed = listed._replace(parts=np.array(parts_called(folders, str(table.file))))
        every.append(listed)
    return joined(str(root), every)
