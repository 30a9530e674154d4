"""Settings in their order, and the facts that follow from them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..config import computed
from ..datasets.files import name_some
from ..errors import UserError
from ..evaluation import METRICS, metric_named, metrics_among
from .advice import advise
from .facts import Facts, find_facts
from .read import RunRecord
from .settings import (
    Setting,
    by_loss,
    contenders,
    family_of,
    group_by_setting,
    shown_values,
    unlabelled_differences,
)
from .statistics import Family, Interval, Repeat, by_fold, expected_best

__all__ = ["Comparison", "Setting", "rank_runs", "shown_values"]

MOST_BUDGET = 100  # settings tried, in the view of equal budgets


@dataclass
class Comparison:
    """Settings from the best on the validation split to the worst, and after them pixels, which are no
    setting to choose where anything is trained. `facts` is the answer."""

    metric: str
    settings: list[Setting]
    runs: list[RunRecord]
    problems: list[str]
    budgets: dict[str, list[Interval]] = field(default_factory=dict)
    also_differ: dict[str, list] = field(default_factory=dict)  # keys that no label shows
    pixels: list[Setting] = field(default_factory=list)
    facts: Facts | None = None
    folder: Path | None = None  # that the comparison is written to

    @property
    def candidates(self) -> list[Setting]:
        """The settings that can be chosen."""
        return [setting for setting in self.settings if setting not in self.pixels]

    @property
    def by_loss(self) -> dict[str, list[Setting]]:
        """The settings of each loss, the best first."""
        return by_loss(self.candidates)

    @property
    def keys(self) -> list[str]:
        """The keys that set the settings apart."""
        return list(dict.fromkeys(key for setting in self.settings for key in setting.differs))

    @property
    def winner(self) -> Setting | None:
        """The setting to use; None where the runs name none."""
        chosen = self.facts.which_setting if self.facts else None
        return next((s for s in self.settings if chosen and s.label == chosen.setting), None)

    @property
    def best(self) -> Setting:
        """The setting to use, or the first in the order where none is named."""
        return self.winner or self.settings[0]

    @property
    def higher_is_better(self) -> bool:
        return metric_named(self.metric).higher_is_better

    @property
    def sign(self) -> int:
        """1 if larger is better, else -1."""
        return metric_named(self.metric).sign

    @property
    def codes(self) -> dict[str, int]:
        """How many of the compared runs each code computed; codes that compute alike are one."""
        runs = [run for setting in self.settings for run in setting.runs]
        by_sources = {run.summary.code.own: str(run.summary.code) for run in reversed(runs)}
        return Counter(by_sources[run.summary.code.own] for run in runs)

    @property
    def failures(self) -> list[RunRecord]:
        return [run for run in self.runs if not run.is_done and run.state not in ("running", "pruned")]

    @property
    def chosen_on_test(self) -> bool:
        return self.best.runs[0].validation is None

    @property
    def chosen_on(self) -> str:
        return "test split" if self.chosen_on_test else "validation split"


def rank_runs(
    runs: list[RunRecord],
    problems: list[str],
    metric: str,
    baseline: str | None = None,
    detect: float | None = None,
) -> Comparison:
    """Order the settings of finished runs by the metric, and find the facts: against `baseline`, a loss
    (default: softmax, else normface), and how many seeds find the difference `detect`. Raises UserError
    for an unknown metric or baseline, and if no run is finished."""
    finished = comparable(runs, metric)
    settings = group_by_setting(finished)
    sign = metric_named(metric).sign
    pixels = [setting for setting in settings if setting.loss == "pixels"]
    pixels = pixels if len(pixels) < len(settings) else []
    for group in (pixels, [setting for setting in settings if setting not in pixels]):
        family = family_of(group, metric)
        for setting in group:
            setting.chosen = float(np.mean(by_fold(setting.validation(metric))))
            setting.test = family.interval(setting.label)
    racing = [setting for own in by_loss(settings).values() for setting in contenders(own)]
    # Equal ones stay in the order of their folders: what the test split says must not choose.
    settings.sort(key=lambda s: (s in pixels, s not in racing, -sign * s.chosen))
    trained = [setting for setting in settings if setting not in pixels]
    found = Comparison(
        metric,
        settings,
        runs,
        problems,
        expected_by_budget(trained, metric),
        unlabelled_differences(trained),
        pixels,
    )
    found.facts = find_facts(found, baseline, detect)
    found.facts.advice = advise(found)
    return found


def comparable(runs: list[RunRecord], metric: str) -> list[RunRecord]:
    """The finished runs. Raises UserError if there are none, or not all have the metric."""
    if not metrics_among([metric]):
        raise UserError(f"--metric {metric}: choose one of {', '.join(METRICS)}")
    finished = [run for run in runs if run.is_done]
    if not finished:
        states = ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in runs).items())
        raise UserError(f"no run is finished ({states}): nothing to compare yet")
    measured = {run.name: run.measured for run in finished}
    without = [name for name, metrics in measured.items() if metric not in metrics]
    if without:
        known = metrics_among(set.intersection(*map(set, measured.values())))
        raise UserError(
            f"--metric {metric}: {name_some(without)} {'have' if len(without) > 1 else 'has'} none; all "
            f"runs have {', '.join(known) or 'none in common'}"
        )
    check_images(finished)
    return finished


def check_images(runs: list[RunRecord]) -> None:
    """Raise UserError if runs that read their data set alike had different images: their means would be
    over several data sets, and differences between settings too."""
    groups: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        options = {k: v for k, v in computed(run.config).items() if k.startswith("dataset.")}
        if run.summary.data:
            by_data = groups.setdefault(repr(sorted(options.items())), {})
            by_data.setdefault(run.summary.data, []).append(run.name)
    for by_data in groups.values():
        if len(by_data) > 1:
            each = "; ".join(f"on {data} {name_some(names)}" for data, names in by_data.items())
            raise UserError(
                f"runs on different images do not compare, the data set has changed: {each}. Run the "
                "older ones again, by the sweep's command with their values, or move them away"
            )


def expected_by_budget(settings: list[Setting], metric: str) -> dict[str, list[Interval]]:
    """By loss, what to expect on the test split of the best of 1, 2, … of its settings tried. Each seed
    chooses anew, so the intervals are for other seeds; for other settings there is none, since those of
    a grid are not drawn at random."""
    curves: dict[str, dict[Repeat, list[float]]] = {}
    sign = metric_named(metric).sign
    test_ratio = max((s.test_ratio for s in settings), default=0.0)
    for loss in dict.fromkeys(setting.loss for setting in settings):
        own = [setting for setting in settings if setting.loss == loss]
        both = [(setting.validation(metric), setting.values(metric)) for setting in own]
        curves[loss] = {
            repeat: [
                sign * expected_best(*sides_of(both, repeat, sign), budget)
                for budget in range(1, min(len(own), MOST_BUDGET) + 1)
            ]
            for repeat in set.intersection(*(set(test) for _, test in both))
        }
    expected: dict[str, list[Interval]] = {loss: [] for loss, own in curves.items() if own}
    for budget in range(MOST_BUDGET):
        values = {
            loss: {repeat: curve[budget] for repeat, curve in own.items() if budget < len(curve)}
            for loss, own in curves.items()
        }
        values = {loss: own for loss, own in values.items() if own}
        family = Family(values, test_ratio)
        for loss in values:
            expected[loss].append(family.interval(loss))
    return expected


def sides_of(both: list[tuple[dict, dict]], repeat: Repeat, sign: int) -> list[list[float]]:
    """The validation and the test results of settings with one seed, larger is better."""
    return [[sign * values[repeat] for values in side] for side in zip(*both, strict=True)]
