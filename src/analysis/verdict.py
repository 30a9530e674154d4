"""Can a metric tell the settings apart? If it cannot: why, and which other one can."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..evaluation import Metric, metric_named, metrics_among
from .settings import Setting, family_of
from .statistics import by_fold

SAME = 1e-9  # what is left of means that are the same
BY_OWN_MARGIN = ("margin_satisfied",)  # each setting is measured by its own
MEASURED = ("validation", "test")


@dataclass(frozen=True)
class Other:
    """Another metric that spreads the settings: their labels with its means, the best first, and how
    many of them are separable from the best of them."""

    metric: str
    split: str
    means: list[tuple[str, float]]
    separable: int


@dataclass(frozen=True)
class Undecided:
    """Why no setting ranks first. All runs `collapsed`; or on the `split` all means are `saturated`,
    within the metric's `resolution` (None: not known) of its bound, or `tied`, less apart than that."""

    why: Literal["collapsed", "saturated", "tied"]
    split: str = "test"
    low: float | None = None
    high: float | None = None
    resolution: float | None = None
    other: Other | None = None


def undecided(settings: list[Setting], metric: str) -> Undecided | None:
    """What keeps any of several settings from ranking first; None if one does."""
    if len(settings) < 2:
        return None
    if all(len(setting.collapsed) == len(setting.runs) for setting in settings):
        return Undecided("collapsed")
    for split in MEASURED:
        means = means_on(split, settings, metric)
        step = resolution(settings, metric_named(metric), split)
        why = flat(means, metric_named(metric), step) if means else None
        if why:
            other = other_metric(settings, metric)
            return Undecided(why, split, min(means), max(means), step, other)
    return None


def flat(
    means: list[float], metric: Metric, resolution: float | None
) -> Literal["saturated", "tied"] | None:
    step = resolution or 0.0
    if all(abs(metric.best - mean) <= step + SAME for mean in means):
        return "saturated"
    apart = max(means) - min(means)
    return "tied" if apart <= SAME or apart < step - SAME else None


def means_on(split: str, settings: list[Setting], metric: str) -> list[float] | None:
    """The settings' means on a split; None if some have none there."""
    try:
        return [mean_on(split, setting, metric) for setting in settings]
    except KeyError:
        return None


def mean_on(split: str, setting: Setting, metric: str) -> float:
    """A setting's mean on a split. Raises KeyError if a run has none there."""
    if split == "test":
        return float(np.mean(by_fold(setting.values(metric))))
    return float(np.mean(by_fold({r.repeat: (r.validation or {})[metric] for r in setting.runs})))


def resolution(settings: list[Setting], metric: Metric, split: str) -> float | None:
    """How far one more sample that goes wrong can move a setting's mean on a split; None if that is not
    known. Folds add up to one larger split; seeds look at the same samples again."""
    steps = []
    for setting in settings:
        for run in setting.runs:
            step = metric.resolution(run.counts.get(split, {}))
            if step is None:
                return None
            steps.append(step / max(1, len(setting.folds)))
    return max(steps)


def other_metric(settings: list[Setting], metric: str) -> Other | None:
    """Of the other metrics that all runs have, the one that separates most settings from its best, or if
    none does, that spreads them over most of its own resolutions. Angles are left out: they measure what
    a loss trains, which is not always what it is good for."""
    best, most = None, (0, 0.0)
    validated = any(run.validation for setting in settings for run in setting.runs)
    for name in metrics_among(settings[0].runs[0].metrics):
        if name == metric or name in BY_OWN_MARGIN or not metric_named(name).counted:
            continue
        splits = {split: means_on(split, settings, name) for split in MEASURED}
        splits = {split: means for split, means in splits.items() if means}
        steps = {split: resolution(settings, metric_named(name), split) for split in splits}
        needed = MEASURED if validated else ("test",)  # or a comparison by it would be refused
        if not set(needed) <= set(splits) or any(
            flat(means, metric_named(name), steps[split]) for split, means in splits.items()
        ):
            continue
        split, means = next(iter(splits.items()))
        order = sorted(
            zip(means, settings, strict=True),
            key=lambda pair: pair[0],
            reverse=metric_named(name).higher_is_better,
        )
        first = order[0][1]
        family = family_of(settings, name)
        separable = sum(family.difference(first.label, s.label).separable for _, s in order[1:])
        spread = (max(means) - min(means)) / (steps[split] or 1.0)
        if (separable, spread) > most:
            best = Other(name, split, [(s.label, mean) for mean, s in order], separable)
            most = separable, spread
    return best
