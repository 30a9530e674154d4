"""A run in W&B from its beginning to its end, whatever the server does meanwhile.

W&B's waiting is bounded, and a failure of its costs what it would have shown, never the run. What it
wrote to disk stays there, and `make sync` uploads what the server lacks.
"""

import json
import logging
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ..commands import command
from ..config.tree import Logger
from ..durable import write_text
from .settings import (
    LONGEST,
    LONGEST_TAG,
    PROJECT,
    forget_client,
    mode_of,
    one_line,
    own_settings,
    reason,
    why_not_online,
)

log = logging.getLogger(__name__)
PATIENCE = 3  # seconds of waiting before it is said
# How W&B's log speaks of what a server answered.
REASONS = (r"HTTP \d{3}: [^.\n]+", r"\b\d{3} [A-Z][a-z]+( [A-Z][a-z]+)*", r"connection refused")


@dataclass
class Note:
    """What is kept in a folder of the W&B run that belongs to it: `wandb/run.json`."""

    id: str
    identity: str | None = None  # of the run that this project has under it
    files: str | None = None  # where W&B writes
    left: str | None = "not finished"  # why files are there that the server lacks


def note_of(folder: Path) -> Note | None:
    try:
        return Note(**json.loads((folder / "wandb" / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Session:
    """A W&B run that belongs to a folder. `own_id`: WANDB_RUN_ID and a W&B agent's id are meant for it;
    they are not for a run of a sweep, which would share them with the others."""

    def __init__(self, logger: Logger, folder: Path, *, own_id: bool, identity: str | None = None):
        self.folder, self.timeout = folder, logger.timeout
        self.own_id = own_id
        settings, kept = self._settings(), note_of(folder)
        if kept and kept.identity not in (None, identity):  # refused there, and mended now
            kept = None
        self.goes_on, self.earlier = kept is not None, kept and kept.files
        self.note = Note(self._id(settings, kept), identity)
        self.run, self.mode = None, mode_of(logger)

    def _settings(self):
        settings = own_settings()
        if not self.own_id:
            settings.run_id = settings.sweep_id = settings.sweep_param_path = None
        return settings

    @staticmethod
    def _id(settings, kept: Note | None) -> str:
        if settings.sweep_id and settings.run_id:  # an agent's
            return settings.run_id
        return kept.id if kept else settings.run_id or secrets.token_hex(6)

    def begin(self, **about) -> None:
        """Start it, online if W&B can be had and else offline, and say where it is. `about` goes to
        wandb.init."""
        why = None
        while time.strftime("%Y%m%d_%H%M%S") in (self.earlier or ""):
            time.sleep(0.05)  # W&B names its files by the second, and would write over those
        if self.mode == "online":
            why = why_not_online()
            if not why:
                self._write_note()
                why = self._init("online", about)
                if why:  # this client would refuse to begin the same run again
                    forget_client()
                    self._settings()
        if self.run is None:
            self._write_note()
            failed = self._init("offline", about)
            if failed:  # a full disk, say
                log.warning(f"W&B: {failed}: the run is not logged there")
                return
        self.note.files = str(Path(self.run.settings.sync_dir))
        self.note.left = "not finished" if self.online else why or "offline"
        self._write_note()
        self._supersede()
        if self.online:
            log.info(f"W&B: {self.run.url}")
        else:
            offline = f"W&B is offline ({why})" if why else "W&B is offline"
            where = os.path.relpath(self.note.files)
            log.log(logging.WARNING if why else logging.INFO, f"{offline}: files in {where}")

    @property
    def online(self) -> bool:
        return self.run is not None and self.run.settings.mode != "offline"

    def _init(self, mode: str, about: dict) -> str | None:
        """Why there is no run, if there is none."""
        import wandb

        limits = {"finish_timeout": self.timeout, "finish_timeout_raises": True}
        limits["init_timeout"] = min(self.timeout, 90)
        try:
            self.run = wandb.init(
                id=self.note.id,
                resume="allow" if self.goes_on and mode == "online" else None,
                dir=None if os.environ.get("WANDB_DIR") else self.folder,
                mode=mode,
                settings=wandb.Settings(silent=True, console="off", **limits),
                **about,
            )
        except Exception as error:  # of the client, the server, the disk
            return reason(error)
        return None

    def _write_note(self) -> None:
        path = self.folder / "wandb" / "run.json"
        try:
            write_text(path, json.dumps(vars(self.note)) + "\n", encoding="utf-8")
        except OSError as error:
            log.warning(f"W&B: {error}")

    def _supersede(self) -> None:
        """Earlier parts of this run need no upload any more: what W&B lacks of them, this part has."""
        current = Path(self.note.files)
        for part in current.parent.glob(f"*run-*-{self.note.id}"):
            if part != current and not part.is_symlink():
                mark_uploaded(part, self.note.id)

    def end(self, exit_code: int = 0) -> None:
        """Finish it, and wait for uploads no longer than `logger.timeout`."""
        if self.run is None:
            return
        waiting = f"waiting for W&B, at most {self.timeout:g} s (logger.timeout)"
        timer = threading.Timer(PATIENCE, lambda: log.info(waiting))
        timer.daemon = True
        timer.start()
        online, why = self.online, None
        try:
            self.run.finish(exit_code=exit_code)
        except TimeoutError:
            why = "no answer in time"
        except Exception as error:  # the client has died, say
            why = reason(error)
            forget_client()
        except BaseException:
            self._left("the waiting was ended")
            raise
        finally:
            timer.cancel()
        if not online and not why:
            return
        why = said_in_log(Path(self.note.files)) or why
        if why:
            self._left(why)
        else:
            mark_uploaded(Path(self.note.files), self.note.id)
            self.note.left = None
            self._write_note()

    def _left(self, why: str) -> None:
        self.note.left = why
        self._write_note()
        log.warning(f"not uploaded to W&B ({why}): {sync_command(self.note, self.folder)}")


def mark_uploaded(part: Path, run_id: str) -> None:
    """As `wandb sync` does, which then passes over it."""
    try:
        (part / f"run-{run_id}.wandb.synced").touch()
    except OSError as error:
        log.debug(f"{part}: {error}")


def was_uploaded(note: Note) -> bool:
    return bool(note.files) and Path(note.files, f"run-{note.id}.wandb.synced").exists()


def said_in_log(part: Path) -> str | None:
    """The last error that W&B's uploader wrote to its log in a part's folder. What a server refuses,
    W&B's client leaves out without a word to its caller."""
    try:
        lines = (part / "logs" / "debug-internal.log").read_text(errors="replace").splitlines()
    except OSError:
        return None
    errors = [entry for entry in map(_entry, lines) if str(entry.get("level")).startswith("ERROR")]
    if not errors:
        return None
    said = [f"{entry.get('msg')} {entry.get('error', '')}" for entry in errors]
    for pattern in REASONS:
        found = [match[0].strip() for match in (re.search(pattern, text) for text in said) if match]
        if found:
            return found[-1]
    return "no answer in time" if "context canceled" in said[-1] else one_line(said[-1])[:200]


def _entry(line: str) -> dict:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def sync_command(note: Note, folder: Path) -> str:
    """What to type to upload it."""
    files = Path(note.files) if note.files else folder
    root = folder if folder.absolute() in files.absolute().parents else files.parent
    return command("sync", os.path.relpath(root))


def left_in_sweep(folder: Path) -> str | None:
    """One line on what of a sweep W&B's server lacks, and why; None if it has everything."""
    found = [note_of(path) for path in sorted(folder.glob("[!.]*"))]
    notes = [note for note in found if note and note.left and not was_uploaded(note)]
    if not notes:
        return None
    reasons = list(dict.fromkeys(note.left for note in notes))
    why = reasons[0] + " and others" * (len(reasons) > 1)
    number = f"{len(notes)} runs are" if len(notes) > 1 else "1 run is"
    return f"{number} not in W&B ({why}): {sync_command(notes[0], folder)}"


def names(logger: Logger, settings, name: str, group: str | None, tags: list[str]) -> dict:
    """What a run is called and where it belongs, for wandb.init. WANDB_NAME takes the place of the
    folder's name before a run's own."""
    tags = [str(tag)[:LONGEST_TAG] for tag in tags if str(tag)]
    return {
        "project": logger.project or (None if settings.project else PROJECT),
        "entity": logger.entity,
        "group": logger.group or settings.run_group or (group and group[-LONGEST:]),
        "name": name[-LONGEST:],
        "tags": list(dict.fromkeys(tags + (logger.tags or list(settings.run_tags or ())))),
    }
