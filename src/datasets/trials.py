"""Lists of trials: pairs of names, and whether both are of one class."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..foreign import check_file, one_line

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
        raise ValueError(f"{file}: not a text of trials ({one_line(error)})") from None
    columns, numbers = columns_of(file, text)
    if not columns[0]:
        raise ValueError(f"{file}: has no trials")
    top, bottom = ([column[row] for column in columns] for row in (0, -1))
    last = [field.lower() in LABELS for field in bottom]
    place = 0 if (last[0] and top[0].lower() in LABELS) or not last[2] else 2
    if len(columns[0]) > 1 and not set(top) & set(known) and not top[place].isdigit():
        columns, numbers = [column[1:] for column in columns], numbers[1:]  # a header
    said = columns[place]
    means = {label: LABELS.get(label.lower()) for label in set(said)}
    if None in means.values():
        unknown = next(row for row, label in enumerate(said) if means[label] is None)
        expected = "expected 1 or 0, target or nontarget"
        raise ValueError(f"{file}: line {numbers[unknown]} says {said[unknown][:100]!r}, {expected}")
    same = np.array([means[label] for label in said], bool)
    first, second = columns[1:] if place == 0 else columns[:2]
    return Trials(file, first, second, same, np.array(numbers))


def columns_of(file: Path, text: str) -> tuple[list[list[str]], Sequence[int]]:
    """The three columns of a list, without its empty lines, and the number of each line that is left."""
    lines = text.splitlines()
    # All at once takes a tenth of the time, where single blanks separate.
    if lines and "," not in lines[0] and all(line.count(" ") == 2 for line in lines):
        fields = " ".join(lines).split(" ")
        if all(fields):
            return [fields[place::3] for place in range(3)], range(1, len(lines) + 1)
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
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], []], numbers


def rows_of_trials(
    trials: Trials, names: np.ndarray, what: str = "sample"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (P,) and (P,) of a trial's two samples among `names` (N,), which are those of
    `what`. Raises ValueError, with the line, for a name that is not there, or there twice."""
    row_of = rows_by_name(names)
    found = []
    for side in (trials.first, trials.second):
        rows = list(map(row_of.get, side))
        if None in rows:
            at = rows.index(None)
            place = f"{trials.file}: line {trials.lines[at]}"
            raise ValueError(f"{place} names {side[at][:200]}, which no {what} is called")
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
        raise ValueError(f"{trials.file}: line {trials.lines[at]} says {says}, but {who} say {has}")


def rows_by_name(names: np.ndarray) -> dict[str, int]:
    """Return the row of each name (N,). Raises ValueError for a name that is there twice."""
    row_of = {name: row for row, name in enumerate(names.tolist())}
    if len(row_of) < len(names):
        seen, counts = np.unique(names, return_counts=True)
        twice = f"{seen[counts.argmax()]} is the name of {counts.max()} samples"
        raise ValueError(f"{twice}: each needs one of its own")
    return row_of
