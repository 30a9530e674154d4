"""`hydra.sweeper.race=true`: further seeds only for settings that can still win."""

import math
from collections.abc import Iterable
from statistics import mean

from ..config import BadKey, setting
from ..config.tree import PIXELS
from ..evaluation import METRICS
from .loop import InOrder
from .plan import Outcome, Planned

FEWEST = 3  # settings of a loss that go on: with fewer, the luck of the first seed would choose for it
SEVERAL = 4  # seeds, with which settings drop out in two steps


def going_on(settings: int, seeds: int, ended: int) -> int:
    """How many of a loss's settings run with another seed, once `ended` of its `seeds` have ended: a
    quarter after the first of two or three seeds; of more seeds half of them after the first, and a
    quarter after the second. A quarter at once is too few for many seeds, since the luck of the first,
    which chose them, stays in all (benchmarks/verdict.py)."""
    share = 2 if seeds >= SEVERAL and ended == 1 else 4
    return min(settings, max(FEWEST, math.ceil(settings / share)))


class Race(InOrder):
    """The source of a race's runs, some of which may have finished before. All settings of a loss run
    with its first seed, those that go on with the next, and so on. Pixels, where there is nothing to
    choose, run with every seed. Raises BadKey if there is nothing to race."""

    def __init__(self, runs: Iterable[Planned]):
        runs = list(runs)
        raced = [run for run in runs if run.config.model.target != PIXELS]
        pixels = [run for run in runs if run.config.model.target == PIXELS]
        super().__init__(run for run in pixels if run.objective is None)
        finished = [run for run in runs if run.objective is not None]
        self.outcomes = {run.identity: Outcome("finished", run.objective) for run in finished}
        self.settings: dict[str, dict[str, dict[int, Planned]]] = {}  # by loss, setting and seed
        for run in raced:
            own = self.settings.setdefault(run.config.name("loss"), {})
            own.setdefault(setting(run.config), {})[run.config.seed] = run
        self.seeds = {
            loss: sorted({seed for by_seed in own.values() for seed in by_seed})
            for loss, own in self.settings.items()
        }
        self.check(raced)
        self.in_race = {loss: list(own) for loss, own in self.settings.items()}
        self.begun = dict.fromkeys(self.settings, 0)  # seeds
        later = sum(
            going_on(len(own), len(self.seeds[loss]), ended)
            for loss, own in self.settings.items()
            for ended in range(1, len(self.seeds[loss]))
        )
        first = sum(map(len, self.settings.values()))
        before = sum(run.objective is not None for run in raced)
        self.expected += max(0, first + later - before)
        for loss in self.settings:
            self.begin_seeds(loss)

    def check(self, raced: list[Planned]) -> None:
        if any(run.config.dataset.fold is not None for run in raced):
            raise BadKey("hydra.sweeper.race", True, "a race is over seeds: leave dataset.folds out")
        if not any(
            len(own) > FEWEST and len(self.seeds[loss]) > 1 for loss, own in self.settings.items()
        ):
            why = f"needs a loss with several seeds and more than {FEWEST} settings: leave it out"
            raise BadKey("hydra.sweeper.race", True, why)

    def ended(self, run: Planned, outcome: Outcome) -> None:
        super().ended(run, outcome)
        loss = run.config.name("loss")
        if loss in self.settings:
            self.begin_seeds(loss)

    def begin_seeds(self, loss: str) -> None:
        """Begin the next seed of a loss, if all of its runs with those before have ended."""
        own, seeds = self.settings[loss], self.seeds[loss]
        while self.begun[loss] < len(seeds):
            before = seeds[: self.begun[loss]]
            runs = [own[key][seed] for key in self.in_race[loss] for seed in before if seed in own[key]]
            if any(run.identity not in self.outcomes for run in runs):
                return
            if before:
                order = sorted(self.in_race[loss], key=lambda key: self.worth(own[key], before))
                self.in_race[loss] = order[-going_on(len(own), len(seeds), len(before)) :][::-1]
            seed = seeds[self.begun[loss]]
            self.begun[loss] += 1
            runs = [own[key][seed] for key in self.in_race[loss] if seed in own[key]]
            new = [run for run in runs if run.identity not in self.outcomes]
            self.runs += new
            self.waiting += new

    def worth(self, by_seed: dict[int, Planned], seeds: list[int]) -> float:
        """The mean objective of a setting with these seeds, larger is better; −∞ if a run has none."""
        runs = [by_seed[seed] for seed in seeds if seed in by_seed]
        values = [self.outcomes[run.identity].objective for run in runs]
        if not values or None in values:
            return -math.inf
        return METRICS[runs[0].config.objective].sign * mean(values)
