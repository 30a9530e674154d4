"""The comparison itself: settings, their intervals, their differences, and the answer in words."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..config import NOT_IDENTITY
from ..errors import UserError
from ..evaluation import METRICS, higher_is_better, kind_of
from .read import Run
from .statistics import Difference, Interval, best_of, difference, interval

TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}  # a folder may be called anything
SHORT = {"margin.value": "m", "scale.value": "s"}
NOWHERE = [key for key in NOT_IDENTITY if key != "device"]
HIDDEN = ("seed", "loss.margin", "loss.scale", "loss.few_classes", *NOWHERE, "dataset.root")
HIDDEN += ("device.name", "device.threads")
MOST_BUDGET = 100  # settings tried, in the view of equal budgets


@dataclass
class Setting:
    """Runs that differ in their seed only; `label` says what sets it apart, as "arcface m=0.3"."""

    key: str
    label: str
    differs: dict[str, object]
    runs: list[Run]
    chosen: Interval = None  # the metric on the split that settings are chosen by
    test: Interval = None  # and on the test split
    to_baseline: Difference | None = None
    to_best: Difference | None = None

    @property
    def loss(self) -> str:
        return self.runs[0].config["loss"]["name"]

    def values(self, metric: str) -> dict[int, float]:
        """The metric on the test split, by seed."""
        return {run.seed: run.metrics[metric] for run in self.runs}


@dataclass
class Comparison:
    """Settings from the best, by the validation split, to the worst."""

    metric: str
    settings: list[Setting]
    baseline: Setting | None
    runs: list[Run]
    problems: list[str]
    budgets: dict[str, list[float]] = field(default_factory=dict)
    also_differ: dict[str, list] = field(default_factory=dict)  # in keys that no label tells of

    @property
    def best(self) -> Setting:
        return self.settings[0]

    @property
    def failures(self) -> list[Run]:
        return [run for run in self.runs if run.state not in ("finished", "running", "pruned")]

    @property
    def chosen_on_test(self) -> bool:
        return self.best.runs[0].validation is None

    @property
    def chosen_on(self) -> str:
        return "test split" if self.chosen_on_test else "validation split"


def compare(
    runs: list[Run], problems: list[str], metric: str, baseline: str | None = None
) -> Comparison:
    """Raises UserError for an unknown metric or baseline, and if no run is finished."""
    if metric not in METRICS:
        raise UserError(f"--metric {metric}: choose one of {', '.join(METRICS)}")
    finished = [run for run in runs if run.state == "finished"]
    if not finished:
        states = ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in runs).items())
        raise UserError(f"no run is finished ({states}): nothing to compare yet")
    without = [run.name for run in finished if not {metric} <= set(run.metrics)]
    if without:
        known = [name for name in METRICS if all(name in run.metrics for run in finished)]
        more = f" and {len(without) - 1} more" * (len(without) > 1)
        raise UserError(
            f"--metric {metric}: {without[0]}{more} has none; all runs have "
            f"{', '.join(known) or 'none in common'}"
        )
    settings = group(finished)
    sign = 1 if higher_is_better(metric) else -1
    for setting in settings:
        setting.chosen = interval([run.chosen_by(metric) for run in setting.runs])
        setting.test = interval(list(setting.values(metric).values()))
    settings.sort(key=lambda setting: (-sign * setting.chosen.mean, -sign * setting.test.mean))
    base = find_baseline(settings, baseline)
    others, best = len(settings) - 1, settings[0]
    for setting in settings:
        ours = setting.values(metric)
        if base is not None and setting is not base:
            setting.to_baseline = difference(ours, base.values(metric), others)
        if setting is not best:
            setting.to_best = difference(ours, best.values(metric), others)
    also = unlabelled(settings)
    return Comparison(metric, settings, base, runs, problems, budgets(settings, sign), also)


def group(runs: list[Run]) -> list[Setting]:
    """Runs by setting, of two runs with one seed the later; labelled by what varies among them."""
    by_key: dict[str, dict[int, Run]] = {}
    for run in runs:
        by_key.setdefault(run.setting, {})[run.seed] = run
    flat = {key: flattened(next(iter(seeds.values())).config) for key, seeds in by_key.items()}
    settings = []
    for key, seeds in by_key.items():
        kin = [other for other in flat.values() if other["loss.name"] == flat[key]["loss.name"]]
        differs = {
            name: value
            for name, value in flat[key].items()
            if name != "loss.name" and any(other.get(name) != value for other in kin)
        }
        label = " ".join([flat[key]["loss.name"], *(said(*pair) for pair in differs.items())])
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


def unlabelled(settings: list[Setting]) -> dict[str, list]:
    """What differs between losses, besides the loss, its margin and its scale, as epochs would."""
    flat = [flattened(setting.runs[0].config) for setting in settings]
    told = {key for setting in settings for key in setting.differs}
    keys = {
        key for values in flat for key in values if not key.startswith(("loss.", "margin.", "scale."))
    }
    values = {key: list(dict.fromkeys(str(one.get(key)) for one in flat)) for key in sorted(keys - told)}
    return {key: found for key, found in values.items() if len(found) > 1}


def flattened(config: dict, prefix: str = "") -> dict[str, object]:
    """`{"margin": {"value": 0.3}}` -> `{"margin.value": 0.3}`, without what does not set runs apart."""
    flat = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in HIDDEN:
            continue
        flat |= flattened(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def said(key: str, value: object) -> str:
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


def budgets(settings: list[Setting], sign: int) -> dict[str, list[float]]:
    """By loss, what to expect on the test split of the best of 1, 2, … of its settings tried."""
    found = {}
    for loss in dict.fromkeys(setting.loss for setting in settings):
        own = [setting for setting in settings if setting.loss == loss]
        chosen, test = ([sign * getattr(s, which).mean for s in own] for which in ("chosen", "test"))
        budget_sizes = range(1, min(len(own), MOST_BUDGET) + 1)
        found[loss] = [sign * best_of(chosen, test, budget) for budget in budget_sizes]
    return found


def in_words(found: Comparison) -> list[str]:
    """The answer, a sentence or two each: which, how good, against the baseline, how sure."""
    best, metric, n = found.best, found.metric, len(found.settings)
    up = higher_is_better(metric)
    lower = "" if up else " (lower is better)"
    flatters = ", which flatters it" if found.chosen_on_test else ""
    seeds = f"{best.test.n} seeds" if best.test.n > 1 else "a single seed"
    on_test = f"{number(metric, best.test.mean)} on the test split{between(metric, best.test)}, {seeds}."
    lines = [
        f"{best.label} ranks first of {n} settings by {metric}{lower} on the {found.chosen_on}"
        f"{flatters}: {on_test}"
        if n > 1
        else f"{best.label}, the only setting: {metric}{lower} {on_test}"
    ]
    without = [run for run in found.failures if run.setting == best.key]
    if without:
        states = ", ".join(
            f"{count} {state}" for state, count in Counter(r.state for r in without).items()
        )
        lines.append(
            f"More of its runs are not in these numbers, because they did not finish: {states}."
        )
    lost = {run.setting for run in found.failures} - {setting.key for setting in found.settings}
    if lost:
        lines.append(f"{len(lost)} more settings have no finished run at all, see the failures.")
    if found.also_differ:
        differing = "; ".join(f"{key}: {', '.join(v)}" for key, v in found.also_differ.items())
        lines.append(f"Mind that losses also differ in {differing}.")
    if n == 1:
        return lines
    if best.test.n == 1:
        lines.append(
            "With a single seed nothing can be said of how sure this is: run more, as seed=0,1,2."
        )
        return lines
    if found.baseline is not None and found.baseline is not best and best.to_baseline:
        lines.append(against(metric, best, found.baseline, best.to_baseline, "the baseline "))
    return lines + how_sure(found, 1 if up else -1)


def how_sure(found: Comparison, sign: int) -> list[str]:
    """Which of the others are behind the best, which may not be, and which are even ahead on test."""
    metric, others = found.metric, found.settings[1:]
    behind = [s for s in others if s.to_best and s.to_best.separable and sign * s.to_best.mean < 0]
    ahead = [s for s in others if s.to_best and s.to_best.separable and sign * s.to_best.mean > 0]
    unknown = [s for s in others if not s.to_best or s.to_best.n == 1]
    rivals = [s for s in others if s not in (*behind, *ahead, *unknown)]
    doubtful = len(rivals) + len(unknown)
    if ahead:
        verdict = "Do not take it for the best: on the test split others are ahead of it, separably."
    elif doubtful:
        verdict = (
            f"That does not make it the best: {doubtful} of the {len(others)} others may be as good."
        )
    else:
        verdict = "It is the best of these settings, on this data and budget: all others are behind."
    lines = [verdict]
    if behind:
        labels = listed([s.label for s in behind])
        lines.append(f"Separably behind it (95% for all of them together): {labels}.")
    if ahead:
        lines.append(f"Separably ahead of it on the test split: {listed([s.label for s in ahead])}.")
    if unknown:
        few = listed([s.label for s in unknown])
        lines.append(f"Too few seeds in common with it to say anything: {few}.")
    if rivals:
        lines.append(f"Not separable from it with these seeds: {listed([s.label for s in rivals])}.")
        nearest = min(rivals, key=lambda setting: abs(setting.to_best.mean))
        gap = nearest.to_best
        side = "ahead of" if sign * gap.mean > 0 else "behind"
        apart = f"{number(metric, abs(gap.mean), sign=True).lstrip('+')} {side} it"
        needed = f"about {gap.more_seeds} more seeds each" if gap.more_seeds else "more than 1,000 seeds"
        equal = abs(gap.mean) < 1e-12  # what is left of means that are the same
        lines.append(
            f"The nearest of those on the test split, {nearest.label}, "
            + ("equals it." if equal else f"is {apart}: telling them apart would take {needed}.")
        )
        leading = [s for s in rivals if sign * s.to_best.mean > 0 and s is not nearest]
        if leading:
            lines.append(f"Also ahead of it on the test split: {listed([s.label for s in leading])}.")
    return lines


def against(metric: str, ours: Setting, theirs: Setting, seen: Difference, what: str) -> str:
    gap = f"{number(metric, seen.mean, sign=True)}"
    if seen.n == 1:
        return f"Against {what}{theirs.label}: {gap}, with one seed in common."
    if seen.separable:
        end = "separable"
    elif seen.more_seeds is None:
        end = "not separable with these seeds, nor with a thousand"
    else:
        end = f"not separable with these seeds, about {seen.more_seeds} more would be needed"
    low, high = (number(metric, bound, sign=True) for bound in (seen.low, seen.high))
    return f"Against {what}{theirs.label}: {gap} ({low} to {high}), {end}."


def listed(labels: list[str], most: int = 4) -> str:
    if len(labels) <= most:
        return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    return f"{', '.join(labels[:most])} and {len(labels) - most} more"


def number(metric: str, value: float, sign: bool = False) -> str:
    """A metric as people read it: shares in percent, angles in degrees; differences with their sign."""
    plus = "+" if sign else ""
    if kind_of(metric) == "angle":
        return f"{value * 57.29577951308232:{plus}.1f}°"
    if kind_of(metric) == "number":
        return f"{value:{plus}.2f}"
    return f"{100 * value:{plus}.1f}" + (" points" if sign else "%")


def between(metric: str, found: Interval) -> str:
    if found.low is None:
        return ""
    low, high = readable(metric, found)
    return f" (95% interval {low} to {high})"


def readable(metric: str, found: Interval) -> tuple[str, str]:
    """The ends of an interval; a share's are cut at 0 and 100%, unknown to the t interval."""
    low, high = found.low, found.high
    if metric != "uniformity":
        low = max(low, 0.0)
    if kind_of(metric) == "share":
        high = min(high, 1.0)
    return number(metric, low), number(metric, high)


