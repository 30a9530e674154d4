"""Settings ranked: their intervals, their differences from the best and from a baseline."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..config import computed
from ..datasets.files import name_some
from ..errors import UserError
from ..evaluation import METRICS
from .read import RunRecord
from .settings import Setting, group_by_setting, shown_values, unlabelled_differences
from .statistics import Difference, Repeat, by_fold, expected_best, interval, paired_difference
from .verdict import SAME, Undecided, undecided

__all__ = ["Comparison", "Setting", "rank_runs", "shown_values"]

MOST_BUDGET = 100  # settings tried, in the view of equal budgets


@dataclass
class Comparison:
    """Settings from the best, by the validation split, to the worst, and after them the `baselines`,
    which are compared with and never ranked. `undecided` says why no setting ranks first."""

    metric: str
    settings: list[Setting]
    baseline: Setting | None
    runs: list[RunRecord]
    problems: list[str]
    budgets: dict[str, list[float]] = field(default_factory=dict)
    also_differ: dict[str, list] = field(default_factory=dict)  # keys that no label shows
    baselines: list[Setting] = field(default_factory=list)
    undecided: Undecided | None = None
    folder: Path | None = None  # that the comparison is written to

    @property
    def candidates(self) -> list[Setting]:
        """The settings that are ranked."""
        return [setting for setting in self.settings if setting not in self.baselines]

    @property
    def by_loss(self) -> dict[str, list[Setting]]:
        """The settings of each loss, the best first; baselines among them, but for pixels, which have
        none to train."""
        found: dict[str, list[Setting]] = {}
        for setting in self.settings:
            if setting.loss != "pixels":
                found.setdefault(setting.loss, []).append(setting)
        return found

    @property
    def best(self) -> Setting:
        """The first in the order, which is no winner where the comparison is undecided."""
        return self.settings[0]

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric].higher_is_better

    @property
    def winner(self) -> Setting | None:
        return None if self.undecided else self.best

    @property
    def equals(self) -> list[Setting]:
        """Others that the validation split puts level with the first."""
        mean = self.best.chosen.mean
        return [s for s in self.candidates[1:] if abs(s.chosen.mean - mean) <= SAME]

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
    runs: list[RunRecord], problems: list[str], metric: str, baseline: str | None = None
) -> Comparison:
    """Raises UserError for an unknown metric or baseline, and if no run is finished."""
    finished = comparable(runs, metric)
    settings = group_by_setting(finished)
    sign = 1 if METRICS[metric].higher_is_better else -1
    for setting in settings:
        chosen = {run.repeat: run.chosen_by(metric) for run in setting.runs}
        setting.chosen = interval(by_fold(chosen), shared=setting.shared)
        setting.test = setting.interval(metric)
    fixed = fixed_baselines(settings)
    # Equal ones stay in the order of their folders: what the test split says must not choose.
    settings.sort(key=lambda setting: (setting in fixed, -sign * setting.chosen.mean))
    base = find_baseline(settings, baseline)
    others, best = len(settings) - 1, settings[0]
    for setting in settings:
        if base is not None and setting is not base:
            setting.to_baseline = difference(setting, base, metric, others)
        if setting is not best:
            setting.to_best = difference(setting, best, metric, others)
    trained = [setting for setting in settings if setting.loss != "pixels"] or settings
    return Comparison(
        metric,
        settings,
        base,
        runs,
        problems,
        expected_by_budget(trained, sign),
        unlabelled_differences(trained),
        [setting for setting in settings if setting in fixed],
        undecided([setting for setting in settings if setting not in fixed], metric),
    )


def comparable(runs: list[RunRecord], metric: str) -> list[RunRecord]:
    """The finished runs. Raises UserError if there are none, or not all have the metric."""
    if metric not in METRICS:
        raise UserError(f"--metric {metric}: choose one of {', '.join(METRICS)}")
    finished = [run for run in runs if run.is_done]
    if not finished:
        states = ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in runs).items())
        raise UserError(f"no run is finished ({states}): nothing to compare yet")
    measured = {run.name: run.measured for run in finished}
    without = [name for name, metrics in measured.items() if metric not in metrics]
    if without:
        known = [name for name in METRICS if all(name in metrics for metrics in measured.values())]
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


def fixed_baselines(settings: list[Setting]) -> list[Setting]:
    """Those that the others are compared with: pixels beside trained models, and softmax beside other
    losses."""
    for families in (("pixels", "softmax"), ("pixels",)):
        found = [setting for setting in settings if setting.loss in families]
        if len(found) < len(settings):
            return found
    return []


def difference(ours: Setting, theirs: Setting, metric: str, compared: int) -> Difference | None:
    """Ours minus theirs on the test split. Pixels that ran with one seed stand for every seed: there are
    no weights to draw but the class weights, which end in the same place."""
    mine, other = ours.values(metric), theirs.values(metric)
    mine, other = repeated(ours, mine, other), repeated(theirs, other, mine)
    return paired_difference(mine, other, compared, max(ours.shared, theirs.shared))


def repeated(
    setting: Setting, own: dict[Repeat, float], others: dict[Repeat, float]
) -> dict[Repeat, float]:
    if setting.loss != "pixels" or len(setting.seeds) > 1:
        return own
    by_fold = {repeat.fold: value for repeat, value in own.items()}
    return own | {each: by_fold[each.fold] for each in others if each.fold in by_fold}


def find_baseline(settings: list[Setting], asked: str | None) -> Setting | None:
    """The best setting of the loss `asked` for, or with that label; if none is, of softmax, normface or
    pixels."""
    for name in [asked] if asked else ["softmax", "normface", "pixels"]:
        for setting in settings:
            if name in (setting.loss, setting.label):
                return setting
    if asked:
        labels = ", ".join(setting.label for setting in settings)
        raise UserError(f"--baseline {asked}: no such loss or setting here, there are {labels}")
    return None


def expected_by_budget(settings: list[Setting], sign: int) -> dict[str, list[float]]:
    """By loss, what to expect on the test split of the best of 1, 2, … of its settings tried."""
    expected = {}
    for loss in dict.fromkeys(setting.loss for setting in settings):
        own = [setting for setting in settings if setting.loss == loss]
        chosen, test = ([sign * getattr(s, which).mean for s in own] for which in ("chosen", "test"))
        budget_sizes = range(1, min(len(own), MOST_BUDGET) + 1)
        expected[loss] = [sign * expected_best(chosen, test, budget) for budget in budget_sizes]
    return expected
