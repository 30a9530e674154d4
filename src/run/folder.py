"""A run is a folder. `RunFolder` reads and writes it; summary.py has what its summary.json holds.

    .hydra/  train.log  metrics.csv  checkpoint.pt  best.pt (if asked for)  embeddings.npz
    frames.npz (of an animation)  summary.json  plots/*.png

These files are the truth about a run: comparing and resuming read nothing else. All others are on the
disk before summary.json is, and a row of metrics.csv before the checkpoint of its epoch. Only figures
come later, and then summary.json again, with their names. Besides, the process that trains here holds
`.lock`; `.hydra/run.json` says which run has begun here; and a file `stop`, put there by a search or by
hand, ends the run after its current epoch.
"""

import csv
import io
import itertools
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout
from pydantic import ValidationError

from .. import durable
from ..config import Config, differences, identity
from ..errors import UserError, in_one_line, os_errors_in_one_line
from ..foreign import read_json, text_of
from .code import Code
from .lock import locked
from .summary import Summary, first_mistake

log = logging.getLogger(__name__)

LAST, BEST = "checkpoint.pt", "best.pt"
SHOWN = 5  # keys that differ, in a line
MOST_ROW_BYTES, MOST_ROWS = 2**25, 10**6  # of metrics.csv
STALE = ".stale"  # what other code left: beside the runs of a sweep, and in a run's folder


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, which may not be there yet."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    # --------------------------------------------------------------------------------------- the summary

    def read_summary(self) -> Summary:
        """Return what summary.json says. Raises OSError where there is none, and ValueError, in one
        sentence, for one that no run of this version left."""
        try:
            return Summary.model_validate(read_json(self.path / "summary.json"))
        except ValidationError as error:
            raise ValueError(f"summary.json is not that of a run: {first_mistake(error)}") from None
        except ValueError as error:
            raise ValueError(f"summary.json cannot be read: {error}") from None

    def summary(self) -> Summary | None:
        """What summary.json says; None where there is none, or none that can be read."""
        try:
            return self.read_summary()
        except (OSError, ValueError):
            return None

    def write_summary(self, summary: Summary) -> None:
        write_json(self.path / "summary.json", summary.plain())

    @property
    def done(self) -> bool:
        summary = self.summary()
        return summary is not None and summary.done

    @property
    def running(self) -> bool:
        """Whether a process is training in the folder right now."""
        try:
            if not (self.path / ".lock").exists():
                return False
            locked(self.path / ".lock", 0).release()
            return False
        except Timeout:
            return True
        except OSError:  # nobody may look: then nobody trains there either
            return False

    @property
    def vanished(self) -> bool:
        """Whether a run began here and ended without a word, on this machine or any."""
        return self.path.is_dir() and self.summary() is None and not self.running

    @property
    def holds_work(self) -> bool:
        """Whether it holds anything of a run that took time: a checkpoint, or the end of training."""
        return self.done or (self.path / LAST).exists()

    def identity(self) -> str | None:
        """The identity of the run here, finished or not; None if there is none, or none that can be
        told."""
        summary = self.summary()
        return summary.identity if summary else self.begun().get("identity")

    def begun(self) -> dict[str, Any]:
        """`identity` and `config` of the run that has begun here; empty if none has."""
        try:
            found = read_json(self.path / ".hydra" / "run.json")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("identity"), str) else {}

    def begin(self, summary: Summary) -> None:
        """Record which run begins, and bring what Hydra wrote to the disk: it says what a checkpoint is
        of."""
        about = {"identity": summary.identity, "config": summary.config.plain()}
        write_json(self.path / ".hydra" / "run.json", about)
        for path in (self.path / ".hydra").glob("*.yaml"):
            durable.sync(path)
        for leftover in ("summary.json", "stop"):  # of an attempt that did not finish; its log stays
            (self.path / leftover).unlink(missing_ok=True)

    def holds_another(self, config: Config) -> str:
        """In words, what is other about the run here, which is not the one of `config`, and how a run of
        more epochs takes it further."""
        with suppress(ValidationError):
            summary = self.summary()
            there = summary.config if summary else Config.model_validate(self.begun()["config"])
            found = differences(there, config)
            some = "; ".join(list(found.values())[:SHOWN]) + " …" * (len(found) > SHOWN)
            text = f"holds another run ({some}), which would be overwritten; name a new folder"
            if "epochs" in found and (self.path / LAST).exists():
                text += f", in which init.from={self.path} begins with its weights"
            return text
        return "holds another run, which would be overwritten; name a new folder"

    def holds_foreign_files(self) -> bool:
        """Whether files lie here under a run's names that no run of this project left."""
        names = ("summary.json", LAST, "metrics.csv", "embeddings.npz", "plots")
        with os_errors_in_one_line():
            return self.identity() is None and any((self.path / name).exists() for name in names)

    # ------------------------------------------------------------------------------- what a run leaves

    def files(self) -> list[str]:
        """What a run leaves to be read, by its names in the folder."""
        names = ("metrics.csv", LAST, BEST, "embeddings.npz", "frames.npz")
        return [name for name in names if (self.path / name).exists()]

    def undrawn(self, summary: Summary) -> bool:
        """Whether figures of a finished run that were asked for are not there."""
        if not (summary.config.plots.figures or summary.config.plots.animate):
            return False
        return summary.figures is None or bool(self._absent(summary.figures))

    def lacking(self, summary: Summary) -> dict[str, str]:
        """The files of a finished run that are `missing` or `empty` now."""
        return self._absent(summary.files)

    def _absent(self, names: list[str]) -> dict[str, str]:
        states = {}
        for name in names:
            try:
                if not (self.path / name).stat().st_size:
                    states[name] = "empty"
            except OSError:
                states[name] = "missing"
        return states

    def differences(self, summary: Summary, config: Config, code: Code) -> dict[str, str]:
        """What sets a finished run apart from the same run now, in words that go on after "finished":
        the `code` that computes, the `commit` alone, `files` or `images`. Images are read only where
        neither code nor files have decided already."""
        found = {}
        if summary.code != code:
            kind = "commit" if summary.code.sources == code.sources else "code"
            found[kind] = f"by other code ({summary.code}; this is {code})"
        lost = self.lacking(summary)
        if lost:
            found["files"] = "but " + ", ".join(f"{name} is {state}" for name, state in lost.items())
        if summary.data and not {"code", "files"} & set(found):
            from .data import data_fingerprint  # torch takes a second

            now = data_fingerprint(config)
            if now not in (None, summary.data):
                found["images"] = f"on other images ({summary.data}; now they are {now})"
        return found

    def finished(self, config: Config, code: Code) -> Summary | None:
        """The run of `config`, if it is finished here; None if it is not, and may use this folder.
        Raises UserError if the folder holds another run, this one finished by other `code`, on other
        images or without some of its files, or files that are not a run's: nothing is overwritten."""
        if self.holds_foreign_files():
            raise UserError(f"{self.path}: holds files that are not a run's; choose another folder")
        summary = self.summary()
        if self.identity() not in (None, identity(config)) and self.holds_work:
            raise UserError(f"{self.path}: {self.holds_another(config)}")
        if not (summary and summary.done):  # of what was refused, another may try again
            return None
        why = self.refusal(summary, config, code)
        if why:
            raise UserError(f"{self.path}: {why}")
        return summary

    def refusal(self, summary: Summary, config: Config, code: Code) -> str | None:
        """Why a single run cannot be passed off as this finished one, and what to do; None if it can."""
        found = self.differences(summary, config, code)
        found.pop("commit", None)
        if not found:
            return None
        why = " and ".join(found.values())
        text = f"holds this run, finished {why}: name a new folder, or move this one away"
        if set(found) == {"files"} and LAST not in self.lacking(summary):
            text += "; without its summary.json it goes on from its checkpoint"
        return text

    # ---------------------------------------------------------------------------------- metrics.csv

    def append_row(self, rows: list[dict]) -> None:
        """Add the last of `rows` to metrics.csv, which holds those before it; on the disk when this
        returns."""
        text = as_csv(rows[-1:])
        durable.append(
            self.path / "metrics.csv", text if len(rows) == 1 else text[text.index("\n") + 1 :]
        )

    def restore_rows(self, rows: list[dict]) -> None:
        """Make metrics.csv hold exactly `rows`. A kill between an epoch's row and its checkpoint leaves
        more, which is in order; anything else is said."""
        path, wanted = self.path / "metrics.csv", as_csv(rows).encode()
        found = path.read_bytes() if path.is_file() else None
        if found == wanted:
            return
        if found is None or not found.startswith(wanted):
            state = (
                "is missing" if found is None else "does not hold the rows of the checkpoint's epochs"
            )
            log.warning(f"metrics.csv {state}: it is written again from the checkpoint")
        durable.write_text(path, wanted.decode(), encoding="utf-8")

    def rows(self) -> list[dict]:
        """The rows of metrics.csv, numbers as floats, without one that is still being written. Raises
        OSError, and ValueError for a file of something else."""
        path = self.path / "metrics.csv"
        text = text_of(path, MOST_ROW_BYTES)
        if text.count("\n") > MOST_ROWS:
            raise ValueError(f"{path}: more than {MOST_ROWS:,} rows")
        lines = text[: text.rfind("\n") + 1].splitlines()
        try:
            return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(lines)]
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from None

    # ----------------------------------------------------------------------------- moved out of the way

    def set_attempt_aside(self, why: str) -> None:
        """Move the checkpoint and rows of an attempt that cannot be resumed out of the way, and what W&B
        has of them, so that the next attempt is another run here."""
        kept = free_name(self.path / STALE / why)
        for name in (LAST, BEST, "metrics.csv", "wandb"):
            if (self.path / name).exists():
                kept.mkdir(parents=True, exist_ok=True)
                (self.path / name).rename(kept / name)

    def set_aside(self, sources: str) -> Path:
        """Move a run that other code finished, or that has changed since, to `.stale` beside it, and
        return where it is now; `sources` says in its name what is other."""
        kept = free_name(self.path.parent / STALE / f"{self.name},{sources}")
        kept.parent.mkdir(exist_ok=True)
        return self.path.rename(kept)

    def record_loss(self, error: str, about: Summary) -> None:
        """Write what `recorded` would have written, for a run whose process was killed or timed out."""
        try:
            self.log_line(error)
            self.write_summary(about.model_copy(update={"state": "failed", "error": error}))
        except OSError as problem:  # a full disk is no reason to end the other runs
            log.error(f"{self.path}: {error}; that could not be recorded: {in_one_line(problem)}")

    def log_line(self, error: str) -> None:
        """Add what a run's process could not say to its log."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "train.log", "a", encoding="utf-8") as log_file:
            log_file.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}][ERROR] {error}\n")


def model_file(folder: Path) -> Path:
    """The checkpoint of the model that a run is used by; a file is its own."""
    if folder.is_file():
        return folder
    return folder / BEST if (folder / BEST).is_file() else folder / LAST


def free_name(path: Path) -> Path:
    """`path`, or with a number behind its name if there is something already."""
    numbered = (path.with_name(f"{path.name},{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def write_json(path: Path, content: Mapping) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    durable.write_text(path, text + "\n", encoding="utf-8")


def as_csv(rows: list[dict]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
