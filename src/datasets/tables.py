"""Tables of any usual kind, read to columns; what is wrong in one is named with its line."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..foreign import check_file, one_line
from ..losses import BadArgument
from .files import name_some
from .parts import NOT_SPLIT, PART_NAMES, ROLES

MOST_BYTES = 2**32
csv.field_size_limit(2**31 - 1)  # one value may list thousands of images; files are not larger than this
# The delimiter of each kind; semicolons are what spreadsheets write where the comma is decimal.
DELIMITED = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = {".jsonl", ".ndjson"}
TABLES = (*DELIMITED, *JSON_LINES, ".parquet")


class Table(NamedTuple):
    """Columns of equally many values, None where there is none, and the number of each row in the file:
    its `unit` is a line, or in a Parquet file a row."""

    file: Path
    columns: dict[str, list]
    numbers: Sequence[int]
    unit: str = "line"

    def place(self, row: int) -> str:
        """`labels.csv: line 7`, for messages."""
        return f"{self.file}: {self.unit} {self.numbers[row]}"


def read_table(file: Path) -> Table:
    """The table in a CSV, TSV, JSON lines or Parquet file. Raises ValueError, in one line that names the
    file and the line in it, for anything that is none."""
    suffix = file.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"{file}: not a table that is read here; those end in {', '.join(TABLES)}")
    check_file(file, MOST_BYTES)
    if suffix == ".parquet":
        columns = read_parquet(file).to_pydict()
        count = len(next(iter(columns.values()), []))
        table = Table(file, columns, list(range(1, count + 1)), "row")
    else:
        text = _text_of(file)
        rows = _json_rows(file, text) if suffix in JSON_LINES else _delimited_rows(file, text)
        table = _in_columns(file, rows)
    if not table.numbers:
        raise ValueError(f"{file}: has no rows")
    return table


def read_parquet(file: Path):
    """A Parquet file as a pyarrow.Table. Raises ValueError if it is none, or pyarrow is missing."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{file}: pyarrow is missing, pip install -e '.[parquet]'") from None
    try:
        return pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{file}: not a Parquet file ({one_line(error)})") from None


def _text_of(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}: line {line} is not UTF-8: save the file as UTF-8") from None


def _delimited_rows(file: Path, text: str) -> Iterator[tuple[int, dict]]:
    """The number of each line and its values, by the names in the first line."""
    first = text.partition("\n")[0].rstrip("\r")
    said = re.fullmatch("sep=(.)", first)  # as spreadsheets write for each other
    delimiter = said.group(1) if said else max(DELIMITED[file.suffix.lower()], key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 1
    try:
        for number, fields in _numbered(reader):
            fields = [field.strip() for field in fields]
            if not any(fields) or (said and number == 1):
                continue
            if not header:
                header = _header(file, number, fields)
            elif len(fields) != len(header):
                raise ValueError(
                    f"{file}: line {number} has {len(fields)} values, the header {len(header)} columns"
                )
            else:
                yield number, dict(zip(header, (field or None for field in fields), strict=True))
    except csv.Error as error:
        raise ValueError(f"{file}: line {reader.line_num or number}: {one_line(error)}") from None


def _numbered(reader) -> Iterator[tuple[int, list[str]]]:
    """Rows by the line that they begin on: a quoted value may hold line breaks."""
    begins = 1
    for fields in reader:
        yield begins, fields
        begins = reader.line_num + 1


def _header(file: Path, number: int, names: list[str]) -> list[str]:
    """The names of all columns; tools give an index none, and spreadsheets none to empty columns."""
    for name in filter(None, names):
        if names.count(name) > 1:
            what = f"twice the column {name[:100]!r}"
            raise ValueError(f"{file}: line {number} has {what}; it should name the columns")
    return [name or f"column {place} without a name" for place, name in enumerate(names, 1)]


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: line {number} is not JSON ({one_line(error)})") from None
        if not isinstance(row, dict):
            raise ValueError(f'{file}: line {number} is not a JSON object, as {{"path": …}}')
        yield number, row


def _in_columns(file: Path, rows: Iterator[tuple[int, dict]]) -> Table:
    columns: dict[str, list] = {}
    numbers: list[int] = []
    for number, row in rows:
        for name, value in row.items():
            if name not in columns:
                columns[name] = [None] * len(numbers)
            columns[name].append(value)
        numbers.append(number)
        for values in columns.values() if len(row) < len(columns) else ():
            values.extend([None] * (len(numbers) - len(values)))
    return Table(file, columns, numbers)


def column(table: Table, name: str, option: str) -> list:
    """Return a column by its name, which the argument `option` gives. Raises BadArgument that names the
    columns of the table."""
    if name not in table.columns:
        there = name_some(table.columns) or "none"
        raise BadArgument(option, name, f"no such column in {table.file}, whose columns are {there}")
    return table.columns[name]


def text_at(table: Table, values: list, row: int, what: str) -> str:
    """A value as text: whole numbers as such, also where a tool made 3.0 of 3. Raises ValueError, with
    the line, for none, and for what is neither text nor a whole number."""
    value = values[row]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or value == "" or value != value:
        raise ValueError(f"{table.place(row)} has no {what}")
    if not isinstance(value, str):
        raise ValueError(
            f"{table.place(row)}: {what} is {str(value)[:60]!r}, expected text or a whole number"
        )
    if not value.isprintable():
        raise ValueError(
            f"{table.place(row)}: {what} {value[:60]!a} has characters that are none to print"
        )
    return value


def part_at(table: Table, splits: list, row: int) -> str:
    """The part that a row is of. Raises ValueError, with its line, for a name of none."""
    said = text_at(table, splits, row, "split")
    if said.lower() not in PART_NAMES:
        raise ValueError(f"{table.place(row)}: split {said[:60]!r} is none of train, val and test")
    return PART_NAMES[said.lower()]


def role_at(table: Table, roles: Sequence[str], row: int, part: str) -> str:
    """The role of a row in searches; one that is trained on needs none. Raises ValueError, with its
    line, for another name."""
    said = str(roles[row] or "")
    if said not in ROLES and (said or part in (NOT_SPLIT, "test")):
        expected = ", ".join(ROLES)
        raise ValueError(f"{table.place(row)}: role {said[:100]!r}, expected one of {expected}")
    return said


def found(root: Path, file: str, option: str = "file") -> Path:
    """Return the path of `file`, from the `root`. Raises BadArgument, for the argument `option` that
    names it, if there is no such file."""
    path = root / Path(file).expanduser()
    if not path.exists():
        raise BadArgument(option, file, f"no such file, looked for {os.path.abspath(path)}")
    if path.is_dir():
        raise BadArgument(option, file, "a folder; name a file in it")
    return path
