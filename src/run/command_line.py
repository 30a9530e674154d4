"""A run as it is typed: the command that goes on with it, and what a folder may hold before it
begins."""

import os
import shutil
import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..commands import command, is_follower, started_with_others
from ..config import Config, read
from ..config.compose import explain, quoted
from ..errors import UserError, interrupt_once, on_interrupt
from .code import code_of
from .folder import RunFolder
from .start import with_start


def continue_command(key: str, folder: Path, typed_in: str | Path = ".") -> str:
    """The command that this process was started with, in the folder `typed_in`, going on in `folder`."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith(f"{key}=")]
    place = f"{key}={quoted(os.path.relpath(folder, typed_in))}"
    return command("train", *given, place)


def remove_refused(path: Path) -> None:
    """Remove what a run has made that was refused before it began to train: its folder, unless it was
    there before, and those above it."""
    folder = RunFolder(path)
    summary = folder.summary()
    if not (summary and summary.counts) and not folder.holds_work:
        remove_made(path)


def remove_made(path: Path) -> None:
    """Remove what Hydra and a run have made in a folder and above it, and was not there before."""
    if path.resolve() not in KeepRuns.made:
        return
    shutil.rmtree(path / ".hydra", ignore_errors=True)
    for name in ("summary.json", "train.log", ".lock"):
        (path / name).unlink(missing_ok=True)
    for each in KeepRuns.made:
        try:
            each.rmdir()
        except OSError:  # something else is there
            return


def config_of_task(composed: DictConfig, hydra: DictConfig) -> Config:
    """The configuration that Hydra composed for a run, by its own part of it. With hydra.job.chdir=true,
    Hydra has moved to the run's folder: relative paths begin where they were typed."""
    try:
        config = read(composed, hydra.overrides.task, hydra)
    except OmegaConfBaseException as error:  # as of an interpolation
        raise UserError(explain(error)) from None
    if not hydra.job.chdir:
        return config
    with_cwd = {"root": os.path.join(hydra.runtime.cwd, config.dataset.root)}
    source = config.init.source
    if source and not os.path.isabs(source.removeprefix("best:")):
        best = "best:" * source.startswith("best:")
        source = best + os.path.join(hydra.runtime.cwd, source.removeprefix("best:"))
    return config.replace(dataset=with_cwd, init={"source": source})


class KeepRuns(Callback):
    """Hydra callback: before Hydra writes into a folder, refuse one that holds another run, or this one
    finished, and values that are wrong on their own; and what Ctrl-C does in another's sweep.

    Hydra turns an ordinary exception in a callback into a warning; SystemExit gets through.
    """

    made: tuple[Path, ...] = ()  # folders of this process's run that were not there, from its own up

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        if not config.hydra.sweeper._target_.startswith("hydra_plugins.angular_penalty"):
            on_interrupt(interrupt_once)  # ours say for themselves how they end

    def on_run_start(self, config: DictConfig, **_) -> None:
        if is_follower():
            return
        try:
            path = Path(config.hydra.run.dir)
            KeepRuns.made = tuple(p for p in (path.resolve(), *path.resolve().parents) if not p.exists())
            folder = RunFolder(path)
            asked = with_start(read(config, config.hydra.overrides.task), folder)
        except UserError as error:
            sys.exit(str(error))
        except OmegaConfBaseException:  # as of an interpolation: the task says so
            return
        try:
            found = folder.finished(asked, code_of(asked))
        except UserError as error:
            sys.exit(f"hydra.run.dir={error}")
        # The task draws where a process ended while it drew, and speaks to others, which wait for it.
        if found and not folder.undrawn(found) and not started_with_others():
            print(f"{path}: finished already")
            sys.exit(0)
