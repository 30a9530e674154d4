"""`hydra/sweeper=search`: Optuna asks for settings, runs tell how good they are.

The study lies in the sweep's folder (`study.db`); started again, a search goes on where it was, with the
trials that were under way. Look at it with `optuna-dashboard sqlite:///<sweep>/study.db`.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Literal

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from pydantic import Field

from ..errors import UserError
from ..evaluation import METRICS
from ..words import counted
from .clusters import ClusterLauncher
from .console import Board, console
from .grid import alternatives, say_excluded
from .plan import Planned, described
from .processes import LOOK_SECONDS, wait_for_all
from .space import Space
from .study import on_other_images, open_study, rows_so_far, sampler, storage_errors
from .sweeper import PlannedSweeper, Stale

if TYPE_CHECKING:  # importing it takes most of a second, which only a search should pay
    import optuna

REPEATED = ("seed", "dataset.fold")  # within each trial


class SearchSweeper(PlannedSweeper):
    """`trials` in all; `sampler` tpe or random, the first `startup_trials` at random; `pruner` median,
    hyperband or none, by the epochs of a trial's first run; values of `seed` on the command line, and
    folds, are repeats within each trial, which is worth their mean. `direction` auto, maximize or
    minimize. `grids` are alternatives, one of which each trial picks. `parallel` trials at a time: auto
    is one a worker."""

    def __init__(
        self,
        trials: Annotated[int, Field(ge=1)],
        sampler: Literal["tpe", "random"],
        startup_trials: Annotated[int, Field(ge=0)],
        pruner: Literal["median", "hyperband", "none"],
        direction: Literal["auto", "maximize", "minimize"],
        seed: Annotated[int, Field(ge=0)],
        parallel: Literal["auto"] | Annotated[int, Field(ge=1)],
        grids: list[str],
        compare: bool,
        stale: Stale,
        baselines: bool,
        params: dict | None = None,
    ):
        self.trials, self.sampler, self.startup, self.pruner = trials, sampler, startup_trials, pruner
        self.direction, self.seed, self.parallel = direction, seed, parallel
        self.grids, self.compare, self.stale = grids, compare, stale
        self.baselines, self.params = baselines, params

    def run(self, overrides: list[Override]) -> float:
        with storage_errors(self.folder / "study.db"):
            return self.search(overrides)

    def search(self, overrides: list[Override]) -> float:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        repeated = {o.key_or_group: alternatives(o) for o in overrides if o.key_or_group in REPEATED}
        self.seeds = repeated.setdefault("seed", [f"seed={self.config.seed}"])
        self.repeats = [list(repeat) for repeat in itertools.product(*repeated.values())]
        rest, grids = [o for o in overrides if o.key_or_group not in REPEATED], self.parse_grids()
        self.space = Space.of(rest, grids, self.parse)
        say_excluded(rest, grids)
        self.space.check_ranges()
        corners = self.plan([*corner, *self.repeats[0]] for corner in self.space.corners())
        folds = repeated.get("dataset.fold") or {run.config.dataset.fold for run in corners}
        self.objective = corners[0].config.objective
        self.sources = sorted({run.code.sources for run in corners})
        self.study = self.open_study()
        self.save_command()
        self.unfinished = [
            optuna.Trial(self.study, trial._trial_id)
            for trial in self.study.trials
            if not trial.state.is_finished()
        ]
        parallel = self.trials_at_a_time()
        before, several = len(self.study.trials), self.trials * len(self.seeds) * len(folds)
        console.print(
            f"{counted(self.trials, 'trial')} × {counted(len(self.seeds), 'seed')}"
            + (f" × {len(folds)} folds" if len(folds) > 1 else "")
            + (", then baselines beside the best" if self.baselines and several > 1 else "")
            + (f", {before - len(self.unfinished)} done, {len(self.unfinished)} go on" if before else "")
            + f" -> {self.shown_folder}"
        )
        self.choosing, self.ending, self.launched, self.failed = threading.Lock(), False, {}, []
        expected = (self.trials - before + len(self.unfinished)) * len(self.seeds) * len(folds)
        with Board(max(0, expected)) as board, ThreadPoolExecutor(parallel) as threads:
            try:
                tasks = [threads.submit(self.work, board) for _ in range(parallel)]
                wait_for_all(tasks)
            except BaseException:
                self.ending = True
                self.stop_launcher()
                raise
        beside = self.run_baselines() if several > 1 and not self.stopped else []
        return self.answer(beside)

    def trials_at_a_time(self) -> int:
        if self.parallel != "auto":
            return self.parallel
        if isinstance(self.launcher, ClusterLauncher):
            raise UserError(
                "hydra.sweeper.parallel=auto: on a cluster, give the number of trials at a time"
            )
        return len(getattr(self.launcher, "slots", [None]))

    def open_study(self) -> "optuna.Study":
        direction = self.direction
        if direction == "auto":
            up = METRICS[self.objective].higher_is_better
            direction = "maximize" if up else "minimize"
        study = open_study(self.folder / "study.db", direction, self.pruner)
        asked = {
            "direction": direction,
            "objective": self.objective,
            "seeds": list(map(" ".join, self.repeats)),
        }
        asked["space"] = self.space.as_text()
        there = study.user_attrs.get("search", asked)
        for what, value in asked.items():
            if there[what] != value:
                raise UserError(
                    f"hydra.sweep.dir={self.folder}: a search with another {what} is there, "
                    f"{there[what]} instead of {value}; name a new folder"
                )
        study.set_user_attr("search", asked)
        self.check_code(study)
        # Seeded anew after a restart: the same draws again would be the same trials again.
        study.sampler = sampler(self.sampler, self.startup, self.seed + len(study.trials))
        return study

    def check_code(self, study: "optuna.Study") -> None:
        """Raise UserError if other code, or other images, made the trials that are there."""
        recorded = study.user_attrs.get("sources", self.sources)
        if recorded != self.sources and self.stale != "keep":
            raise UserError(
                f"hydra.sweep.dir={self.folder}: a search by other code is there "
                f"({', '.join(recorded)}; this is {', '.join(self.sources)}): name a new folder, or "
                "hydra.sweeper.stale=keep goes on with its trials"
            )
        other = None if self.stale == "keep" else on_other_images(study, self.folder)
        if other:
            raise UserError(
                f"hydra.sweep.dir={self.folder}: a search on other images is there, changed since "
                f"{other}: name a new folder, or hydra.sweeper.stale=keep goes on with its trials"
            )
        study.set_user_attr("sources", self.sources)

    def work(self, board: Board) -> None:
        """One trial after another, until there are enough."""
        while not self.stopped:
            with self.choosing:  # Hydra composes one configuration at a time, and trials are counted
                if self.unfinished:
                    trial = self.unfinished.pop()
                elif len(self.study.trials) < self.trials:
                    trial = self.study.ask()
                else:
                    return
                overrides = self.space.suggest(trial)
                try:
                    runs = self.plan([*overrides, *repeat] for repeat in self.repeats)
                except UserError as error:  # inside the space, where no corner is
                    self.fail(trial, str(error))
                    continue
                trial.set_user_attr("runs", [run.name for run in runs])
                self.say_stale([run for run in runs if run.objective is None])
            board.expect(-sum(run.objective is not None for run in runs))
            self.judge(trial, runs, board)

    @property
    def stopped(self) -> bool:
        """By the user, or by the first failure if that is wanted."""
        return self.ending or getattr(self.launcher, "stopping", False)

    def judge(self, trial: "optuna.Trial", runs: list[Planned], board: Board) -> None:
        """Run a trial's seeds in turn, the first under the pruner's eyes, and tell the study."""
        from optuna.trial import TrialState

        values = []
        for number, run in enumerate(runs):
            if self.stopped:
                return  # it goes on when the search does
            result = self.result_of(run, board, self.watcher(trial, run) if number == 0 else None)
            if result.status == JobStatus.COMPLETED:
                values.append(result.return_value)
                continue
            board.expect(-sum(later.objective is None for later in runs[number + 1 :]))
            ended = run.folder.summary()
            state = ended.state if ended else None
            if state == "pruned":
                self.study.tell(trial, state=TrialState.PRUNED)
            elif state in ("failed", "diverged") or not self.stopped:
                self.fail(trial, f"{run.name}: {result._return_value}")
            return
        self.study.tell(trial, mean(values))

    def fail(self, trial: "optuna.Trial", why: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("ended", why)
        self.study.tell(trial, state=TrialState.FAIL)
        self.failed.append(f"trial {trial.number} failed: {why}")

    def result_of(self, run: Planned, board: Board, look: Callable[[], None] | None) -> JobReturn:
        """A run's result: new, or the one it has already, or that of another trial with its settings."""
        if run.objective is not None:
            return run.finished(run.objective)
        with self.choosing:
            mine = run.identity not in self.launched
            result: Future[JobReturn] = self.launched.setdefault(run.identity, Future())
        if mine:
            threading.Thread(target=self.launch_into, args=(result, run, board), daemon=True).start()
        while not wait([result], timeout=LOOK_SECONDS).done:
            if look and mine:
                look()
        return result.result()

    def launch_into(self, result: "Future[JobReturn]", run: Planned, board: Board) -> None:
        try:
            result.set_result(self.launch([run], board)[0])
        except BaseException as error:
            result.set_exception(error)

    def watcher(self, trial: "optuna.Trial", run: Planned) -> Callable[[], None]:
        """A function that reports a run's new epochs to its trial, and asks the run to stop if the
        pruner expects nothing of it."""
        known = self.study.trials[trial.number].intermediate_values
        reported = max(known, default=0)

        def look() -> None:
            nonlocal reported
            for row in rows_so_far(run.folder):
                if row["epoch"] > reported:
                    reported = int(row["epoch"])
                    trial.report(row[run.config.objective], reported)
                    if trial.should_prune():
                        (run.folder.path / "stop").touch()

        return look

    def run_baselines(self) -> list[str]:
        """Beside the best trial, at its learning rate. Returns a line for each that failed."""
        from optuna.trial import FixedTrial, TrialState

        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return []
        overrides = self.space.suggest(FixedTrial(self.study.best_params))
        asked, _ = described(self.composer, ([*overrides, *repeat] for repeat in self.repeats))
        return self.launch_beside(asked)

    def answer(self, beside: list[str]) -> float | None:
        from optuna.trial import TrialState

        trials = self.study.trials
        counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
        ended = f"{counts[TrialState.PRUNED]} pruned, {counts[TrialState.FAIL]} failed"
        for line in self.failed + beside:
            console.print(line, markup=False)
        if not counts[TrialState.COMPLETE]:
            raise UserError(f"none of {len(trials)} trials has a result: {ended}")
        best = self.study.best_trial
        settings = " ".join(f"{key.split(' ')[0]}={value}" for key, value in best.params.items())
        console.print(
            f"best of {len(trials)} trials ({ended}): {self.objective} {best.value:.4f} with "
            f"{settings}; all of them: optuna-dashboard sqlite:///{self.shown_folder}/study.db",
            markup=False,
        )
        if self.failed:
            raise UserError(f"{len(self.failed)} of {len(trials)} trials failed, see above")
        if beside:
            raise UserError(f"{counted(len(beside), 'baseline')} failed, see above")
        return best.value
