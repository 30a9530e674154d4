"""Templates: samples that are compared as one, as in IJB, or a speaker's several utterances."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..foreign import check_file
from .tables import MOST_BYTES, Table, read_table, text_at
from .trials import rows_by_name

COLUMNS = ("name", "template")


class Templates(NamedTuple):
    """`names` (T,) of templates; for each line of the table (L,) its sample's row, its template, its
    media among all of a template's, and its weight."""

    names: np.ndarray
    rows: np.ndarray
    template: np.ndarray
    media: np.ndarray
    weight: np.ndarray
    table: Table
    lengths: bool = False
    mirrored: bool = False

    def mean(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the mean (T, D) over the media of each template of the mean over the samples of each of
        them, of embeddings (N, D) times their weights, as insightface's script for IJB has it. Where
        samples are `mirrored`, the second half of (2N, D) are their mirror images, and are added.
        Without `lengths`, embeddings are brought to unit length."""
        if self.mirrored:
            embeddings = np.add(*np.split(embeddings, 2))
        embeddings = embeddings.astype(np.float64)
        if not self.lengths:
            length = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings = embeddings / np.maximum(length, np.finfo(float).tiny)
        sums = np.zeros((self.media.max() + 1, embeddings.shape[1]))
        np.add.at(sums, self.media, self.weight[:, None] * embeddings[self.rows])
        counts = np.bincount(self.media)
        first = np.unique(self.media, return_index=True)[1]
        owner = self.template[first]
        found = np.zeros((len(self.names), embeddings.shape[1]))
        np.add.at(found, owner, sums / counts[:, None])
        return found / np.bincount(owner)[:, None]


def read_templates(file: Path, names: np.ndarray) -> Templates:
    """Read a table of templates: columns `name`, of a sample among `names` (N,), `template` and, if they
    are there, `media` and a positive `weight`; or IJB's own .txt of `name template media`. Raises
    ValueError, with the line, for anything else."""
    table = read_ijb(file) if file.suffix.lower() == ".txt" else read_table(file)
    for column in COLUMNS:
        if column not in table.columns:
            raise ValueError(f"{file}: has no column {column}; has {', '.join(table.columns)}")
    row_of = rows_by_name(names)
    count = len(table.numbers)

    def texts(column: str) -> list[str]:
        return [text_at(table, table.columns[column], row, column) for row in range(count)]

    named = texts("name")
    missing = [row for row, name in enumerate(named) if name not in row_of]
    if missing:
        row = missing[0]
        raise ValueError(f"{table.place(row)} names {named[row][:200]}, which no sample is called")
    templates = texts("template")
    media = texts("media") if "media" in table.columns else [""] * count
    weight = np.ones(count)
    if "weight" in table.columns:
        for row, value in enumerate(table.columns["weight"]):
            weight[row] = weight_of(table, row, value)
    found, template = np.unique(templates, return_inverse=True)
    pairs = [f"{one}\0{other}" for one, other in zip(templates, media, strict=True)]
    place = np.unique(pairs, return_inverse=True)[1]
    rows = np.array([row_of[name] for name in named])
    return Templates(found, rows, template, place, weight, table)


def read_ijb(file: Path) -> Table:
    """The table in a list as IJB-B and IJB-C hand it out: an image, its template and its media on each
    line, without a header."""
    check_file(file, MOST_BYTES)
    rows, numbers = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if fields and len(fields) != 3:
            raise ValueError(f"{file}: line {number} is not `name template media`: {line[:100]!r}")
        if fields:
            rows.append(fields)
            numbers.append(number)
    if not rows:
        raise ValueError(f"{file}: has no rows")
    columns = dict(zip((*COLUMNS, "media"), map(list, zip(*rows, strict=True)), strict=True))
    return Table(file, columns, numbers)


def weight_of(table: Table, row: int, value: object) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = 0.0
    if not 0 < weight < np.inf:
        raise ValueError(f"{table.place(row)}: weight {str(value)[:60]!r}, expected a number above 0")
    return weight


def label_of_templates(found: Templates, values: np.ndarray) -> np.ndarray:
    """Return the class, or the role, of each template (T,), given those of samples (N,). Raises
    ValueError, with the line, for one whose samples differ."""
    of_lines = values[found.rows]
    first = np.unique(found.template, return_index=True)[1]
    own = of_lines[first]
    wrong = np.flatnonzero(of_lines != own[found.template])
    if len(wrong):
        row = wrong[0]
        which, name = found.template[row], found.names[found.template[row]]
        both = f"{own[which]} and of {of_lines[row]}"
        raise ValueError(f"{found.table.place(row)}: template {name} has samples of {both}")
    return own
