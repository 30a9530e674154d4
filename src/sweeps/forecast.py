"""What a sweep will cost, and what it could find, before it runs."""

import math

import numpy as np

from ..config import setting
from ..config.tree import PIXELS
from ..evaluation import metric_named
from ..words import counted
from .plan import Planned

MINUTE, HOUR = 60, 3600


def forecast(runs: list[Planned], to_go: int, slots: int | None, race: bool = False) -> list[str]:
    """Say how long `to_go` of a sweep's runs take, `slots` at a time, by those that are finished, and
    the smallest difference between losses that they would show; that of a `race` is not known."""
    lines = []
    finished = [run.folder.summary() for run in runs if run.objective is not None]
    seconds = [summary.seconds for summary in finished if summary and summary.seconds]
    if seconds:
        whole = float(np.mean(seconds)) * math.ceil(to_go / (slots or to_go or 1))
        each = f"{np.mean(seconds):.1f} s a run, {counted(slots or to_go, 'run')} at a time"
        lines.append(
            f"time left: about {duration(whole)} ({each}, by {counted(len(seconds), 'finished run')})"
        )
    else:
        lines.append("how long it takes can be told once a run is finished: train one of them first")
    return lines if race else [*lines, *smallest_difference(runs)]


def duration(seconds: float) -> str:
    if seconds < HOUR:
        return counted(math.ceil(seconds / MINUTE), "minute")
    return f"{seconds / HOUR:.1f} hours"


def smallest_difference(runs: list[Planned]) -> list[str]:
    """The smallest difference between losses that would be found, in standard deviations between seeds
    and, where settings have finished with several seeds, in the metric's own unit."""
    from ..analysis.statistics import in_standard_deviations  # scipy's import takes a moment

    trained = [run for run in runs if run.config.model.target != PIXELS]
    losses = {run.config.name("loss") for run in trained}
    repeats = {(run.config.seed, run.config.dataset.fold) for run in trained}
    if len(losses) < 2 or any(fold is not None for _, fold in repeats):
        return []
    size = in_standard_deviations(len(losses), len(repeats))
    seeds = counted(len(repeats), "seed")
    if size is None:
        return [f"{seeds} of {counted(len(losses), 'loss')} are too few for an interval: seed=0,1,2"]
    said = f"{seeds} would show a difference between losses of {size:.1f} standard deviations"
    spread = spread_of(trained)
    if spread:
        metric = metric_named(trained[0].config.objective)
        shown = metric.format(size * spread, True).lstrip("+")
        said += f", which is about {shown} of {metric.label} by the runs that are finished"
    return [said]


def spread_of(runs: list[Planned]) -> float | None:
    """The standard deviation between seeds, by the settings that have finished with several."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        if run.objective is not None:
            groups.setdefault(setting(run.config), []).append(run.objective)
    several = [np.var(own, ddof=1) for own in groups.values() if len(own) > 1]
    return float(np.sqrt(np.mean(several))) if several else None
