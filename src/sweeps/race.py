"""`hydra.sweeper.race=true`: further seeds only for the settings of each loss that did best so far."""

import math
from collections.abc import Iterable
from statistics import mean

from ..config import BadKey, setting
from ..config.tree import PIXELS
from ..evaluation import metric_named
from .loop import InOrder
from .plan import Outcome, Planned

FEWEST = 3  # settings of a loss that go on: with fewer, the luck of the first seed would choose for it
SEVERAL = 4  # seeds, with which settings drop out in two steps


def going_on(settings: int, seeds: int, ended: int) -> int:
    """The number of a loss's settings that run with another seed, once `ended` of its `seeds` have run.
    A quarter, after the first of two or three seeds; of more seeds half of them after the first, and a
    quarter after the second. A quarter at once is too few for many seeds: the luck of the first seed,
    which chose them, stays in all (benchmarks/verdict.py)."""
    share = 2 if seeds >= SEVERAL and ended == 1 else 4
    return min(settings, max(FEWEST, math.ceil(settings / share)))


class Heat:
    """The settings of one loss on one data set that race against each other, each with its runs by
    seed."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[int, Planned]] = {}
        self.begun = 0  # seeds
        self.left: list[dict[int, Planned]] = []  # in the race, the best first

    @property
    def seeds(self) -> list[int]:
        return sorted(next(iter(self.settings.values())))

    @property
    def to_come(self) -> int:
        """The number of runs of the seeds that have not begun yet; fewer if settings fail."""
        count = len(self.settings)
        later = range(max(1, self.begun), len(self.seeds))
        return sum(going_on(count, len(self.seeds), ended) for ended in later)


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
        self.heats: dict[tuple[str, str], Heat] = {}  # by data set and loss
        self.heat_of: dict[str, Heat] = {}  # by a run's identity
        for run in raced:
            key = repr(run.config.dataset), run.config.name("loss")
            self.heat_of[run.identity] = heat = self.heats.setdefault(key, Heat())
            heat.settings.setdefault(setting(run.config), {})[run.config.seed] = run
        self.check(raced)
        for heat in self.heats.values():
            heat.left = list(heat.settings.values())
            self.begin_seeds(heat)
        self.expected = len(self.runs) + sum(heat.to_come for heat in self.heats.values())

    def check(self, raced: list[Planned]) -> None:
        key = "hydra.sweeper.race"
        if any(run.config.dataset.fold is not None for run in raced):
            raise BadKey(key, True, "a race is over seeds: leave dataset.folds out")
        for (_, loss), heat in self.heats.items():
            if len({tuple(sorted(own)) for own in heat.settings.values()}) > 1:
                why = f"not all settings of {loss} have the same seeds, which a race needs"
                raise BadKey(key, True, why)
        if not any(len(f.settings) > FEWEST and len(f.seeds) > 1 for f in self.heats.values()):
            why = f"needs a loss with several seeds and more than {FEWEST} settings: leave it out"
            raise BadKey(key, True, why)

    def ended(self, run: Planned, outcome: Outcome) -> None:
        super().ended(run, outcome)
        if run.identity in self.heat_of:
            self.begin_seeds(self.heat_of[run.identity])

    def begin_seeds(self, heat: Heat) -> None:
        """Begin the next seed of a heat, if all of its runs with those before have ended."""
        seeds = heat.seeds
        while heat.begun < len(seeds):
            before = seeds[: heat.begun]
            if any(own[seed].identity not in self.outcomes for own in heat.left for seed in before):
                return
            if before:
                worth = {id(own): self.worth(own, before) for own in heat.left}
                order = sorted(heat.left, key=lambda own: -worth[id(own)])
                most = going_on(len(heat.settings), len(seeds), len(before))
                heat.left = [own for own in order[:most] if worth[id(own)] > -math.inf]
            runs = [own[seeds[heat.begun]] for own in heat.left]
            new = [run for run in runs if run.identity not in self.outcomes]
            heat.begun += 1
            self.runs += new
            self.waiting += new

    def worth(self, by_seed: dict[int, Planned], seeds: list[int]) -> float:
        """The mean objective of a setting with these seeds, larger is better; −∞ if a run has none."""
        runs = [by_seed[seed] for seed in seeds]
        values = [self.outcomes[run.identity].objective for run in runs]
        if None in values:
            return -math.inf
        return metric_named(runs[0].config.objective).sign * mean(values)
