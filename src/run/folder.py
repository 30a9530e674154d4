"""A run's folder: what lies in it, written so that a file is there whole or not at all.

    .hydra/  train.log  metrics.csv  checkpoint.pt  best.pt (if asked for)  embeddings.npz  summary.json
    plots/*.png

These files are the truth about a run: comparing and resuming read nothing else. All others are on the
disk before summary.json is, and a row of metrics.csv before the checkpoint of its epoch. Only pictures
come later, and then summary.json again, with their names. Besides, the process that trains here holds
`.lock`, and a file `stop`, put there by a search or by hand, ends the run after its current epoch.
"""

import csv
import errno
import functools
import io
import itertools
import json
import logging
import math
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from .. import durable
from ..errors import Diverged, Pruned, UserError, in_one_line
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
    durable.make_folder(folder)
    for above in folder.absolute().parents[:3]:  # Hydra makes outputs/<date>/<time>, and syncs nothing
        durable.sync_folder(above)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process is at work in this folder") from None


def sync_hydra_files(folder: Path) -> None:
    """Bring to the disk what Hydra wrote, which says what a checkpoint is of."""
    for path in (folder / ".hydra").glob("*.yaml"):
        durable.sync(path)


def is_claimed(folder: Path) -> bool:
    """Whether a process is training in a folder right now."""
    try:
        if not (folder / ".lock").exists():
            return False
        with FileLock(folder / ".lock", blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # nobody may look: then nobody trains there either
        return False


@contextmanager
def recorded(folder: Path, summary: dict) -> Iterator[None]:
    """Write `summary` to `summary.json` when the block ends, with the state it ended in (finished unless
    the block says collapsed; by an exception failed, diverged, pruned or interrupted), why, and the
    seconds it took. Exceptions go on. An OSError, of which a full disk is the commonest, becomes a
    UserError."""
    began = time.perf_counter()
    summary["state"] = "finished"
    try:
        with os_errors_in_one_line():
            yield
    except BaseException as error:
        summary["state"] = STATES.get(type(error), "failed")
        summary["error"] = str(error) or type(error).__name__
        expected = isinstance(error, UserError | KeyboardInterrupt)
        # To the log file alone: the console gets what main makes of it.
        log.debug(f"{summary['state']}: {summary['error']}" if expected else traceback.format_exc())
        try:
            finish_summary(folder, summary, began)
        except OSError as another:  # the first error says more
            log.error(f"that could not be recorded: {in_one_line(another)}")
        raise
    with os_errors_in_one_line():
        finish_summary(folder, summary, began)


def finish_summary(folder: Path, summary: dict, began: float) -> None:
    summary["seconds"] = round(time.perf_counter() - began, 2)
    if (folder / "train.log").exists():
        durable.sync(folder / "train.log")
    write_json(folder / "summary.json", summary)


@contextmanager
def os_errors_in_one_line() -> Iterator[None]:
    """An OSError of the block is the machine's fault or the user's, and becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(in_one_line(error)) from error


def record_failure(folder: Path, error: str, **known) -> None:
    """Write what `recorded` would have written, for a run whose process was killed or timed out."""
    try:
        log_line(folder, error)
        write_json(folder / "summary.json", known | {"state": "failed", "error": error})
    except OSError as problem:  # a full disk is no reason to end the other runs
        log.error(f"{folder}: {error}; that could not be recorded: {in_one_line(problem)}")


def log_line(folder: Path, error: str) -> None:
    """What a run's process could not say, as a line of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "train.log", "a", encoding="utf-8") as log_file:
        log_file.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}][ERROR] {error}\n")


