"""Compare two encoders by the embeddings that they give the same samples.

Nothing is trained here, so there are no seeds: the doubt is about other classes. The bootstrap draws
whole classes, the same ones for both encoders (see people.py)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..datasets.embeddings import read_features
from ..durable import write_text
from ..errors import UserError
from ..evaluation import (
    METRICS,
    measurable,
    retrieval,
    sample_pairs,
    score_pairs,
    verification,
)
from ..evaluation.retrieval import RETRIEVAL_METRICS
from ..losses import BadArgument
from ..words import counted
from .people import classes_variance, pair_metrics_of_draws
from .phrases import INTERVAL, interval_text, number
from .statistics import CONFIDENCE, FEWEST_DEGREES, NO_SPREAD, Difference, t_quantile

HEADLINE = "map_at_r"
PAIRS = 100_000  # of either kind, drawn


class Threshold(NamedTuple):
    """The share `far` of different pairs, at most `rate`, and `tar` of same pairs, have a score above
    `score`; of other classes' different pairs up to `far_elsewhere`, with 95% probability."""

    rate: str
    score: float
    far: float
    tar: float
    far_elsewhere: float = 0.0


class Curve(NamedTuple):
    """True accept rates (K,) over false accept rates (K,), and where they lie for other classes."""

    far: list[float]
    tar: list[float]
    low: list[float]
    high: list[float]


@dataclass
class Side:
    """The results of one file: `metrics` by name, each sample's part in those of retrieval, `per_query`
    (N, M), and the metrics of pairs for classes drawn anew, `draws`."""

    name: str
    metrics: dict[str, float]
    per_query: np.ndarray
    draws: dict[str, np.ndarray]


