"""What both sweepers share: how a sweep begins, how it launches runs, and how it ends."""

import logging
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from .. import errors
from ..commands import command
from ..config import BadKey
from ..config.classes import checked_node
from ..config.compose import Composer
from ..datasets.files import name_some
from ..durable import written_aside
from ..errors import INTERRUPTED, UserError, in_one_line, interrupt_once, on_interrupt
from ..run.build import check_config, check_config_here
from ..run.command_line import continue_command
from ..run.folder import RunFolder
from ..run.lock import claimed
from ..tracking import check_online, left_in_sweep
from ..words import counted
from .baselines import baselines_of
from .console import Board, console
from .loop import InOrder, Launcher, Loop, OtherLauncher, Source, check_subdir
from .plan import Planned, assign_folders, described

log = logging.getLogger(__name__)
Stale = Literal["auto", "keep", "rerun"]  # what to do with finished runs of other code


class PlannedSweeper(Sweeper):
    """Holds a launcher; a kind of sweeper says in `run` what is launched.

    `grids` are lists of overrides as they would be typed. `compare` writes a comparison at the end.
    `stale` decides about finished runs of other code or other images, or with missing files: keep,
    rerun, or auto, which keeps those where only the commit differs. `baselines` adds runs of softmax and
    pixels. `fail_fast` ends the sweep with its first failure. `params` are overrides by key; the command
    line wins."""

    config: DictConfig
    context: HydraContext
    launcher: Launcher
    grids: list[str]
    compare: bool
    stale: str
    baselines: bool
    fail_fast: bool
    params: dict[str, object] | None
    started = False  # whether runs may have been started
    stopped = False  # by the first failure
    number = 0  # of the next run

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        # Again, with the values converted to the types of the signature.
        self.__init__(**checked_node(type(self), config.hydra.sweeper, "hydra.sweeper."))
        check_subdir(config)
        self.config, self.context = config, hydra_context
        self.varied: set[str] = set()  # keys that differ in the sweep
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = launcher_of(config, hydra_context=hydra_context, task_function=task_function)
        check = check_config_here if self.launcher.here else check_config
        self.composer = Composer(hydra_context.config_loader, config, check)

    def parse(self, arguments: list[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        return parser.parse_overrides(arguments)

    def parse_grids(self) -> list[list[Override]]:
        try:
            return [self.parse(shlex.split(str(grid))) for grid in self.grids]
        except ValueError as error:
            raise UserError(f"hydra.sweeper.grids: {error}") from None

    def parse_line(self, arguments: list[str]) -> list[Override]:
        """What was typed, and before that those of `params` that were not."""
        params = {key: "null" if value is None else value for key, value in (self.params or {}).items()}
        given = self.parse([f"{key}={value}" for key, value in params.items()])
        typed = self.parse(arguments)
        replaced = {override.key_or_group for override in typed}
        return [override for override in given if override.key_or_group not in replaced] + typed

    def plan(self, jobs: Iterable[list[str]]) -> list[Planned]:
        return self.with_folders(described(self.composer, jobs)[0])

    def with_folders(self, runs: list[Planned]) -> list[Planned]:
        assign_folders(self.composer, runs, self.stale, self.varied)
        for run in runs:
            check_online(run.config.logger)  # asks the server once
        return runs

    def baselines_for(self, runs: list[Planned]) -> list[Planned]:
        """Return the runs of the baselines to compare `runs` with. A baseline that cannot run with the
        given overrides is named, with the reason."""
        if not self.baselines:
            return []
        found, refused = baselines_of(self.composer, runs)
        for name, why in refused.items():
            console.print(f"without the baseline {name}: {why}", markup=False)
        return found

    def launch_baselines(self, runs: list[Planned]) -> list[str]:
        """Run the baselines of finished runs; return a line for each that failed."""
        self.varied |= {"loss", "model"}  # baselines differ from the runs in these
        todo = InOrder(
            run for run in self.with_folders(self.baselines_for(runs)) if run.objective is None
        )
        self.launch(todo, len(todo.runs))
        return [
            f"baseline {run.name} failed: {outcome.error}"
            for run, outcome in zip(todo.runs, todo.all_outcomes(), strict=True)
            if outcome.objective is None
        ]

    def launch(self, source: Source, expected: int) -> None:
        """Run everything that a source gives."""
        with Board(expected) as self.board:
            loop = Loop(source, self.launcher, self.board, self.fail_fast, self.number)
            try:
                loop.run()
            finally:
                self.stopped |= loop.stopping
                self.number = loop.number

    @property
    def shown_folder(self) -> str:
        return os.path.relpath(self.folder)

    def save_command(self) -> None:
        """The sweep's own configuration and command, beside its runs, as Hydra's sweeper does."""
        with written_aside(self.folder / "multirun.yaml") as beside:
            OmegaConf.save(self.config, beside)
        self.started = True

    def sweep(self, arguments: list[str]) -> Any:
        on_interrupt(end_once)
        try:
            with claimed(self.folder):
                try:
                    overrides = self.parse_line(arguments)
                    self.varied = {o.key_or_group for o in overrides if o.is_sweep_override()}
                    self.varied |= {o.key_or_group for grid in self.parse_grids() for o in grid}
                    result = self.run(overrides)
                except (UserError, OSError):  # some runs failed, or the machine refused
                    self.conclude()
                    raise
                self.conclude()
                return result
        except BaseException as error:
            if not (isinstance(error, KeyboardInterrupt) or errors.interrupted):
                raise
            command = continue_command("hydra.sweep.dir", self.folder)
            print(f"interrupted; finished runs are kept. To resume: {command}", file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            self.launcher.close()

    def run(self, overrides: list[Override]) -> Any:
        raise NotImplementedError

    def conclude(self) -> None:
        """What is done at a sweep's end, whatever has become of its runs."""
        self.write_comparison()
        self.say_left()

    def say_stale(self, runs: list[Planned]) -> None:
        """Name the finished runs that are not what would be computed now, why, and what becomes of
        them."""
        by_reason: dict[str, list[Planned]] = {}
        for run in runs:
            if run.differs:
                by_reason.setdefault(" and ".join(run.differs.values()), []).append(run)
        for reason, own in by_reason.items():
            kept = sum(run.objective is not None for run in own)
            fate = [f"{kept} kept"] * bool(kept) + [f"{len(own) - kept} run again"] * (kept < len(own))
            console.print(
                f"{len(own)} finished {reason}: {', '.join(fate)} (hydra.sweeper.stale={self.stale}): "
                f"{name_some(run.name for run in own)}",
                markup=False,
            )

    def say_left(self) -> None:
        """Name what finished runs lack, in W&B and of figures, and the commands that mend it."""
        left = left_in_sweep(self.folder)
        if left:
            print(left, file=sys.stderr)
        runs = [RunFolder(path) for path in self.folder.glob("[!.]*/")]
        found = [(run, run.summary()) for run in runs]
        undrawn = [run for run, summary in found if summary and summary.done and run.undrawn(summary)]
        if undrawn:
            lack = counted(len(undrawn), "finished run lacks", "finished runs lack")
            print(f"{lack} figures: {command('draw', self.shown_folder)}", file=sys.stderr)

    def write_comparison(self) -> None:
        """The comparison at a sweep's end; whatever is wrong with it, the sweep is done."""
        if not (self.started and self.compare and any(self.folder.glob("[!.]*/.hydra"))):
            return
        from ..analysis import compare_sweeps  # its imports take a second, needed only now

        try:
            compare_sweeps([self.folder], log_to_wandb=True)
        except UserError as error:
            print(f"no comparison was written: {error}", file=sys.stderr)
        except OSError as error:
            print(f"no comparison was written: {in_one_line(error)}", file=sys.stderr)
        except Exception:
            again = command("compare", str(self.folder))
            log.exception(f"no comparison was written; the runs are complete, try {again}")


def launcher_of(config: DictConfig, **setup) -> Launcher:
    """Set up the launcher that was chosen: a plugin of Hydra's, or any class that is a `Launcher`."""
    target = config.hydra.launcher._target_
    if target.startswith(("hydra_plugins.", "hydra.")):
        made = Plugins.instance().instantiate_launcher(config=config, **setup)
        return made if isinstance(made, Launcher) else OtherLauncher(made)
    made = instantiate(config.hydra.launcher)
    made.setup(config=config, **setup)
    if not isinstance(made, Launcher):
        why = "is no launcher: it lacks some of here, slots, setup, start, poll, kill, close"
        raise BadKey("hydra.launcher._target_", target, why)
    return made


def end_once(*_) -> None:
    print("ending the current runs; this takes a few seconds", file=sys.stderr)
    interrupt_once()
