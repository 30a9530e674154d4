"""A sweep is one loop: while a slot is free, start the next run; then see how those under way are doing.

A `Source` says which run is next: a grid has a list, a search asks its study. A `Launcher` starts runs
and knows when their processes have ended. How a run ended stands in its folder.
"""

import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import BadKey
from ..config.compose import Composer
from ..errors import UserError, in_one_line, interrupts_held, raise_if_interrupted
from ..run.build import check_config, check_config_here
from ..words import counted
from .console import Board, console
from .plan import Outcome, Planned, plan

SUBDIR = "${hydra.job.num}"  # as conf/train.yaml has it
LOOK_SECONDS = 0.2  # between looks at the runs under way
# A finished run that still draws its figures or waits for W&B gives its slot to the next run after so
# many seconds, or such a share of what the run took.
RELIEF_SECONDS, RELIEF_SHARE = 1, 0.05
END_SECONDS = 30  # for runs to end once the sweep was interrupted; then the launcher's `close` ends them
PATIENCE = 3  # seconds of waiting for figures before the terminal says so


class Ended(NamedTuple):
    """A run whose process has ended. `error` is what the process raised, or, if it `died`, what is known
    of its death, which it could not record itself. One that is not `begun` never had a process."""

    run: Planned
    error: str | None = None
    died: bool = False
    begun: bool = True


@runtime_checkable
class Launcher(Protocol):
    """Starts runs somewhere, and tells when their processes have ended. Everything is called from one
    thread, `setup` first and `close` last.

    `here` is true where runs have the devices of this machine, which are then checked before the first
    run starts. `slots` is how many runs there is room for at a time, now; None for any number."""

    here: bool
    slots: int | None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what a run needs (`task_function` trains a composed configuration) and the sweep's own
        `config`. Raises UserError if nothing can be started here."""

    def start(self, run: Planned) -> None:
        """Start a run, whose configuration is `run.composed` and whose overrides are `run.overrides`.
        A launcher may wait for the next `poll`, to start several at once."""

    def poll(self, seconds: float) -> list[Ended]:
        """Return the runs that have ended since the last call; wait at most about `seconds` for one."""

    def kill(self, run: Planned) -> None:
        """Ask a run that was started to end, as Ctrl-C would; `poll` returns it once it has."""

    def close(self) -> None:
        """End every process that is left."""


class Source(Protocol):
    """Says which runs a sweep has."""

    def next(self) -> Planned | None:
        """Return a run to start now, or None: there is none, or none before another has ended."""

    def watch(self, run: Planned) -> None:
        """Look at a run that is under way; called again and again."""

    def ended(self, run: Planned, outcome: Outcome) -> None:
        """Take note of how a run ended."""


class InOrder:
    """The source of runs that are known from the start, and `expected`. `outcomes` are by identity."""

    def __init__(self, runs: Iterable[Planned]):
        self.runs = list(runs)
        self.waiting, self.outcomes = deque(self.runs), {}
        self.expected = len(self.runs)

    def next(self) -> Planned | None:
        return self.waiting.popleft() if self.waiting else None

    def watch(self, run: Planned) -> None:
        pass

    def ended(self, run: Planned, outcome: Outcome) -> None:
        self.outcomes[run.identity] = outcome

    def all_outcomes(self) -> list[Outcome]:
        not_started = Outcome("not started", error="the sweep ended first")
        return [self.outcomes.get(run.identity, not_started) for run in self.runs]


@dataclass(eq=False)
class Live:
    """A run whose process has been started and has not ended."""

    run: Planned
    outcome: Outcome | None = None  # as soon as it is known; the process may go on drawing
    relief_due: float = math.inf  # when the next run may have the slot
    killed: bool = False


class Loop:
    """Runs what a source gives, with a launcher, until there is nothing left. With `fail_fast`, the
    first failure ends the sweep. `number` is the first run's."""

    def __init__(
        self,
        source: Source,
        launcher: Launcher,
        board: Board,
        fail_fast: bool = False,
        number: int = 0,
    ):
        self.source, self.launcher, self.board, self.fail_fast = source, launcher, board, fail_fast
        self.number = number
        self.live: dict[str, Live] = {}  # by identity
        self.stopping, self.said_after = False, math.inf

    def run(self) -> None:
        """Return when every run has ended, its figures drawn and W&B told. Ctrl-C, and any other
        exception, ends the runs under way first."""
        try:
            while True:
                raise_if_interrupted()
                self.fill_slots()
                if not self.live:
                    return
                self.look()
        except BaseException:
            self.source = InOrder([])  # nothing more is asked, or told
            self.stop([*self.live.values()])
            given_up = time.monotonic() + END_SECONDS
            while self.live and time.monotonic() < given_up:
                self.look()
            raise

    def fill_slots(self) -> None:
        while not self.stopping and self.has_room():
            run = self.source.next()
            if run is None:
                return
            try:
                if run.differs and run.folder.path.is_dir():
                    run.folder.set_aside(run.mark)
            except OSError as error:  # the others can run
                self.board.started()
                self.conclude(run, Outcome("failed", error=f"cannot be set aside: {in_one_line(error)}"))
                continue
            with open_dict(run.composed):  # as Hydra's own launchers number them
                run.composed.hydra.job.num = self.number
                run.composed.hydra.job.id = f"{run.composed.hydra.job.name}_{self.number}"
            self.number += 1
            with interrupts_held():  # else a process may have half its job, or nobody who ends it
                self.launcher.start(run)
                self.live[run.identity] = Live(run)
            self.board.started()

    def has_room(self) -> bool:
        slots = self.launcher.slots
        if slots is None:
            return True
        now = time.monotonic()
        busy = sum(now < live.relief_due for live in self.live.values())
        return busy < slots and len(self.live) < 2 * slots

    def look(self) -> None:
        """See which runs have ended, and which have a result and only draw."""
        for ended in self.launcher.poll(LOOK_SECONDS):
            live = self.live.pop(ended.run.identity)
            if not ended.begun:
                continue
            if live.outcome is None:
                self.conclude(live.run, outcome_of(live, ended))
            if (ended.died or live.killed) and live.run.result():
                why = "the sweep was ended" if live.killed else ended.error
                if not live.killed:
                    live.run.lost(ended.error)  # a line in its log
                console.print(
                    f"{live.run.name} is finished, perhaps without all figures or W&B: {why}",
                    markup=False,
                )
        for live in list(self.live.values()):
            if live.outcome is None:
                self.source.watch(live.run)
                live.outcome = live.run.result()
                if live.outcome:
                    took = live.run.folder.read_summary().seconds or 0
                    live.relief_due = time.monotonic() + max(RELIEF_SECONDS, RELIEF_SHARE * took)
                    self.conclude(live.run, live.outcome)
        self.say_what_it_waits_for()

    def say_what_it_waits_for(self) -> None:
        """Tell the user once, after a while, that only figures and W&B are left."""
        if not self.live or not all(live.outcome for live in self.live.values()):
            self.said_after = time.monotonic() + PATIENCE
        elif time.monotonic() > self.said_after:
            self.said_after = math.inf
            left = counted(len(self.live), "run")
            console.print(f"waiting for the figures of {left}, or for W&B")

    def conclude(self, run: Planned, outcome: Outcome) -> None:
        self.board.ended(run, outcome)
        self.source.ended(run, outcome)
        if self.fail_fast and outcome.failed and not self.stopping:
            self.stop([live for live in self.live.values() if live.outcome is None])

    def stop(self, which: list[Live]) -> None:
        """Start nothing more, and end some of the runs under way."""
        self.stopping = True
        for live in which:
            live.killed = True
            self.launcher.kill(live.run)


