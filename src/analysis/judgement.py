"""The results of judging embeddings: metrics, their intervals for other classes, thresholds and curves;
put in words, shown and drawn."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from math import isfinite, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ..durable import write_text
from ..evaluation import metric_named
from ..evaluation.weighted import ENOUGH, Curve
from ..words import counted
from .other_classes import jackknife_variance
from .phrases import INTERVAL, difference_text, interval_text, number, signed_ends
from .statistics import CONFIDENCE, FEWEST_DEGREES, NO_SPREAD, Difference, t_quantile

HEADLINE = "map_at_r"
# What passes a threshold that should not, and what should.
WORDS = {
    "trial": ("different pairs", "same ones"),
    "sample": ("probes of nobody in the gallery", "the others, rightly named"),
}


class Threshold(NamedTuple):
    """The share `far` of different pairs, at most `rate`, and `tar` of same pairs, have a score above
    `score`; of other classes' different pairs up to `far_elsewhere`, with 95% probability, if there are
    classes enough to say."""

    rate: str
    score: float
    far: float
    tar: float
    far_elsewhere: float | None = None


@dataclass
class Side:
    """The results of one file: `metrics` by name, and the values (G,) of some without each group of
    classes, `left_out`, and of others for `drawn` classes, drawn anew, `draws`."""

    name: str
    metrics: dict[str, float]
    left_out: dict[str, np.ndarray] = field(default_factory=dict)
    draws: dict[str, np.ndarray] = field(default_factory=dict)
    drawn: int = 0
    thresholds: list[Threshold] = field(default_factory=list)
    curve: Curve | None = None


@dataclass
class Judgement:
    """`metrics` and their `intervals` by file and name; `differences` of the second file minus the
    first, by metric. Intervals are for other classes; ten-fold accuracy, actual DCF and Cllr have none.
    `samples` counts what was `judged`; of trials, and where queries may be of nobody in the gallery,
    there are `thresholds` and `curves` as well, by file."""

    samples: int
    classes: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Difference]]
    differences: dict[str, Difference]
    judged: str = "sample"
    headline: str = HEADLINE
    thresholds: dict[str, list[Threshold]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    @classmethod
    def of(cls, sides: Sequence[Side], count: int, classes: int, **more) -> "Judgement":
        """Put the results of one file or two together."""
        return cls(
            count,
            classes,
            {one.name: one.metrics for one in sides},
            {one.name: for_other_classes([one]) for one in sides},
            for_other_classes(list(sides)) if len(sides) == 2 else {},
            thresholds={one.name: one.thresholds for one in sides if one.thresholds},
            curves={one.name: one.curve for one in sides if one.curve},
            **more,
        )

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        found = asdict(self)
        found["thresholds"] = {k: [one._asdict() for one in v] for k, v in self.thresholds.items()}
        found["curves"] = {
            name: {key: numbers(values) for key, values in curve._asdict().items()}
            for name, curve in self.curves.items()
        }
        write_text(path, json.dumps(found, indent=1, allow_nan=False) + "\n")


def numbers(values: np.ndarray) -> list[float | None]:
    """Values for JSON, which has no NaN."""
    return [value if isfinite(value) else None for value in values.tolist()]


def threshold_at(rate: str, scores: np.ndarray, known: np.ndarray, right: np.ndarray) -> Threshold:
    """The lowest threshold that at most the share `rate` of the scores (n,) of different pairs, or of
    unenrolled probes, is above. The others are `known` (n,), and count where they are `right` (n,)."""
    falling = np.sort(scores[~known])[::-1]
    cut = float(falling[min(int(float(rate) * len(falling) + 1e-9), len(falling) - 1)])
    above = scores > cut
    return Threshold(rate, cut, float(above[~known].mean()), float((above & right)[known].mean()))


def for_new_classes(
    thresholds: list[Threshold], passing: list[list[float]], classes: int
) -> list[Threshold]:
    """Thresholds with the false accept rate that other classes exceed with a probability of 5%.
    `passing` are the rates at each threshold, for draws of so many classes; too few change nothing."""
    if not thresholds or classes <= FEWEST_DEGREES or len(passing) < ENOUGH:
        return thresholds
    highest = np.quantile(np.array(passing), CONFIDENCE, axis=0)
    both = zip(thresholds, highest, strict=True)
    return [one._replace(far_elsewhere=float(high)) for one, high in both]


def for_other_classes(sides: list[Side]) -> dict[str, Difference]:
    """The metrics of a side, or of two the second's minus the first's, with intervals for other
    classes."""
    left_out, draws = sides[-1].left_out, sides[-1].draws
    if len(sides) == 2:
        left_out = {name: own - sides[0].left_out[name] for name, own in left_out.items()}
        draws = {name: own - sides[0].draws[name] for name, own in draws.items()}
    doubts = {name: (jackknife_variance(own), len(own)) for name, own in left_out.items()}
    drawn = sides[-1].drawn
    doubts |= {name: (float(np.var(own, ddof=1)), drawn) for name, own in draws.items()}
    found = {}
    for metric, reached in sides[-1].metrics.items():
        estimate = reached - sides[0].metrics[metric] if len(sides) == 2 else reached
        variance, groups = doubts.get(metric, (0.0, 0))
        known = groups > FEWEST_DEGREES and isfinite(variance)  # not if one group has all queries
        half = t_quantile(CONFIDENCE, groups - 1) * sqrt(variance) if known else None
        found[metric] = Difference.of(estimate, half)
        if known and len(sides) == 1:
            low, high = metric_named(metric).clip(found[metric].low, found[metric].high)
            found[metric] = replace(found[metric], low=low, high=high)
    return found


def sentence(found: Judgement) -> str:
    """The answer, in one line."""
    names, metric = list(found.metrics), found.headline
    label = metric_named(metric).label
    if len(names) == 1:
        reached = found.intervals[names[0]][metric]
        ends = interval_text(metric, reached.low, reached.high).replace(" … ", " to ")
        said = f"{names[0]} reaches {number(metric, reached.estimate)} of {label}"
        return f"{said} ({ends} for other classes)" if ends else said
    gap = found.differences[metric]
    if abs(gap.estimate) < NO_SPREAD:
        return f"{names[0]} and {names[1]} reach the same {label}"
    ahead, behind = names[::-1] if metric_named(metric).sign * gap.estimate > 0 else names
    size = number(metric, abs(gap.estimate), signed=True).lstrip("+")
    if gap.low is None:
        return (
            f"{ahead} is ahead of {behind} by {size} of {label}; too few classes to say how sure that is"
        )
    between = f"{names[1]} − {names[0]}"
    ends = " to ".join(signed_ends(metric, gap.low, gap.high))
    if gap.separable:
        said = f"{ahead} is better than {behind}, by {size} of {label}"
        return f"{said} ({between}: {ends} points for other classes)"
    return f"neither is shown to be better: {between} is {ends} points of {label} for other classes"


def show(found: Judgement) -> None:
    """Print a table and the sentence."""
    names = list(found.metrics)
    print(f"{counted(found.samples, found.judged)} of {counted(found.classes, 'class')}")
    table = Table("metric")
    for name in names:
        table.add_column(name, justify="right")
    last = f"second − first, {INTERVAL}" if len(names) == 2 else INTERVAL
    table.add_column(last, justify="right")
    for metric in found.metrics[names[0]]:
        cells = [number(metric, found.metrics[name][metric]) for name in names]
        if len(names) == 2:
            gap = found.differences.get(metric)
            cells.append(difference_text(metric, *astuple(gap)) if gap else "")
        else:
            own = found.intervals[names[0]].get(metric)
            cells.append(interval_text(metric, own.low, own.high) if own else "")
        table.add_row(metric_named(metric).label, *cells)
    Console(highlight=False).print(table)
    for name, thresholds in found.thresholds.items():
        print(f"{name}: {strictest(thresholds, found.judged)}")
    print(sentence(found))


def strictest(thresholds: list[Threshold], judged: str = "sample") -> str:
    """The threshold of the lowest rate, in words."""
    one = min(thresholds, key=lambda each: float(each.rate))
    unknown, known = WORDS[judged]
    other = one.far_elsewhere
    elsewhere = "" if other is None else f" (of other classes up to {share(other)})"
    passing = f"{share(one.far)} of {unknown} pass{elsewhere}, and {share(one.tar)} of {known}"
    return f"accept above {one.score:.4f}; {passing}"


def share(value: float) -> str:
    """A share in percent, with as many digits as a small one needs: `0.012%`."""
    return f"{100 * value:.3g}%"


def draw(found: Judgement, path: Path) -> None:
    """Draw the curves as a figure."""
    from ..plots import DET_AXES, plot_det, save

    title = f"{counted(found.samples, found.judged)} of {counted(found.classes, 'class')}"
    save(plot_det(found.curves, *DET_AXES[found.judged], title), path)
