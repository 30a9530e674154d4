"""The comparison itself: settings, their intervals, their differences, and the answer in words."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..config import NOT_IDENTITY
from ..errors import UserError
from ..evaluation import METRICS, higher_is_better
from .read import Run
from .statistics import Difference, Interval, best_of, difference, interval

SHORT = {"margin.value": "m", "scale.value": "s"}
HIDDEN = ("seed", "loss.margin", "loss.scale", "loss.few_classes", *NOT_IDENTITY, "dataset.root")


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

    @property
    def best(self) -> Setting:
        return self.settings[0]

    @property
    def failures(self) -> list[Run]:
        return [run for run in self.runs if run.state not in ("finished", "running", "pruned")]

    @property
    def chosen_on_test(self) -> bool:
        return any(run.validation is None for setting in self.settings for run in setting.runs)


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
    return Comparison(metric, settings, base, runs, problems, budgets(settings, sign))


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
    several = {flat_one["dataset.name"] for flat_one in flat.values()}
    if len(several) > 1:
        raise UserError(f"runs on different data sets do not compare: {', '.join(sorted(several))}")
    return settings


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
        value = f"{value:.4g}"
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
        found[loss] = [sign * best_of(chosen, test, budget) for budget in range(1, len(own) + 1)]
    return found


def in_words(found: Comparison) -> list[str]:
    """The answer, a sentence or two each: which, how good, against the baseline, how sure."""
    best, metric, n = found.best, found.metric, len(found.settings)
    chosen = "test split, which flatters it" if found.chosen_on_test else "validation split"
    seeds = f"{best.test.n} seeds" if best.test.n > 1 else "a single seed"
    lines = [
        f"{best.label} is the best of {n} settings by {metric} on the {chosen}: "
        f"{number(metric, best.test.mean)} on the test split{between(metric, best.test)}, {seeds}."
        if n > 1
        else f"{best.label}, the only setting: {metric} {number(metric, best.test.mean)} on the test "
        f"split{between(metric, best.test)}, {seeds}."
    ]
    if best.test.n == 1 and n > 1:
        lines.append(
            "With a single seed nothing can be said of how sure this is: run more, as seed=0,1,2."
        )
        return lines
    if found.baseline is not None and found.baseline is not best and best.to_baseline:
        lines.append(against(metric, best, found.baseline, best.to_baseline, "the baseline "))
    rivals = [s for s in found.settings[1:] if s.to_best and not s.to_best.separable]
    if n > 1:
        beaten = (n - 1 - len(rivals)) or "none"
        lines.append(
            f"It is separable from {beaten} of the {n - 1} others (95% for all of them together)"
            + ("." if not rivals else ", not from " + listed([rival.label for rival in rivals]) + ".")
        )
    if rivals:
        nearest = rivals[0]
        needed = nearest.to_best.more_seeds
        if nearest.to_best.n == 1:
            tail = "has too few seeds in common with it to say"
        elif needed is None:
            tail = f"differs by so little that {1000:,} seeds would not tell them apart"
        else:
            tail = f"would need about {needed} more seeds each to be told apart from it"
        lines.append(f"{nearest.label}, the nearest of those, {tail}.")
        lines.append(
            f"So believe that it is one of the {len(rivals) + 1} best, not that it is the best."
        )
    elif n > 1:
        lines.append("So believe that it is the best of these settings, on this data and budget.")
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
        return " or ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    return f"{', '.join(labels[:most])} or {len(labels) - most} more"


def number(metric: str, value: float, sign: bool = False) -> str:
    """A metric as people read it: shares in percent, angles in degrees; differences with their sign."""
    plus = "+" if sign else ""
    if "_angle_" in metric:
        return f"{value * 57.29577951308232:{plus}.1f}°"
    return f"{100 * value:{plus}.1f}" + (" points" if sign else "%")


def between(metric: str, found: Interval) -> str:
    if found.low is None:
        return ""
    low, high = readable(metric, found)
    return f" (95% interval {low} to {high})"


def readable(metric: str, found: Interval) -> tuple[str, str]:
    """The ends of an interval; a share's is cut at 100%, which the t interval does not know of."""
    high = found.high if "_angle_" in metric else min(found.high, 1.0)
    return number(metric, found.low), number(metric, high)


def write_tables(found: Comparison, out: Path) -> None:
    """`results.csv`, a row a run, and `summary.csv`, a row a setting."""
    keys = list(dict.fromkeys(key for setting in found.settings for key in setting.differs))
    of_run = {run.folder: setting for setting in found.settings for run in setting.runs}
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        validated = [f"validation_{name}" for name in METRICS]
        writer.writerow(
            ["run", "state", "setting", *keys, "seed", *METRICS, *validated, "seconds", "error"]
        )
        for run in found.runs:
            setting, flat = of_run.get(run.folder), flattened(run.config)
            writer.writerow(
                [str(run.folder), run.state, setting.label if setting else ""]
                + [flat.get(key, "") for key in keys]
                + [run.seed]
                + [(run.metrics or {}).get(name, "") for name in METRICS]
                + [(run.validation or {}).get(name, "") for name in METRICS]
                + [run.seconds, run.error or ""]
            )
    with open(out / "summary.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            ["" if value is None else value for value in row] for row in settings_rows(found)
        )


def settings_rows(found: Comparison) -> list[list]:
    """A row a setting, from the best down, after a header."""
    keys = list(dict.fromkeys(key for setting in found.settings for key in setting.differs))
    gaps = ("n", "mean", "low", "high", "separable", "more_seeds")
    header = ["rank", "setting", *keys, "metric", "validation_mean", "n", "mean", "sd", "low", "high"]
    header += [f"{which}_{name}" for which in ("to_baseline", "to_best") for name in gaps]
    rows = []
    for rank, setting in enumerate(found.settings, 1):
        row = [rank, setting.label, *(setting.differs.get(key) for key in keys), found.metric]
        row += [setting.chosen.mean, *setting.test]
        for gap in (setting.to_baseline, setting.to_best):
            row += list(gap) if gap else [None] * len(gaps)
        rows.append(row)
    return [header, *rows]
