"""What lies in run folders that others made: configurations and arrays, read within limits."""

import math
import zipfile
from pathlib import Path

import numpy as np
import yaml

from ..datasets.limits import check_zip, regular_file

MOST_YAML_BYTES, MOST_LEVELS = 2**20, 64
MOST_ARRAY_BYTES = 2**28


def plain_yaml(path: Path) -> str:
    """The text of a YAML file that takes no more time and memory than its length. Raises ValueError for
    another, OSError, or YAMLError."""
    regular_file(path, MOST_YAML_BYTES)
    text, level = path.read_text(encoding="utf-8"), 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which can expand without end")
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    return text


def array_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape that an array of an .npz says it has. Raises as `read_arrays` does."""
    regular_file(path)
    with zipfile.ZipFile(path) as archive:
        return _header(archive, name)[0]


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz by their names, as far as they are there. Raises ValueError, OSError, KeyError,
    zlib.error or BadZipFile for a file that is torn, or would take more than MOST_ARRAY_BYTES."""
    regular_file(path)
    with zipfile.ZipFile(path) as archive:
        check_zip(archive, MOST_ARRAY_BYTES)
        there = [name for name in names if f"{name}.npy" in archive.namelist()]
        for name in there:
            shape, dtype = _header(archive, name)
            declared, held = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size
            if declared > held:
                raise ValueError(f"{name} is said to have {declared:,} bytes, and has {held:,}")
    with np.load(path) as kept:  # without unpickling
        return {name: kept[name] for name in there}


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is in another format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    return shape, dtype
