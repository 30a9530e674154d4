"""A run's folder: what lies in it, written so that a file is there whole or not at all.

    .hydra/  train.log  metrics.csv  checkpoint.pt  embeddings.npz  plots/*.png  summary.json (last)

These files are the truth about a run: comparing and resuming read nothing else. Besides, the process
that trains here holds `.lock`, and a file `stop`, put there by a search or by hand, ends the run after
its current epoch.
"""

import csv
import json
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from ..errors import Diverged, Pruned, UserError
from .identity import config_hash

log = logging.getLogger(__name__)

# Whose versions a run's numbers can depend on.
PACKAGES = (
    "angular-penalty",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "hydra-core",
)
LOCK_SECONDS = 10  # a killed sweep's workers may live that long
STALE = ".stale"  # what other code left: beside the runs of a sweep, and in a run's folder
# The states of a run that was trained to its end. A collapsed one tells nothing apart; it counts all the
# same, because leaving it out would flatter its setting.
DONE = ("finished", "collapsed")
# The state a run ended in, by what ended it; anything else is a failure.
STATES = {Diverged: "diverged", Pruned: "pruned"} | dict.fromkeys(
    (KeyboardInterrupt, SystemExit),
    "interrupted",  # by somebody, or by a cluster that queues it again
)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder for one process, until the block or the process ends. Raises UserError if another
    process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process is training in this folder") from None


def is_claimed(folder: Path) -> bool:
    """Whether a process is training in a folder right now."""
    if not (folder / ".lock").exists():
        return False
    try:
        with FileLock(folder / ".lock", blocking=False):
            return False
    except Timeout:
        return True


@contextmanager
def recorded(folder: Path, summary: dict) -> Iterator[None]:
    """Write `summary` to `summary.json` when the block ends, with the state it ended in (finished unless
    the block says collapsed; by an exception failed, diverged, pruned or interrupted), why, and the
    seconds it took. Exceptions go on."""
    began = time.perf_counter()
    summary["state"] = "finished"
    try:
        yield
    except BaseException as error:
        summary["state"] = STATES.get(type(error), "failed")
        summary["error"] = str(error) or type(error).__name__
        expected = isinstance(error, UserError | KeyboardInterrupt)
        # To the log file alone: the console gets what main makes of it.
        log.debug(f"{summary['state']}: {summary['error']}" if expected else traceback.format_exc())
        raise
    finally:
        summary["seconds"] = round(time.perf_counter() - began, 2)
        write_json(folder / "summary.json", summary)


def record_failure(folder: Path, error: str, **known) -> None:
    """Write what `recorded` would have written, for a run whose process was killed or timed out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "train.log", "a", encoding="utf-8") as log_file:
            log_file.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}][ERROR] {error}\n")
        write_json(folder / "summary.json", known | {"state": "failed", "error": error})
    except OSError as problem:  # a full disk is no reason to end the other runs
        log.error(f"{folder}: {error}; that could not be recorded: {problem}")


def read_summary(folder: Path) -> dict | None:
    """summary.json of a run; None where there is none, or none that can be read."""
    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def identity_in(folder: Path) -> str | None:
    """The `config_hash` of the run in a folder, finished or not; None if there is none, or none that can
    be told."""
    summary = read_summary(folder)
    if summary and "config_hash" in summary:
        return summary["config_hash"]
    try:
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        return config_hash(OmegaConf.to_container(config, resolve=True))
    except Exception:  # not a run's folder, or one that was killed while Hydra wrote
        return None


def holds_foreign_files(folder: Path) -> bool:
    """Whether files lie in a folder under a run's names that no run of this project left there."""
    names = ("summary.json", "checkpoint.pt", "metrics.csv", "embeddings.npz", "plots")
    return identity_in(folder) is None and any((folder / name).exists() for name in names)


def set_attempt_aside(folder: Path, why: str) -> None:
    """Move the checkpoint and rows of an attempt that cannot be resumed out of the way, and what W&B has
    of them, so that the next attempt is another run there."""
    kept, number = folder / STALE / why, 2
    while kept.exists():
        kept, number = kept.with_name(f"{why},{number}"), number + 1
    for name in ("checkpoint.pt", "metrics.csv", "wandb"):
        if (folder / name).exists():
            kept.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(kept / name)


def is_done(summary: dict | None) -> bool:
    """Whether a run was trained and evaluated to its end."""
    return bool(summary) and summary.get("state") in DONE


def holds_work(folder: Path) -> bool:
    """Whether a folder holds anything of a run that took time: a checkpoint, or the end of training."""
    return is_done(read_summary(folder)) or (folder / "checkpoint.pt").exists()


def set_aside(folder: Path, sources: str) -> Path:
    """Move a run that other code finished to `.stale` beside it, and return where it is now."""
    kept, number = folder.parent / STALE / f"{folder.name},{sources}", 2
    while kept.exists():
        kept, number = kept.with_name(f"{folder.name},{sources},{number}"), number + 1
    kept.parent.mkdir(exist_ok=True)
    return folder.rename(kept)


def objective_of(summary: dict, metric: str) -> float:
    """A finished run's metric on the validation split, or on the test split if nothing was held out."""
    return (summary.get("validation") or summary["metrics"])[metric]


def write_json(path: Path, content: dict) -> None:
    unfinished = path.with_suffix(".tmp")
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())  # otherwise the name may reach the disk before the content
    os.replace(unfinished, path)


def append_row(path: Path, row: dict) -> None:
    """Add a row to a CSV file, with its header if it is the first."""
    first = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if first:
            writer.writeheader()
        writer.writerow(row)


def keep_rows(path: Path, count: int) -> None:
    """Cut a CSV file after its first `count` rows; a kill may have left more, or half of one."""
    lines = path.read_bytes().splitlines(keepends=True)[: count + 1]
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(b"".join(lines))
    os.replace(unfinished, path)


def read_rows(path: Path) -> list[dict]:
    """The rows of metrics.csv, numbers as floats, without one that is still being written."""
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run's numbers can depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
