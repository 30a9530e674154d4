"""`hydra/sweeper=grid`: every combination of the values given, without what is finished already."""

import itertools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ..config import continue_command
from ..errors import UserError
from ..runs import claimed, is_claimed, read_summary
from .plan import Planned, plan
from .report import Board, console, show_failures

ENDINGS = (signal.SIGINT, signal.SIGTERM)


class PlannedSweeper(Sweeper):
    """What both sweepers share: a launcher, and how a sweep begins and ends."""

    config: DictConfig
    context: HydraContext
    launcher: Launcher
    grids: list[str]
    compare: bool  # whether to call `at_end`
    at_end: Callable[[Path], None] | None = None  # what is done with the sweep's folder at its end
    started = False

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        self.config, self.context = config, hydra_context
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def parse(self, arguments: list[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        return parser.parse_overrides(arguments)

    def save_command(self) -> None:
        """The sweep's own configuration and command, beside its runs, as Hydra's sweeper does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        self.started = True

    @property
    def shown_folder(self) -> str:
        return os.path.relpath(self.folder)

    def parse_grids(self) -> list[list[Override]]:
        if isinstance(self.grids, str):
            raise UserError(f"hydra.sweeper.grids={self.grids}: a list, as in '[\"loss=softmax\"]'")
        return [self.parse(shlex.split(grid)) for grid in self.grids]

    def end(self) -> None:
        if self.started and self.compare and self.at_end:
            type(self).at_end(self.folder)

    def stop_launcher(self) -> None:
        for ending in ("stop", "cancel"):
            getattr(self.launcher, ending, lambda: None)()

    def sweep(self, arguments: list[str]) -> Any:
        for asked in ENDINGS:
            signal.signal(asked, end_once)
        try:
            with claimed(self.folder):
                try:
                    result = self.run(self.parse(arguments))
                except UserError:  # some failed
                    self.end()
                    raise
                self.end()
                return result
        except KeyboardInterrupt:
            command = continue_command("hydra.sweep.dir", self.folder)
            print(f"interrupted; finished runs stay, to go on: {command}", file=sys.stderr)
            sys.exit(130)
        finally:
            close = getattr(self.launcher, "close", None)
            if close:
                close()

    def launch(self, runs: list[Planned], board: Board) -> list[JobReturn]:
        """Run all of them, however the launcher does it; one whose process could not say why it ended
        is recorded as failed."""
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

    def run(self, overrides: list[Override]) -> Any:
        raise NotImplementedError


class GridSweeper(PlannedSweeper):
    """Runs the product of all values given on the command line; with `grids`, lists of overrides as they
    would be typed, the union of them, each times the command line's. A key in both keeps of a grid what
    the command line has too."""

    def __init__(self, grids: list[str], compare: bool):
        self.grids, self.compare = grids, compare

    def run(self, overrides: list[Override]) -> list:
        jobs = combinations(overrides, self.parse_grids())
        runs = plan(self.context, self.config, jobs)
        self.save_command()
        todo = [run for run in runs if run.objective is None]
        twice, done = len(jobs) - len(runs), len(runs) - len(todo)
        console.print(
            f"{len(runs)} runs"
            + (f" ({twice} more were asked for twice)" if twice else "")
            + (f", {done} finished already, {len(todo)} to go" if done else "")
            + f" -> {self.shown_folder}"
        )
        with Board(len(todo)) as board:
            launched = self.launch(todo, board) if todo else []
        results = dict(zip(map(id, todo), launched, strict=True))
        failures = [
            (run, result._return_value)
            for run in todo
            if (result := results[id(run)]).status == JobStatus.FAILED
        ]
        if failures:
            show_failures(failures)
            raise UserError(
                f"{len(failures)} of {len(runs)} runs failed; to run those again: "
                + continue_command("hydra.sweep.dir", self.folder)
            )
        return [[results.get(id(run)) or run.finished(run.objective) for run in runs]]


def end_once(*_) -> None:
    """Ctrl-C for a sweep: impatience with the seconds that it takes must not tear anything."""
    for asked in ENDINGS:
        signal.signal(asked, signal.SIG_IGN)
    print("ending what runs, which takes some seconds", file=sys.stderr)
    raise KeyboardInterrupt


def vanished(folder: Path) -> bool:
    """Whether a run began in it and ended without a word, here or anywhere."""
    return folder.is_dir() and not read_summary(folder) and not is_claimed(folder)


def combinations(overrides: list[Override], grids: list[list[Override]]) -> list[list[str]]:
    """The override lists of all runs. Raises UserError for a range, which only a search can take, and
    if nothing is left."""
    line = {override.key_or_group: alternatives(override) for override in overrides}
    jobs = []
    for grid in grids or [[]]:
        fixed = {override.key_or_group: alternatives(override) for override in grid}
        both = {key: common(fixed[key], line[key]) for key in fixed.keys() & line.keys()}
        jobs += [list(job) for job in itertools.product(*(fixed | line | both).values())]
    if not jobs:
        asked = " ".join(override.input_line for override in overrides)
        raise UserError(f"{asked}: none of hydra.sweeper.grids has that, so there is nothing to run")
    return jobs


def common(first: list[str], second: list[str]) -> list[str]:
    """Those of the first that the second has too; 0.10 is 0.1."""

    def plain(assignment: str) -> object:
        value = assignment.partition("=")[2]
        try:
            return float(value)
        except ValueError:
            return value

    return [value for value in first if plain(value) in map(plain, second)]


def alternatives(override: Override) -> list[str]:
    """`a=1,2` -> ["a=1", "a=2"]."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line or f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: a range to search in, use hydra/sweeper=search")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
