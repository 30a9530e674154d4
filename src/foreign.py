"""Files that anybody may have written, read within limits of their kind, size and depth: runs, sweeps
and data sets, since others' are compared and used."""

import json
import math
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .errors import UserError

if TYPE_CHECKING:  # it takes a tenth of a second
    import numpy as np

MOST_BYTES, MOST_YAML_BYTES = 2**27, 2**20
MOST_LEVELS = 64  # of nested lists and mappings
MOST_BRACKETS = 10**6  # of lists and mappings, each of which takes thirty times its two letters
# Bytes that arrays may take, or so many times the bytes of their file, whichever is more.
MOST_ARRAY_BYTES, MOST_EXPANSION = 2**28, 20
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast
# What a terminal acts on, or no encoding has: all control characters but a tab and a line's end.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: object) -> str:
    """A text with U+FFFD in the place of control characters."""
    return UNPRINTABLE.sub("\ufffd", str(text))


def one_line(error: Exception) -> str:
    """Return what a library says of a file: short, in one line, and without control characters."""
    own = error.strerror if isinstance(error, OSError) else None  # without the path again
    said = "".join(c if c.isprintable() else " " for c in str(own or error)[:1000])
    return " ".join(said.split())[:300] or type(error).__name__


def text_of(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return what is in a text file. Raises OSError, and ValueError for another or too large a one."""
    regular_file(path, most_bytes)
    return path.read_text(encoding="utf-8")


def regular_file(path: str | Path, most_bytes: int | None = None) -> int:
    """The size of a file in bytes. Raises ValueError for what is no file, as a pipe, which would never
    end, and for one of more than `most_bytes`; OSError if there is none. Opens nothing."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("a folder, pipe, socket or device, not a file")
    if most_bytes is not None and found.st_size > most_bytes:
        raise ValueError(f"{found.st_size:,} bytes, more than {most_bytes:,}")
    return found.st_size


def check_file(path: Path, most_bytes: int) -> None:
    """Raise ValueError, naming it, for a file that is none or too large."""
    try:
        regular_file(path, most_bytes)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from None


def check_zip(opened: zipfile.ZipFile, most_bytes: int) -> None:
    """Raise BadZipFile if a zip would expand to more than `most_bytes`, or in a way that cannot be
    stopped there. Read its members by `read(<their size>)`: without a number, zipfile expands first."""
    members = opened.infolist()
    size = sum(member.file_size for member in members)
    if size > most_bytes:
        raise zipfile.BadZipFile(f"would expand to {size:,} bytes, more than {most_bytes:,}")
    if {member.compress_type for member in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise zipfile.BadZipFile("compressed in an unusual way: zip it anew")


def read_json(path: Path) -> Any:
    """What is in a JSON file, its texts `printable`. Raises OSError, and ValueError for what is not
    JSON, too large or nested too deep."""
    text = text_of(path)
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise ValueError(f"it has more than {MOST_BRACKETS:,} lists and mappings")
    try:
        return plain(json.loads(text))
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep") from None


def read_yaml(path: Path) -> Any:
    """What is in a YAML file, as `read_json`. One with aliases is refused: a few bytes of them can
    expand without end."""
    text, level = text_of(path, MOST_YAML_BYTES), 0
    try:
        for event in yaml.parse(text, LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases, which can expand without end")
            level += isinstance(event, yaml.CollectionStartEvent)
            level -= isinstance(event, yaml.CollectionEndEvent)
            if level > MOST_LEVELS:
                raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
        return plain(yaml.load(text, LOADER))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def plain(data: Any, level: int = 0) -> Any:
    """The same lists, mappings and values, their texts `printable`. Raises ValueError if they are nested
    more than MOST_LEVELS deep, at which others' recursion ends in tracebacks."""
    if level > MOST_LEVELS:
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, list | tuple):
        return [plain(each, level + 1) for each in data]
    if isinstance(data, dict):
        return {plain(key, level + 1): plain(value, level + 1) for key, value in data.items()}
    return data


def own_folder(path: Path) -> Path:
    """A folder in somebody's folder, to write into. Raises UserError for a link, since what is written
    there would land elsewhere, over whatever is there, and for what is no folder."""
    if path.is_symlink():
        raise UserError(f"{path}: a link to {printable(os.readlink(path))}; remove it to write here")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: not a folder; remove it to write here")
    return path


def array_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape that an array of an .npz says it has. Raises as `read_arrays` does."""
    regular_file(path)
    with zipfile.ZipFile(path) as archive:
        return _header(archive, name)[0]


def read_arrays(path: Path, *names: str) -> "dict[str, np.ndarray]":
    """Arrays of an .npz by their names, as far as they are there; without names all. Raises ValueError,
    OSError, KeyError, zlib.error or BadZipFile for a file that is torn, or that would take more memory
    than MOST_ARRAY_BYTES, or MOST_EXPANSION times its size."""
    import numpy as np

    most_bytes = max(MOST_ARRAY_BYTES, MOST_EXPANSION * regular_file(path))
    with zipfile.ZipFile(path) as archive:
        check_zip(archive, most_bytes)
        held = [member.removesuffix(".npy") for member in archive.namelist()]
        there = [name for name in names or held if name in held]
        for name in there:
            shape, dtype = _header(archive, name)
            declared, has = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size
            if declared > has:
                raise ValueError(f"{name} is said to have {declared:,} bytes, and has {has:,}")
    with np.load(path) as kept:  # without unpickling
        return {name: kept[name] for name in there}


def _header(archive: zipfile.ZipFile, name: str) -> "tuple[tuple[int, ...], np.dtype]":
    import numpy as np

    with archive.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is in another format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    return shape, dtype
