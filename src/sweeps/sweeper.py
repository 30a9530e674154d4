"""What both sweepers share: how a sweep begins, how it launches runs, and how it ends."""

import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..run.command_line import continue_command
from ..run.folder import claimed, is_claimed, read_summary, set_aside
from ..run.identity import describe_code
from ..tracking import check_online, left_in_sweep
from .console import Board, console
from .plan import STALE, Planned, plan

log = logging.getLogger(__name__)
ENDINGS = (signal.SIGINT, signal.SIGTERM)


class PlannedSweeper(Sweeper):
    """Holds a launcher; a kind of sweeper says in `run` what is launched.

    `grids` are lists of overrides as they would be typed; `compare` says whether a comparison is written
    at the end; `stale` what is done with finished runs of other code: keep them, rerun them, or auto,
    rerun those whose computing sources differ."""

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

    def plan(self, jobs) -> list[Planned]:
        runs = plan(self.context, self.config, jobs, self.stale)
        for run in runs:
            check_online(run.values["logger"])  # asks the server once
        return runs

    @property
    def shown_folder(self) -> str:
        return os.path.relpath(self.folder)

    def save_command(self) -> None:
        """The sweep's own configuration and command, beside its runs, as Hydra's sweeper does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        self.started = True

    def sweep(self, arguments: list[str]) -> Any:
        for asked in ENDINGS:
            signal.signal(asked, end_once)
        try:
            with claimed(self.folder):
                try:
                    result = self.run(self.parse(arguments))
                except UserError:  # some runs failed
                    self.write_comparison()
                    self.say_left()
                    raise
                self.write_comparison()
                self.say_left()
                return result
        except KeyboardInterrupt:
            command = continue_command("hydra.sweep.dir", self.folder)
            print(f"interrupted; finished runs are kept. To go on: {command}", file=sys.stderr)
            sys.exit(130)
        finally:
            close = getattr(self.launcher, "close", None)
            if close:
                close()

    def run(self, overrides: list[Override]) -> Any:
        raise NotImplementedError

    def launch(self, runs: list[Planned], board: Board) -> list[JobReturn]:
        """Run all of them, however the launcher does it. A run whose process could not say why it ended
        is recorded as failed."""
        for run in runs:
            if run.other_code is not None and run.folder.is_dir():
                set_aside(run.folder, run.other_code.get("sources", "unknown"))
        if hasattr(self.launcher, "launch_runs"):
            results = self.launcher.launch_runs(runs, board)
        else:  # Hydra's, or another's: it composes again from the overrides, and shows its own lines
            results = self.launcher.launch([run.overrides for run in runs], 0)
        return [
            run.lost(str(result._return_value))
            if result.status == JobStatus.FAILED and vanished(run.folder)
            else result
            for run, result in zip(runs, results, strict=True)
        ]

    def stop_launcher(self) -> None:
        for ending in ("stop", "cancel"):
            getattr(self.launcher, ending, lambda: None)()

    def say_stale(self, runs: list[Planned]) -> None:
        """Name the finished runs that are of other code, and what becomes of them."""
        by_code: dict[str, list[Planned]] = {}
        for run in runs:
            if run.other_code is not None:
                by_code.setdefault(describe_code(run.other_code), []).append(run)
        for code, own in by_code.items():
            kept = sum(run.objective is not None for run in own)
            fate = [f"{kept} kept"] * bool(kept) + [f"{len(own) - kept} run again"] * (kept < len(own))
            console.print(
                f"{len(own)} finished by other code ({code}; this is {describe_code(own[0].code)}): "
                f"{', '.join(fate)} (hydra.sweeper.stale={self.stale})",
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
        except Exception:
            command = f"python -m src.compare {self.folder}"
            log.exception(f"no comparison was written; the runs are complete, try {command}")


def end_once(*_) -> None:
    """Ctrl-C for a sweep: pressing it again while the runs end must not tear anything."""
    for asked in ENDINGS:
        signal.signal(asked, signal.SIG_IGN)
    print("ending the current runs; this takes a few seconds", file=sys.stderr)
    raise KeyboardInterrupt


def vanished(folder: Path) -> bool:
    """Whether a run began in it and ended without a word, here or anywhere."""
    return folder.is_dir() and not read_summary(folder) and not is_claimed(folder)
