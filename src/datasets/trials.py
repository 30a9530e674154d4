"""Lists of trials: pairs of names, and whether both are of one class."""

import csv
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .limits import check_file, printable

MOST_BYTES = 2**33
LABELS = {
    **dict.fromkeys(("1", "target", "true"), True),
    **dict.fromkeys(("0", "nontarget", "imposter", "impostor", "false"), False),
}


class Trials(NamedTuple):
    """Names `first` and `second` (P,), `same` (P,), and the line (P,) of each trial in its `file`."""

    file: Path
    first: list[str]
    second: list[str]
    same: np.ndarray
    lines: np.ndarray


def read_trials(file: Path, known: Collection[str] = ()) -> Trials:
    """Read a list with a trial per line, its fields separated by spaces, tabs or commas: `1 a b` as
    VoxCeleb has them, or `a b target` as NIST does. A header is skipped: a first line that names none of
    the `known` samples. Raises ValueError, with the line, for anything else."""
    check_file(file, MOST_BYTES)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{file}: not a text of trials ({printable(error)})") from None
    rows, numbers = fields_of(file, text.splitlines())
    if not rows:
        raise ValueError(f"{file}: has no trials")
    last = [field.lower() in LABELS for field in rows[-1]]
    place = 0 if (last[0] and rows[0][0].lower() in LABELS) or not last[2] else 2
    if len(rows) > 1 and not set(rows[0]) & set(known) and not rows[0][place].isdigit():
        rows, numbers = rows[1:], numbers[1:]  # a header
    said = [fields[place] for fields in rows]
    means = {label: LABELS.get(label.lower()) for label in set(said)}
    unknown = next((row for row, label in enumerate(said) if means[label] is None), None)
    if unknown is not None:
        expected = "expected 1 or 0, target or nontarget"
        raise ValueError(f"{file}: line {numbers[unknown]} says {said[unknown][:100]!r}, {expected}")
    same = np.array([means[label] for label in said], bool)
    first, second = ((1, 2), (0, 1))[place == 2]
    return Trials(file, [r[first] for r in rows], [r[second] for r in rows], same, np.array(numbers))


def fields_of(file: Path, lines: list[str]) -> tuple[list[list[str]], list[int]]:
    """The three fields of each line that is not empty, and the number of that line."""
    if lines and "," not in lines[0]:  # csv takes a quarter of the time, where single blanks separate
        rows = []
        with suppress(csv.Error):  # a line that is far too long
            rows = list(csv.reader(lines, delimiter=" ", quoting=csv.QUOTE_NONE))
        if len(rows) == len(lines) and all(len(row) == 3 and all(row) for row in rows):
            return rows, list(range(1, len(rows) + 1))
    rows, numbers = [], []
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line.split(",")] if "," in line else line.split()
        if not fields:
            continue
        if len(fields) != 3:
            raise ValueError(
                f"{file}: line {number} has {len(fields)} fields, expected `1 a b` or `a b target`"
            )
        rows.append(fields)
        numbers.append(number)
    return rows, numbers


def rows_of_trials(trials: Trials, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (P,) and (P,) of a trial's two samples among `names` (N,). Raises ValueError, with
    the line, for a name that is not there, or there twice."""
    row_of = rows_by_name(names)
    found = []
    for side in (trials.first, trials.second):
        rows = [row_of.get(name, -1) for name in side]
        if -1 in rows:
            at = rows.index(-1)
            place = f"{trials.file}: line {trials.lines[at]}"
            raise ValueError(f"{place} names {side[at][:200]}, which no sample is called")
        found.append(np.array(rows))
    return found[0], found[1]


def check_agreement(
    trials: Trials, rows: tuple[np.ndarray, np.ndarray], labels: np.ndarray, who: str
) -> None:
    """Raise ValueError, with the line, for a trial that says another thing than the labels (N,) of its
    `rows`, each (P,); `who` has these labels."""
    first, second = rows
    wrong = (labels[first] == labels[second]) != trials.same
    if wrong.any():
        at = int(wrong.argmax())
        says, has = ("one class", "two") if trials.same[at] else ("two classes", "one")
        raise ValueError(f"{trials.file}: line {trials.lines[at]} says {says}, {who} {has}")


def rows_by_name(names: np.ndarray) -> dict[str, int]:
    """Return the row of each name (N,). Raises ValueError for a name that is there twice."""
    row_of = {name: row for row, name in enumerate(names.tolist())}
    if len(row_of) < len(names):
        seen, counts = np.unique(names, return_counts=True)
        twice = f"{seen[counts.argmax()]} is the name of {counts.max()} samples"
        raise ValueError(f"{twice}: each needs one of its own")
    return row_of