def write_tables(found: Comparison, out: Path) -> None:
    """`results.csv`, a row a run, and `summary.csv`, a row a setting."""
    keys = list(dict.fromkeys(key for setting in found.settings for key in setting.differs))
    of_run = {run.folder: setting for setting in found.settings for run in setting.runs}
    with open(out / "results.csv", "w", newline="", **TEXT) as file:
        writer = csv.writer(file)
        had = [name for name in METRICS if any(name in (run.metrics or {}) for run in found.runs)]
        validated = [f"validation_{name}" for name in had]
        writer.writerow(["run", "state", "setting", *keys, "seed", *had, *validated, "seconds", "error"])
        for run in found.runs:
            setting, flat = of_run.get(run.folder), flattened(run.config)
            writer.writerow(
                [str(run.folder), run.state, setting.label if setting else ""]
                + [flat.get(key, "") for key in keys]
                + [run.seed]
                + [(run.metrics or {}).get(name, "") for name in had]
                + [(run.validation or {}).get(name, "") for name in had]
                + [run.seconds, run.error or ""]
            )
    with open(out / "summary.csv", "w", newline="", **TEXT) as file:
        csv.writer(file).writerows(
            ["" if value is None else value for value in row] for row in settings_rows(found)
        )


def settings_rows(found: Comparison) -> list[list]:
    """A row a setting, from the best down, after a header."""
    keys = list(dict.fromkeys(key for setting in found.settings for key in setting.differs))
    gaps = ("n", "mean", "low", "high", "separable", "more_seeds")
    header = [
        "rank",
        "setting",
        *keys,
        "metric",
        f"{found.chosen_on.split()[0]}_mean",
        "n",
        "mean",
        "sd",
        "low",
        "high",
    ]
    header += [f"{which}_{name}" for which in ("to_baseline", "to_best") for name in gaps]
    rows = []
    for rank, setting in enumerate(found.settings, 1):
        row = [rank, setting.label, *(setting.differs.get(key) for key in keys), found.metric]
        row += [setting.chosen.mean, *setting.test]
        for gap in (setting.to_baseline, setting.to_best):
            row += list(gap) if gap else [None] * len(gaps)
        rows.append(row)
    return [header, *rows]
