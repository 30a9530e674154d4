"""What both sweepers share: how a sweep begins, how it launches runs, and how it ends."""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ..datasets.files import name_some
from ..durable import written_aside
from ..errors import INTERRUPTED, Interrupted, UserError, in_one_line, interrupt_once
from ..run.command_line import continue_command
from ..run.finished import in_words
from ..run.folder import claimed, is_claimed, read_summary, set_aside
from ..tracking import check_online, left_in_sweep
from .compose import Composer
from .console import Board, console
from .plan import STALE, Planned, plan

log = logging.getLogger(__name__)
ENDINGS = (signal.SIGINT, signal.SIGTERM)


class PlannedSweeper(Sweeper):
    """Holds a launcher; a kind of sweeper says in `run` what is launched.

    `grids` are lists of overrides as they would be typed; `compare` says whether a comparison is written
    at the end; `stale` what is done with finished runs that are not what would be computed now: keep
    them, rerun them, or auto, rerun those whose computing sources, images or files differ."""

    config: DictConfig
    context: HydraContext
    launcher: Launcher
    grids: list[str]
    compare: bool
    stale: str
    started = False

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        if self.stale not in STALE:
            raise UserError(f"hydra.sweeper.stale={self.stale}: choose one of {', '.join(STALE)}")
        self.config, self.context = config, hydra_context
        self.composer = Composer(hydra_context, config)
        self.varied: set[str] = set()  # keys that differ in the sweep
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def parse(self, arguments: list[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        return parser.parse_overrides(arguments)

    def parse_grids(self) -> list[list[Override]]:
        if isinstance(self.grids, str):
            raise UserError(f"hydra.sweeper.grids={self.grids}: a list, as in '[\"loss=softmax\"]'")
        try:
            return [self.parse(shlex.split(str(grid))) for grid in self.grids]
        except ValueError as error:
            raise UserError(f"hydra.sweeper.grids: {error}") from None

    def plan(self, jobs: Iterable[list[str]]) -> list[Planned]:
        runs = plan(self.composer, jobs, self.stale, self.varied)
        for run in runs:
            check_online(run.values["logger"])  # asks the server once
        return runs

    @property
    def shown_folder(self) -> str:
        return os.path.relpath(self.folder)

    def save_command(self) -> None:
        """The sweep's own configuration and command, beside its runs, as Hydra's sweeper does."""
        with written_aside(self.folder / "multirun.yaml") as beside:
            OmegaConf.save(self.config, beside)
        self.started = True

    def sweep(self, arguments: list[str]) -> Any:
        for asked in ENDINGS:
            signal.signal(asked, end_once)
        try:
            with claimed(self.folder):
                try:
                    overrides = self.parse(arguments)
                    self.varied = {o.key_or_group for o in overrides if o.is_sweep_override()}
                    self.varied |= {o.key_or_group for grid in self.parse_grids() for o in grid}
                    result = self.run(overrides)
                except (UserError, OSError):  # some runs failed, or the machine refused
                    self.write_comparison()
                    self.say_left()
                    raise
                self.write_comparison()
                self.say_left()
                return result
        except KeyboardInterrupt:
            command = continue_command("hydra.sweep.dir", self.folder)
            print(f"interrupted; finished runs are kept. To go on: {command}", file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            close = getattr(self.launcher, "close", None)
            if close:
                close()

    def run(self, overrides: list[Override]) -> Any:
        raise NotImplementedError

    def launch(self, runs: list[Planned], board: Board) -> list[JobReturn]:
        """Run all of them, however the launcher does it. A run whose process could not say why it ended
        is recorded as failed."""
        results = {}
        for run in runs:
            try:
                if run.differs and run.folder.is_dir():
                    set_aside(run.folder, run.mark)
            except OSError as error:  # the others can run
                why = f"cannot be set aside: {in_one_line(error)}"
                results[run.identity] = run.failed(UserError(why))
        ready = [run for run in runs if run.identity not in results]
        if not ready:
            launched = []
        elif hasattr(self.launcher, "launch_runs"):
            launched = self.launcher.launch_runs(ready, board)
        else:  # Hydra's, or another's: it composes again from the overrides, and shows its own lines
            launched = self.launcher.launch([run.overrides for run in ready], 0)
        for run, result in zip(ready, launched, strict=True):
            ended = None if result.status != JobStatus.FAILED else result._return_value
            lost = ended is not None and not isinstance(ended, Interrupted) and vanished(run.folder)
            results[run.identity] = run.lost(str(ended)) if lost else result
        return [results[run.identity] for run in runs]

    def stop_launcher(self) -> None:
        for ending in ("stop", "cancel"):
            getattr(self.launcher, ending, lambda: None)()

    def say_stale(self, runs: list[Planned]) -> None:
        """Name the finished runs that are not what would be computed now, why, and what becomes of
        them."""
        by_reason: dict[str, list[Planned]] = {}
        for run in runs:
            if run.differs:
                by_reason.setdefault(in_words(run.differs), []).append(run)
        for reason, own in by_reason.items():
            kept = sum(run.objective is not None for run in own)
            fate = [f"{kept} kept"] * bool(kept) + [f"{len(own) - kept} run again"] * (kept < len(own))
            console.print(
                f"{len(own)} finished {reason}: {', '.join(fate)} (hydra.sweeper.stale={self.stale}): "
                f"{name_some(run.name for run in own)}",
                markup=False,
            )

    def say_left(self) -> None:
        left = left_in_sweep(self.folder)
        if left:
            print(left, file=sys.stderr)

    def write_comparison(self) -> None:
        """The comparison at a sweep's end; whatever is wrong with it, the sweep is done."""
        if not (self.started and self.compare):
            return
        from ..analysis import compare_sweeps  # its imports take a second, needed only now

        try:
            compare_sweeps([self.folder], log_to_wandb=True)
        except UserError as error:
            print(f"no comparison was written: {error}", file=sys.stderr)
        except OSError as error:
            print(f"no comparison was written: {in_one_line(error)}", file=sys.stderr)
        except Exception:
            command = f"python -m src.compare {self.folder}"
            log.exception(f"no comparison was written; the runs are complete, try {command}")


def end_once(*_) -> None:
    print("ending the current runs; this takes a few seconds", file=sys.stderr)
    interrupt_once()


def vanished(folder: Path) -> bool:
    """Whether a run began in it and ended without a word, here or anywhere."""
    return folder.is_dir() and not read_summary(folder) and not is_claimed(folder)
