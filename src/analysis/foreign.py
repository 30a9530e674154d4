"""What lies in run folders that others made: configurations and arrays, read within limits."""

import math
import re
import zipfile
from pathlib import Path

import numpy as np
import yaml
from omegaconf import OmegaConf

from ..datasets.limits import check_zip, regular_file

MOST_YAML_BYTES, MOST_LEVELS = 2**20, 64
MOST_ARRAY_BYTES = 2**28
# `${loss.margin}`, and `${oc.select:loss.few_classes.margin,${loss.margin}}`.
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?(\w+(?:\.\w+)*)(?:,\s*([-+.\w]*|\$\{.*\}))?\}")
MOST_STEPS = 8  # from one key to the next


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


def read_config(path: Path) -> dict:
    """A configuration as Hydra wrote it, with references to its own keys followed. What would look
    anywhere else, as `${oc.env:…}`, stays as it is written: the environment of whoever reads it is no
    part of the run. Raises ValueError, or whatever YAML does, for a file that is none."""
    text = plain_yaml(path)
    config = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    return _followed(config, config)


def _followed(value: object, config: dict) -> object:
    if isinstance(value, dict):
        return {key: _followed(part, config) for key, part in value.items()}
    if isinstance(value, list):
        return [_followed(part, config) for part in value]
    return _looked_up(value, config)


def _looked_up(value: object, config: dict) -> object:
    for _ in range(MOST_STEPS):
        match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if not match:
            return value
        found: object = config
        for part in match[1].split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, (dict, list)):
            return value
        default = match[2] if found is None else None
        value = yaml.safe_load(default) if default and "$" not in default else default or found
    return value


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
