"""`hydra/sweeper=search`: Optuna asks for settings, runs tell how good they are.

The study lies in the sweep's folder (`study.db`); started again, a search goes on where it was, with the
trials that were under way. Look at it with `optuna-dashboard sqlite:///<sweep>/study.db`.
"""

import itertools
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Literal

from hydra.core.override_parser.types import Override
from pydantic import Field

from ..errors import UserError
from ..evaluation import metric_named
from ..foreign import printable
from ..words import counted
from .console import console
from .grid import alternatives, say_excluded
from .plan import Outcome, Planned, described
from .space import Space
from .study import on_other_images, open_study, rows_so_far, sampler, storage_errors, unfinished
from .sweeper import PlannedSweeper, Stale

if TYPE_CHECKING:  # importing it takes most of a second, which only a search should pay
    import optuna

REPEATED = ("seed", "dataset.fold")  # within each trial


@dataclass(eq=False)
class Trial:
    """A trial under way: its repeats, one after another, and what they have given so far."""

    trial: "optuna.Trial"
    runs: list[Planned]
    values: list[float] = field(default_factory=list)
    reported: int = 0  # epochs of its first run, to the pruner


class SearchSweeper(PlannedSweeper):
    """`trials` in all; `sampler` tpe or random, the first `startup_trials` at random; `pruner` median,
    hyperband or none, by the epochs of a trial's first run; values of `seed` on the command line, and
    folds, are repeats within each trial, which is worth their mean. `direction` auto, maximize or
    minimize. `grids` are alternatives, one of which each trial picks. `parallel` trials at a time: auto
    is as many as the launcher has slots."""

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
        fail_fast: bool,
        params: dict | None = None,
    ):
        self.trials, self.sampler, self.startup, self.pruner = trials, sampler, startup_trials, pruner
        self.direction, self.seed, self.parallel = direction, seed, parallel
        self.grids, self.compare, self.stale = grids, compare, stale
        self.baselines, self.fail_fast, self.params = baselines, fail_fast, params

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
        self.unfinished = unfinished(self.study, self.folder / "study.db")
        self.at_a_time = self.trials_at_a_time()
        before, several = len(self.study.trials), self.trials * len(self.seeds) * len(folds)
        console.print(
            f"{counted(self.trials, 'trial')} × {counted(len(self.seeds), 'seed')}"
            + (f" × {len(folds)} folds" if len(folds) > 1 else "")
            + (", then baselines beside the best" if self.baselines and several > 1 else "")
            + (f", {before - len(self.unfinished)} done, {len(self.unfinished)} go on" if before else "")
            + f" -> {self.shown_folder}"
        )
        self.active: list[Trial] = []
        self.running: set[str] = set()  # identities
        self.outcomes: dict[str, Outcome] = {}  # by identity
        self.failed: list[str] = []
        expected = (self.trials - before + len(self.unfinished)) * len(self.seeds) * len(folds)
        self.launch(self, max(0, expected))
        beside = self.run_baselines() if several > 1 and not self.stopped else []
        return self.answer(beside)

    def trials_at_a_time(self) -> int:
        if self.parallel != "auto":
            return self.parallel
        if self.launcher.slots is None:
            raise UserError(
                "hydra.sweeper.parallel=auto: this launcher takes any number of runs, so give a number "
                "of trials at a time"
            )
        return self.launcher.slots

    def open_study(self) -> "optuna.Study":
        direction = self.direction
        if direction == "auto":
            up = metric_named(self.objective).higher_is_better
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

    # ------------------------------------------------------------------ the source of the sweep's loop

    def next(self) -> Planned | None:
        """The next run of a trial under way, or the first of a new trial."""
        while True:
            for one in self.active:
                run = one.runs[len(one.values)]
                if run.identity not in self.running:
                    self.running.add(run.identity)
                    return run
            if len(self.active) == self.at_a_time or not self.begin_trial():
                return None

    def begin_trial(self) -> bool:
        """Ask the study for another trial; whether there is one."""
        if self.unfinished:
            trial = self.unfinished.pop()
        elif len(self.study.trials) < self.trials:
            trial = self.study.ask()
        else:
            return False
        try:
            overrides = self.space.suggest(trial)
        except ValueError as error:  # Optuna's: the study has been changed
            path = self.folder / "study.db"
            raise UserError(f"{path}: its trials are of another space ({printable(error)})") from None
        try:
            runs = self.plan([*overrides, *repeat] for repeat in self.repeats)
        except UserError as error:  # inside the space, where no corner is
            self.fail(trial, str(error))
            return True
        trial.set_user_attr("runs", [run.name for run in runs])
        self.say_stale([run for run in runs if run.objective is None])
        self.board.expect(-sum(run.objective is not None for run in runs))
        reported = max(self.study.trials[trial.number].intermediate_values, default=0)
        self.active.append(Trial(trial, runs, reported=reported))
        self.advance(self.active[-1])
        return True

    def watch(self, run: Planned) -> None:
        """Report a run's new epochs, if it is the first of its trial, and ask it to stop if the pruner
        expects nothing of it."""
        for one in self.active:
            if one.runs[0] is not run:
                continue
            for row in rows_so_far(run.folder):
                if row["epoch"] > one.reported:
                    one.reported = int(row["epoch"])
                    one.trial.report(row[run.config.objective], one.reported)
                    if one.trial.should_prune():
                        (run.folder.path / "stop").touch()

    def ended(self, run: Planned, outcome: Outcome) -> None:
        self.watch(run)
        self.running.discard(run.identity)
        self.outcomes[run.identity] = outcome
        for one in list(self.active):
            self.advance(one)

    def advance(self, one: Trial) -> None:
        """Take the results that a trial's runs have by now, as they are or from another trial with the
        same settings, and tell the study once they say enough."""
        from optuna.trial import TrialState

        for run in one.runs[len(one.values) :]:
            outcome = self.outcomes.get(run.identity)
            value = run.objective if outcome is None else outcome.objective
            if value is not None:
                one.values.append(value)
                continue
            if outcome is None:
                return
            self.active.remove(one)
            later = one.runs[len(one.values) + 1 :]
            self.board.expect(-sum(each.objective is None for each in later))
            if outcome.state == "pruned":
                self.study.tell(one.trial, state=TrialState.PRUNED)
            elif outcome.failed:
                self.fail(one.trial, f"{run.name}: {outcome.error}")
            return  # interrupted: it goes on when the search does
        self.active.remove(one)
        self.study.tell(one.trial, mean(one.values))

    def fail(self, trial: "optuna.Trial", why: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("ended", why)
        self.study.tell(trial, state=TrialState.FAIL)
        self.failed.append(f"trial {trial.number} failed: {why}")

    def run_baselines(self) -> list[str]:
        """Beside the best trial, at its learning rate. Returns a line for each that failed."""
        from optuna.trial import FixedTrial, TrialState

        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return []
        overrides = self.space.suggest(FixedTrial(self.study.best_params))
        asked, _ = described(self.composer, ([*overrides, *repeat] for repeat in self.repeats))
        return self.launch_baselines(asked)

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
