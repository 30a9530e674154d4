"""Which weights a run begins with, by what they are and not by where they lie."""

import functools
import hashlib
from pathlib import Path

from ..config import Config
from ..errors import UserError
from .best import run_folder
from .folder import RunFolder, model_file


def start_file(source: str) -> Path:
    """The file of weights that `init.from` names, which may not be there. Raises UserError as
    `run_folder`."""
    return model_file(run_folder(Path(source)))


def with_start(config: Config, folder: RunFolder | None = None) -> Config:
    """The configuration with a hash of the weights that `init.from` names. Where these are gone it is
    the one that the run in `folder` began with: a run that was cut short needs them no more."""
    source = config.init.source
    if not source:
        return config
    try:
        return config.replace(start=content_hash(start_file(source)))
    except (UserError, OSError):  # which is refused where a run begins
        begun = folder.begun().get("config") if folder else None
        same = isinstance(begun, dict) and begun.get("init") == config.plain()["init"]
        return config.replace(start=begun.get("start") if same else None)


def content_hash(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(file)
    found = file.stat()
    return _content_hash(file.resolve(), found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=32)  # each run of a sweep asks
def _content_hash(file: Path, *state: int) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