def outcome_of(live: Live, ended: Ended) -> Outcome:
    """How a run ended whose process has; one that could not record it itself is recorded as failed."""
    run, summary = live.run, live.run.folder.summary()
    finished = run.result()
    if finished:
        return finished
    if live.killed:
        return Outcome("interrupted", error="the sweep was ended")
    if ended.died or run.folder.vanished:
        return run.lost(ended.error or "its process ended without a word")
    if summary and summary.identity == run.identity:
        return Outcome(summary.state, error=summary.error)
    return Outcome("failed", error=ended.error)


def check_subdir(config: DictConfig) -> None:
    """Raise BadKey if a sweep's runs are to have other names than their own."""
    subdir = OmegaConf.to_container(config.hydra.sweep)["subdir"]
    if subdir != SUBDIR:
        why = "a sweep names its runs by what differs, leave it out"
        raise BadKey("hydra.sweep.subdir", subdir, why)


class PlannedLauncher(HydraLauncher):
    """A launcher that a sweeper of Hydra's can use as well."""

    here = False

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        check_subdir(config)
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        check = check_config_here if self.here else check_config
        composer = Composer(self.context.config_loader, self.config, check)
        try:
            with Board(len(job_overrides)) as board:
                source = InOrder(plan(composer, job_overrides))
                Loop(source, self, board, number=initial_job_idx).run()
        finally:
            self.close()
        return [as_hydra_has_it(outcome) for outcome in source.all_outcomes()]


def as_hydra_has_it(outcome: Outcome) -> JobReturn:
    if outcome.objective is not None:
        return JobReturn(status=JobStatus.COMPLETED, _return_value=outcome.objective)
    return JobReturn(status=JobStatus.FAILED, _return_value=UserError(outcome.error))


def ended_in_hydra(run: Planned, result: JobReturn) -> Ended:
    """How a run ended that a launcher of Hydra's has run."""
    failed = result.status == JobStatus.FAILED
    return Ended(run, str(result._return_value) if failed else None)


class OtherLauncher:
    """A launcher of Hydra's, or of another plugin: it starts everything at once, composes again from the
    overrides, shows its own lines, and returns when all have ended."""

    here, slots = True, None

    def __init__(self, launcher: HydraLauncher):
        self.launcher = launcher
        self.waiting: list[Planned] = []
        self.killed: list[Planned] = []

    def setup(self, **given) -> None:
        self.launcher.setup(**given)

    def start(self, run: Planned) -> None:
        self.waiting.append(run)

    def poll(self, seconds: float) -> list[Ended]:
        runs, self.waiting = self.waiting, []
        ended, self.killed = [Ended(run) for run in self.killed], []
        results = self.launcher.launch([run.overrides for run in runs], 0) if runs else []
        return ended + [ended_in_hydra(*pair) for pair in zip(runs, results, strict=True)]

    def kill(self, run: Planned) -> None:
        """Its processes end with this one."""
        self.waiting.clear()
        self.killed.append(run)

    def close(self) -> None:
        pass