def text_of(path: Path) -> str:
    """What is in a file. Raises OSError, at once also for a pipe, from which nothing may ever come."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "a folder, pipe, socket or device, not a file", str(path))
    return path.read_text(encoding="utf-8")


def read_summary(folder: Path) -> dict | None:
    """summary.json of a run; None where there is none, or none that can be read."""
    try:
        found = json.loads(text_of(folder / "summary.json"))
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
        config = OmegaConf.create(text_of(folder / ".hydra" / "config.yaml"))
        return config_hash(OmegaConf.to_container(config, resolve=True))
    except Exception:  # not a run's folder, or one that was killed while Hydra wrote
        return None


def holds_foreign_files(folder: Path) -> bool:
    """Whether files lie in a folder under a run's names that no run of this project left there."""
    names = ("summary.json", "checkpoint.pt", "metrics.csv", "embeddings.npz", "plots")
    with os_errors_in_one_line():
        return identity_in(folder) is None and any((folder / name).exists() for name in names)


def set_attempt_aside(folder: Path, why: str) -> None:
    """Move the checkpoint and rows of an attempt that cannot be resumed out of the way, and what W&B has
    of them, so that the next attempt is another run there."""
    kept = free_name(folder / STALE / why)
    for name in ("checkpoint.pt", "best.pt", "metrics.csv", "wandb"):
        if (folder / name).exists():
            kept.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(kept / name)


def free_name(path: Path) -> Path:
    """`path`, or with a number behind its name if there is something already."""
    numbered = (path.with_name(f"{path.name},{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def is_done(summary: dict | None) -> bool:
    """Whether a run was trained and evaluated to its end. One whose metrics are not numbers was not,
    whatever it says of itself."""
    return bool(summary) and summary.get("state") in DONE and not without_number(summary)


def without_number(summary: dict) -> list[str]:
    """The metrics in a run's summary that are NaN or infinite."""
    both = [summary.get(split) for split in ("metrics", "validation")]
    values = {name: value for split in both if isinstance(split, dict) for name, value in split.items()}
    return [n for n, value in values.items() if isinstance(value, float) and not math.isfinite(value)]


def holds_work(folder: Path) -> bool:
    """Whether a folder holds anything of a run that took time: a checkpoint, or the end of training."""
    return is_done(read_summary(folder)) or (folder / "checkpoint.pt").exists()


def set_aside(folder: Path, sources: str) -> Path:
    """Move a run that other code finished, or that has changed since, to `.stale` beside it, and return
    where it is now; `sources` says in its name what is other."""
    kept = free_name(folder.parent / STALE / f"{folder.name},{sources}")
    kept.parent.mkdir(exist_ok=True)
    return folder.rename(kept)


def objective_of(summary: dict, metric: str) -> float:
    """A finished run's metric on the validation split, or on the test split if nothing was held out.
    Raises UserError if it has none, as when another objective is asked of a run that was finished."""
    values = summary.get("validation") or summary.get("metrics") or {}
    if metric not in values:
        some = ", ".join(list(values)[:8]) + " …" * (len(values) > 8)
        raise UserError(f"objective={metric}: the finished run has no such metric, but {some or 'none'}")
    return values[metric]


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    durable.write_text(path, text + "\n", encoding="utf-8")


def append_row(path: Path, rows: list[dict]) -> None:
    """Add the last of `rows` to a CSV file that holds those before it; on the disk when this returns."""
    text = as_csv(rows[-1:])
    durable.append(path, text if len(rows) == 1 else text[text.index("\n") + 1 :])


def restore_rows(path: Path, rows: list[dict]) -> None:
    """Make a CSV file hold exactly `rows`. A kill between an epoch's row and its checkpoint leaves more,
    which is in order; anything else is said."""
    wanted = as_csv(rows).encode()
    found = path.read_bytes() if path.exists() else None
    if found == wanted:
        return
    if found is None or not found.startswith(wanted):
        state = "is missing" if found is None else "does not hold the rows of the checkpoint's epochs"
        log.warning(f"{path.name} {state}: it is written again from the checkpoint")
    durable.write_text(path, wanted.decode(), encoding="utf-8")


def as_csv(rows: list[dict]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: Path) -> list[dict]:
    """The rows of metrics.csv, numbers as floats, without one that is still being written. Raises
    OSError, and ValueError for what is none."""
    text = text_of(path)
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(lines)]
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from None


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run's numbers can depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
