"""Settings ranked: their intervals, their differences from the best and from a baseline."""

from collections import Counter
from dataclasses import dataclass, field

from ..datasets.files import name_some
from ..errors import UserError
from ..evaluation import METRICS
from ..run.identity import (
    NOT_COMPUTED,
    NOT_IDENTITY,
    VALUE_ONLY,
    computed,
    describe_code,
    flattened,
    normalised,
)
from .read import RunRecord
from .statistics import Difference, Interval, expected_best, interval, paired_difference

SHORT = {"margin.value": "m", "scale.value": "s"}
# Keys that do not set runs apart for a reader: where and how they ran, and what follows from other keys.
HIDDEN = ("seed", "dataset.root", "device.name", "device.threads", *NOT_COMPUTED)
HIDDEN += tuple(group for group in NOT_IDENTITY if group != "device")
MOST_BUDGET = 100  # settings tried, in the view of equal budgets


@dataclass
class Setting:
    """Runs that differ in their seed only; `label` says what sets it apart, as "arcface m=0.3"."""

    key: str
    label: str
    differs: dict[str, object]
    runs: list[RunRecord]
    chosen: Interval = None  # the metric on the split that settings are chosen by
    test: Interval = None  # and on the test split
    to_baseline: Difference | None = None
    to_best: Difference | None = None

    @property
    def loss(self) -> str:
        return self.runs[0].config["loss"]["name"]

    @property
    def collapsed(self) -> list[RunRecord]:
        return [run for run in self.runs if run.state == "collapsed"]

    def values(self, metric: str) -> dict[int, float]:
        """The metric on the test split, by seed."""
        return {run.seed: run.metrics[metric] for run in self.runs}


@dataclass
class Comparison:
    """Settings from the best, by the validation split, to the worst."""

    metric: str
    settings: list[Setting]
    baseline: Setting | None
    runs: list[RunRecord]
    problems: list[str]
    budgets: dict[str, list[float]] = field(default_factory=dict)
    also_differ: dict[str, list] = field(default_factory=dict)  # keys that no label shows

    @property
    def best(self) -> Setting:
        return self.settings[0]

    @property
    def codes(self) -> dict[str, int]:
        """How many of the compared runs each code computed; codes that compute alike are one."""
        runs = [run for setting in self.settings for run in setting.runs]
        by_sources = {(run.code or {}).get("sources"): describe_code(run.code) for run in reversed(runs)}
        return Counter(by_sources[(run.code or {}).get("sources")] for run in runs)

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
    settings = group_by_setting(finished)
    sign = 1 if METRICS[metric].higher_is_better else -1
    for setting in settings:
        setting.chosen = interval([run.chosen_by(metric) for run in setting.runs])
        setting.test = interval(list(setting.values(metric).values()))
    settings.sort(key=lambda setting: (-sign * setting.chosen.mean, -sign * setting.test.mean))
    base = find_baseline(settings, baseline)
    others, best = len(settings) - 1, settings[0]
    for setting in settings:
        ours = setting.values(metric)
        if base is not None and setting is not base:
            setting.to_baseline = paired_difference(ours, base.values(metric), others)
        if setting is not best:
            setting.to_best = paired_difference(ours, best.values(metric), others)
    return Comparison(
        metric,
        settings,
        base,
        runs,
        problems,
        expected_by_budget(settings, sign),
        unlabelled_differences(settings),
    )


def check_images(runs: list[RunRecord]) -> None:
    """Raise UserError if runs that read their data set alike had different images: their means would be
    over several data sets, and differences between settings too."""
    groups: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        options = {k: v for k, v in computed(run.config).items() if k.startswith("dataset.")}
        options.pop("dataset.root", None)
        if run.data:
            by_data = groups.setdefault(repr(sorted(options.items())), {})
            by_data.setdefault(run.data, []).append(run.name)
    for by_data in groups.values():
        if len(by_data) > 1:
            each = "; ".join(f"on {data} {name_some(names)}" for data, names in by_data.items())
            raise UserError(
                f"runs on different images do not compare, the data set has changed: {each}. Run the "
                "older ones again, by the sweep's command with their values, or move them away"
            )


def group_by_setting(runs: list[RunRecord]) -> list[Setting]:
    """Runs by setting, of two runs with one seed the later; labelled by what varies among them."""
    by_key: dict[str, dict[int, RunRecord]] = {}
    for run in runs:
        by_key.setdefault(run.setting, {})[run.seed] = run
    flat = {key: shown_values(next(iter(seeds.values())).config) for key, seeds in by_key.items()}
    settings = []
    for key, seeds in by_key.items():
        kin = [other for other in flat.values() if other["loss.name"] == flat[key]["loss.name"]]
        differs = {
            name: value
            for name, value in flat[key].items()
            if name != "loss.name" and any(other.get(name) != value for other in kin)
        }
        label = " ".join([flat[key]["loss.name"], *(label_part(*pair) for pair in differs.items())])
        ordered = [seeds[seed] for seed in sorted(seeds)]
        settings.append(Setting(key, label, {"loss.name": flat[key]["loss.name"]} | differs, ordered))
    for key in ("dataset.name", "dataset.val_fraction", "evaluation.name"):
        several = {str(values.get(key)) for values in flat.values()}
        if len(several) > 1:
            raise UserError(f"runs with different {key} do not compare: {', '.join(sorted(several))}")
    for label, count in Counter(setting.label for setting in settings).items():
        if count > 1:  # numbers that differ in a digit not shown
            alike = [setting for setting in settings if setting.label == label]
            for number, setting in enumerate(alike[1:], 2):
                setting.label += f" #{number}"
    return settings


def unlabelled_differences(settings: list[Setting]) -> dict[str, list]:
    """What differs between losses, besides the loss, its margin and its scale, as epochs would."""
    flat = [shown_values(setting.runs[0].config) for setting in settings]
    labelled = {key for setting in settings for key in setting.differs}
    keys = {
        key for values in flat for key in values if not key.startswith(("loss.", "margin.", "scale."))
    }
    values = {
        key: list(dict.fromkeys(str(one.get(key)) for one in flat)) for key in sorted(keys - labelled)
    }
    return {key: several for key, several in values.items() if len(several) > 1}


def shown_values(config: dict) -> dict[str, object]:
    """A configuration's flat, normalised keys that can set runs apart."""
    return {
        key: normalised(value)
        for key, value in flattened(config).items()
        if not key.endswith("._target_")
        and not any(key == hidden or key.startswith(f"{hidden}.") for hidden in HIDDEN)
        and not (key in ("margin.name", "scale.name") and value in VALUE_ONLY)
    }


def label_part(key: str, value: object) -> str:
    if isinstance(value, list):
        value = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"{SHORT.get(key, key.removesuffix('.name').removeprefix('loss.options.'))}={value}"


def find_baseline(settings: list[Setting], asked: str | None) -> Setting | None:
    """The best setting of the loss `asked` for, or with that label; softmax or normface if none is."""
    for name in [asked] if asked else ["softmax", "normface"]:
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
