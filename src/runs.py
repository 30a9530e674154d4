"""A run's folder: what lies in it, written so that it is there whole or not at all.

    train.log  metrics.csv  checkpoint.pt  embeddings.npz  plots/*.png  summary.json (last)

These files are the truth about a run; whatever compares or goes on reads them.
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

from .errors import Diverged, UserError

log = logging.getLogger(__name__)


@contextmanager
def recorded(folder: Path, summary: dict) -> Iterator[None]:
    """Write `summary` to `summary.json` when the block ends, with the state it ended in: finished,
    failed or diverged, why, and the seconds it took. Exceptions go on."""
    began = time.perf_counter()
    summary["state"] = "finished"
    try:
        yield
    except BaseException as error:
        summary["state"] = "diverged" if isinstance(error, Diverged) else "failed"
        summary["error"] = str(error) or type(error).__name__
        # To the log file alone: the console gets what main makes of it.
        log.debug(summary["error"] if isinstance(error, UserError) else traceback.format_exc())
        raise
    finally:
        summary["seconds"] = round(time.perf_counter() - began, 2)
        write_json(folder / "summary.json", summary)


def write_json(path: Path, content: dict) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def append_row(path: Path, row: dict) -> None:
    """Add a row to a CSV file, with its header if it is the first."""
    first = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if first:
            writer.writeheader()
        writer.writerow(row)


def read_rows(path: Path) -> list[dict]:
    """The rows of metrics.csv, numbers as floats."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def versions() -> dict[str, str]:
    """What numbers can depend on: Python and the packages that compute."""
    found = {"python": platform.python_version()}
    for package in ("angular-penalty", "torch", "torchvision", "numpy", "scikit-learn", "hydra-core"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
