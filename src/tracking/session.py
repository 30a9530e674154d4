"""A run in W&B from its beginning to its end, whatever the server does meanwhile.

W&B's waiting is bounded, and a failure of its costs what it would have shown, never the run. A note in
the run's folder says what the server lacks; `make sync` sends that from the folder.
"""

import json
import logging
import os
import secrets
import threading
import time
from dataclasses import asdict, field
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from ..commands import command
from ..config.tree import Logger
from ..durable import write_text
from ..foreign import read_json
from .settings import (
    LONGEST,
    LONGEST_TAG,
    PROJECT,
    forget_client,
    mode_of,
    own_settings,
    reason,
    why_not_online,
)

log = logging.getLogger(__name__)
PATIENCE = 3  # seconds of waiting before the log says so
LOOKS = 3  # requests for what the server has, a second apart: uploads take a moment to show


About = Literal["project", "entity", "group", "name", "tags"]


@dataclass
class Note:
    """What `wandb/run.json` in a folder says: which W&B run shows it, and what its server lacks."""

    id: str
    identity: str | None = None  # of the run of this project
    about: dict[About, str | list[str] | None] = field(default_factory=dict)  # for wandb.init
    split: str | None = None  # that the rows of metrics.csv are measured on
    left: str | None = "not finished"  # why the server lacks something; None: it has everything


def note_of(folder: Path) -> Note | None:
    try:
        return Note(**read_json(folder / "wandb" / "run.json"))
    except (OSError, ValueError, TypeError):
        return None


class Session:
    """A W&B run that shows a folder. `id_from_environment`: use the id in WANDB_RUN_ID or from a W&B
    agent; False for a run of a sweep, which would share that id with the others. `about` goes to
    wandb.init."""

    def __init__(
        self,
        logger: Logger,
        folder: Path,
        *,
        id_from_environment: bool,
        about: dict,
        identity: str | None = None,
        split: str | None = None,
    ):
        self.folder, self.timeout = folder, logger.timeout
        self.id_from_environment = id_from_environment
        settings, kept = self._settings(), note_of(folder)
        if kept and kept.identity not in (
            None,
            identity,
        ):  # that configuration was refused, and is corrected now
            kept = None
        self.goes_on = kept is not None
        self.note = Note(self._id(settings, kept), identity, about, split)
        self.run, self.mode = None, mode_of(logger)
        self.last_step, self.media = 0, 0  # that were logged

    def _settings(self):
        settings = own_settings()
        if not self.id_from_environment:
            settings.run_id = settings.sweep_id = settings.sweep_param_path = None
        return settings

    @staticmethod
    def _id(settings, kept: Note | None) -> str:
        if settings.sweep_id and settings.run_id:  # from an agent
            return settings.run_id
        return kept.id if kept else settings.run_id or secrets.token_hex(6)

    def begin(self, config: dict | None = None, job_type: str | None = None) -> None:
        """Start it if the server can be had, and log where it is, or else why not and what to type."""
        why = why_not_online() if self.mode == "online" else None
        if self.mode == "online" and not why:
            self._write_note()
            why = self._init(config, job_type)
            if why:  # this client would refuse to begin the same run again
                forget_client()
                self._settings()
        if self.run:
            log.info(f"W&B: {self.run.url}")
            return
        self.note.left = why or "offline"
        self._write_note()
        said = f"W&B is offline ({why})" if why else "W&B is offline"
        later = command("sync", os.path.relpath(self.folder))
        log.log(logging.WARNING if why else logging.INFO, f"{said}; later: {later}")

    def _init(self, config: dict | None, job_type: str | None) -> str | None:
        """Why there is no run, if there is none."""
        import wandb

        limits = {"finish_timeout": self.timeout, "finish_timeout_raises": True}
        limits["init_timeout"] = min(self.timeout, 90)
        try:
            self.run = wandb.init(
                id=self.note.id,
                resume="allow" if self.goes_on else None,
                dir=None if os.environ.get("WANDB_DIR") else self.folder,
                mode="online",
                config=config,
                job_type=job_type,
                settings=wandb.Settings(silent=True, console="off", **limits),
                **self.note.about,
            )
        except Exception as error:  # of the client, the server, the disk
            return reason(error)
        return None

    def _write_note(self) -> None:
        path = self.folder / "wandb" / "run.json"
        try:
            write_text(path, json.dumps(asdict(self.note)) + "\n", encoding="utf-8")
        except OSError as error:
            log.warning(f"W&B: {error}")

    def end(self, exit_code: int = 0, lacks: str | None = None) -> None:
        """Finish it, wait for uploads no longer than `logger.timeout`, and note what the server lacks;
        `lacks` says what was not even sent."""
        if self.run is None:
            return
        waiting = f"waiting for W&B, at most {self.timeout:g} s (logger.timeout)"
        timer = threading.Timer(PATIENCE, lambda: log.info(waiting))
        timer.daemon = True
        timer.start()
        why, path = None, self.run.path
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
        why = why or self._lacking(path)
        if why:
            self._left(why)
        else:
            self.note.left = lacks
            self._write_note()

    def _lacking(self, path: str) -> str | None:
        """What the server lacks of the run, as it says itself; None if nothing. W&B's client leaves out
        what a server refuses, without a word to its caller."""
        import wandb

        try:
            run = wandb.Api(timeout=min(int(self.timeout) + 1, 19)).run(path)
            for look in range(LOOKS):
                time.sleep(look and 1)
                rows = max(run.lastHistoryStep, 0)
                files = [file.name for file in run.files()] if self.media else []
                media = sum(name.startswith("media/") for name in files)
                if rows >= self.last_step and media >= self.media:
                    return None
        except Exception as error:  # of the client, the server
            return reason(error)
        if rows < self.last_step:
            return f"its server has {rows} of {self.last_step} rows"
        return f"its server has {media} of {self.media} files"

    def _left(self, why: str) -> None:
        self.note.left = why
        self._write_note()
        again = command("sync", os.path.relpath(self.folder))
        log.warning(f"not uploaded to W&B ({why}): {again}")


def left_in_sweep(folder: Path) -> str | None:
    """One line on what of a sweep W&B's server lacks, and why; None if it has everything."""
    notes = [note_of(path) for path in sorted(folder.glob("[!.]*"))]
    reasons = [note.left for note in notes if note and note.left]
    if not reasons:
        return None
    why = reasons[0] + " and others" * (len(set(reasons)) > 1)
    number = f"{len(reasons)} runs are" if len(reasons) > 1 else "1 run is"
    return f"{number} not in W&B ({why}): {command('sync', os.path.relpath(folder))}"


def init_arguments(
    logger: Logger, settings, name: str, group: str | None, tags: list[str]
) -> dict[str, object]:
    """Return the arguments of wandb.init that name a run and place it: project, entity, group, name,
    tags. The `logger` group comes first, then WANDB_… variables, then defaults."""
    tags = [str(tag)[:LONGEST_TAG] for tag in tags if str(tag)]
    return {
        "project": logger.project or settings.project or PROJECT,
        "entity": logger.entity or settings.entity,
        "group": logger.group or settings.run_group or (group and group[-LONGEST:]),
        "name": name[-LONGEST:],
        "tags": list(dict.fromkeys(tags + (logger.tags or list(settings.run_tags or ())))),
    }
