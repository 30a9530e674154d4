"""Data sets that the processes of a sweep share: the first to need one reads it and writes its arrays to
a folder, and the others map them into memory, which the machine then holds once."""

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

LEAST_BYTES = 2**16  # of an array with a file of its own

_folder: Path | None = None


def share_images(folder: Path) -> None:
    """Share what this process reads from now on with all others that name the same folder, which belongs
    to this user's processes alone: what lies there is unpickled."""
    global _folder
    _folder = folder


def get(read: Callable, *arguments) -> Any:
    """What `read(*arguments)` returns, read by one process and shared by all. Exceptions of `read` are
    raised in each."""
    if _folder is None:
        return read(*arguments)
    key = hashlib.sha256(repr((read.__qualname__, *map(_named, arguments))).encode()).hexdigest()[:16]
    place = _folder / key
    try:
        _folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(_folder / f"{key}.lock")
        lock.acquire()
    except OSError:  # a full disk, or one without locks: each reads for itself
        return read(*arguments)
    try:
        if place.exists():
            return load(place)
        value = read(*arguments)
        with suppress(OSError, pickle.PicklingError, TypeError, AttributeError):  # as of open files
            save(value, place)
            return load(place)
        return value
    finally:
        lock.release()


def _named(value: Any) -> Any:
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else value


def save(value: Any, place: Path) -> None:
    """Write a value, its large arrays each to a file beside it; all of it or nothing."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".unfinished.") as name:
        folder = Path(name, "data")
        folder.mkdir()
        with open(folder / "value", "wb") as file:
            _Pickler(file, folder).dump(value)
        os.rename(folder, place)


def load(place: Path) -> Any:
    with open(place / "value", "rb") as file:
        return _Unpickler(file, place).load()


class _Pickler(pickle.Pickler):
    def __init__(self, file, folder: Path):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.folder, self.count = folder, 0

    def persistent_id(self, value: Any) -> str | None:
        if isinstance(value, np.memmap):
            raise pickle.PicklingError("mapped already, so that the machine holds it once")
        if type(value) is not np.ndarray or value.nbytes < LEAST_BYTES or value.dtype.hasobject:
            return None
        self.count += 1
        np.save(self.folder / f"{self.count}.npy", value)
        return f"{self.count}.npy"


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, folder: Path):
        super().__init__(file)
        self.folder = folder

    def persistent_load(self, name: str) -> np.ndarray:
        # Copied on writing, so that no run changes another's images.
        return np.load(self.folder / name, mmap_mode="c").view(np.ndarray)