@dataclass
class Judgement:
    """`metrics` and their `intervals` by file and name; `differences` of the second file minus the
    first, by metric. Intervals are for other classes; ten-fold accuracy has none. `samples` counts what
    was `judged`; of trials there are `thresholds` and `curves` as well, by file."""

    samples: int
    classes: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Difference]]
    differences: dict[str, Difference]
    judged: str = "sample"
    headline: str = HEADLINE
    thresholds: dict[str, list[Threshold]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        found = asdict(self)
        found["thresholds"] = {k: [one._asdict() for one in v] for k, v in self.thresholds.items()}
        found["curves"] = {name: curve._asdict() for name, curve in self.curves.items()}
        write_text(path, json.dumps(found, indent=1, allow_nan=False) + "\n")


def judge(paths: Sequence[Path], labels: Path | None = None) -> Judgement:
    """Judge the embeddings in one file or in two, of the same samples in the same order, or with the
    same names; `labels` is the file that has those of .npy files. Raises UserError for anything else."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"{paths[1]}: is the first file; name another to compare it with")
    given = [read(path, labels if path.suffix.lower() == ".npy" else None) for path in paths]
    if len(given) == 2:
        given[1] = in_order(paths, *given)
    truth = given[0][1]
    classes, place = np.unique(truth, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"{paths[0]}: all samples are of class {classes[0]}, so there is none to confuse"
        )
    place = torch.from_numpy(place)
    pairs = sample_pairs(place, PAIRS)
    alike = len({path.name for path in paths}) < len(paths)
    names = [str(path) if alike else path.name for path in paths]
    sides = [
        side(name, torch.from_numpy(features), place, pairs)
        for name, (features, *_) in zip(names, given, strict=True)
    ]
    return Judgement(
        len(truth),
        len(classes),
        {one.name: one.metrics for one in sides},
        {one.name: for_other_classes([one], place.numpy()) for one in sides},
        for_other_classes(sides, place.numpy()) if len(sides) == 2 else {},
    )


def read(path: Path, labels: Path | None) -> tuple:
    """The embeddings (N, D), labels (N,) and names (N,), or None, in a file."""
    try:
        found = read_features(path, labels)
    except BadArgument as error:
        if error.argument == "labels":
            raise UserError(f"--labels {labels or 'is missing'}: {error.why}") from None
        raise UserError(f"{path}: {error.why}") from None
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    features = found.images.reshape(len(found.labels), -1)
    if not measurable(torch.from_numpy(features)):
        longest = int(np.abs(features).max(1).argmax())
        raise UserError(f"{path}: the length of sample {longest} is not finite in float32")
    return features, found.labels, found.names


def in_order(paths: Sequence[Path], first: tuple, second: tuple) -> tuple:
    """The second file's samples in the order of the first's. Raises UserError unless they are the
    same."""
    (_, labels, names), (features, other, other_names) = first, second
    named = names is not None and other_names is not None and len(set(names)) == len(names)
    if named and set(names) != set(other_names):
        one = min(set(names) ^ set(other_names))
        raise UserError(
            f"{paths[0]} and {paths[1]} name other samples, as {one}, which one of them lacks"
        )
    if named and len(names) == len(other_names):
        where = {name: row for row, name in enumerate(other_names)}
        rows = np.array([where[name] for name in names])
        features, other, other_names = features[rows], other[rows], other_names[rows]
    if len(labels) != len(other):
        counts = f"{len(labels):,} and {len(other):,} samples"
        raise UserError(f"{paths[0]} and {paths[1]} hold {counts}: two encoders are judged by the same")
    wrong = np.flatnonzero(labels != other)
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"{paths[1]}: sample {row} is of class {other[row]}, in {paths[0]} of {labels[row]}: two "
            "encoders are judged by the same samples in the same order, or with the same names"
        )
    return features, other, other_names


def side(name: str, features: Tensor, labels: Tensor, pairs: tuple[Tensor, ...]) -> Side:
    retrieved, scores = retrieval(features, labels), score_pairs(features, *pairs)
    if not retrieved.metrics:
        raise UserError(f"{name}: no class has two samples, so there is nothing to search")
    draws = pair_metrics_of_draws(scores, *(labels[rows].numpy() for rows in pairs[:2]))
    metrics = retrieved.metrics | verification(scores)
    return Side(name, metrics, retrieved.per_query.numpy(), draws)


def for_other_classes(sides: list[Side], labels: np.ndarray) -> dict[str, Difference]:
    """The metrics of a side, or of two the second's minus the first's, with intervals for other
    classes."""
    values, draws = sides[-1].per_query, sides[-1].draws
    if len(sides) == 2:
        values = values - sides[0].per_query
        draws = {name: own - sides[0].draws[name] for name, own in draws.items()}
    variances = {name: float(np.var(own, ddof=1)) for name, own in draws.items()}
    for column, metric in enumerate(RETRIEVAL_METRICS if values.size else ()):
        queries = np.isfinite(values[:, column])
        variances[metric], _ = classes_variance(values[queries, column][None], labels[queries])
    degrees, found = len(np.unique(labels)) - 1, {}
    for metric, reached in sides[-1].metrics.items():
        estimate = reached - sides[0].metrics[metric] if len(sides) == 2 else reached
        known = metric in variances and degrees >= FEWEST_DEGREES
        half = t_quantile(CONFIDENCE, degrees) * sqrt(variances[metric]) if known else None
        found[metric] = Difference.of(estimate, half)
        if known and len(sides) == 1:
            low, high = METRICS[metric].clip(found[metric].low, found[metric].high)
            found[metric] = replace(found[metric], low=low, high=high)
    return found


def sentence(found: Judgement) -> str:
    """The answer, in one line."""
    names, metric = list(found.metrics), found.headline
    label = METRICS[metric].label
    if len(names) == 1:
        reached = found.intervals[names[0]][metric]
        ends = interval_text(metric, reached.low, reached.high).replace(" … ", " to ")
        said = f"{names[0]} reaches {number(metric, reached.estimate)} of {label}"
        return f"{said} ({ends} for other classes)" if ends else said
    gap = found.differences[metric]
    if abs(gap.estimate) < NO_SPREAD:
        return f"{names[0]} and {names[1]} reach the same {label}"
    ahead, behind = names[::-1] if METRICS[metric].sign * gap.estimate > 0 else names
    size = number(metric, abs(gap.estimate), signed=True).lstrip("+")
    if gap.low is None:
        return (
            f"{ahead} is ahead of {behind} by {size} of {label}; too few classes to say how sure that is"
        )
    between = f"{names[1]} − {names[0]}"
    ends = " to ".join(number(metric, end, signed=True).split()[0] for end in (gap.low, gap.high))
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
            cells.append(difference_cell(metric, gap) if gap else "")
        else:
            own = found.intervals[names[0]].get(metric)
            cells.append(interval_text(metric, own.low, own.high) if own else "")
        table.add_row(METRICS[metric].label, *cells)
    Console(highlight=False).print(table)
    for name, thresholds in found.thresholds.items():
        for one in thresholds[-1:]:
            print(
                f"{name}: accept above {one.score:.4f}; {share(one.far)} of different pairs pass (of "
                f"other classes up to {share(one.far_elsewhere)}), and {share(one.tar)} of same ones"
            )
    print(sentence(found))


def share(value: float) -> str:
    """A share in percent, with as many digits as a small one needs: `0.012%`."""
    return f"{100 * value:.3g}%"


def draw(found: Judgement, path: Path) -> None:
    """Draw the curves of trials as a figure."""
    from ..plots import plot_det, save

    curves = {name: curve._asdict() for name, curve in found.curves.items()}
    title = f"{counted(found.samples, found.judged)} of {counted(found.classes, 'class')}"
    save(plot_det(curves, title), path)


def difference_cell(metric: str, gap: Difference) -> str:
    text = number(metric, gap.estimate, signed=True)
    if gap.low is not None:
        low, high = (number(metric, end, signed=True).split()[0] for end in (gap.low, gap.high))
        text += f" ({low} … {high})" + " *" * gap.separable
    return text
