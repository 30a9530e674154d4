"""Compare two encoders by the embeddings that they give the same samples.

Nothing is trained here, so there are no seeds: the doubt is about other classes. Metrics are measured
again without each group of classes (a jackknife), since a class both asks and is found by others. Where
curves and thresholds are wanted too, of trials and of identification, a bootstrap draws whole classes.
Both take the same classes for both encoders (see people.py)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from math import isfinite, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..datasets.embeddings import read_features
from ..datasets.templates import label_of_templates, read_templates
from ..durable import write_text
from ..errors import UserError
from ..evaluation import (
    Retrieval,
    Search,
    measurable,
    metric_named,
    retrieval,
    sample_pairs,
    score_pairs,
    verification,
)
from ..evaluation.identification import Probes, identification
from ..evaluation.retrieval import RANKS
from ..evaluation.verification import FALSE_ACCEPTS, true_accepts
from ..evaluation.weighted import pair_metrics_left_out
from ..losses import BadArgument
from ..words import counted
from .people import by_metric, jackknife_variance, weights_of_classes
from .phrases import INTERVAL, difference_text, interval_text, number, signed_ends
from .statistics import CONFIDENCE, FEWEST_DEGREES, NO_SPREAD, Difference, t_quantile

HEADLINE = "map_at_r"
PAIRS = 100_000  # of either kind, drawn
CURVE_POINTS = 100
# What passes a threshold that should not, and what should.
WORDS = {
    "trial": ("different pairs", "same ones"),
    "sample": ("probes of nobody in the gallery", "the others, rightly named"),
}
AXES = {
    "trial": ("false accept rate", "miss rate (false rejects)"),
    "sample": ("false positive identification rate", "false negative identification rate"),
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


class Curve(NamedTuple):
    """True accept rates (K,) over false accept rates (K,), and where they lie for other classes."""

    far: list[float]
    tar: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def of(cls, far: np.ndarray, tar: np.ndarray, draws: np.ndarray | None) -> "Curve":
        """Return the curve with the interval that true accept rates (draws, K) span."""
        tail = (1 - CONFIDENCE) / 2
        low, high = (tar, tar) if draws is None else np.quantile(draws, [tail, 1 - tail], axis=0)
        return cls(*(values.tolist() for values in (far, tar, low, high)))


@dataclass
class Side:
    """The results of one file: `metrics` by name, and the values (G,) of some without each group of
    classes, `left_out`, and of others for classes drawn anew, `draws`."""

    name: str
    metrics: dict[str, float]
    left_out: dict[str, np.ndarray] = field(default_factory=dict)
    draws: dict[str, np.ndarray] = field(default_factory=dict)
    thresholds: list[Threshold] = field(default_factory=list)
    curve: Curve | None = None


class Given(NamedTuple):
    """The embeddings (N, D), labels (N,) and, if they are there, names, roles and cameras (N,) in a
    file."""

    features: np.ndarray
    labels: np.ndarray
    names: np.ndarray | None = None
    roles: np.ndarray | None = None
    cameras: np.ndarray | None = None


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


def judge(
    paths: Sequence[Path],
    labels: Path | None = None,
    ranks: Sequence[int] = RANKS,
    map_at: int | None = None,
    templates: Path | None = None,
) -> Judgement:
    """Judge the embeddings in one file or in two, of the same samples in the same order, or with the
    same names; `labels` is the file that has those of .npy files, `templates` a table that says which
    samples belong together. Where samples have roles, queries search the gallery. Raises UserError for
    anything else."""
    given = read_all(paths, labels, templates)
    truth = given[0].labels
    classes, place = np.unique(truth, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"{paths[0]}: all samples are of class {classes[0]}, so there is none to confuse"
        )
    place = torch.from_numpy(place)
    try:
        search = Search(given[0].roles, given[0].cameras, tuple(ranks), map_at, left_out=True)
    except ValueError as error:
        raise UserError(f"{paths[0]}: {error}") from None
    pairs = None if search.roles is not None else sample_pairs(place, PAIRS)
    sides = [
        side(name, torch.from_numpy(one.features), place, pairs, search)
        for name, one in zip(names_of(paths), given, strict=True)
    ]
    return judgement(sides, len(truth), len(classes), place.numpy())


def judgement(sides: Sequence[Side], count: int, classes: int, labels: np.ndarray, **more) -> Judgement:
    """Put the results of one file or two together. `labels` are classes, whose number gives degrees of
    freedom."""
    return Judgement(
        count,
        classes,
        {one.name: one.metrics for one in sides},
        {one.name: for_other_classes([one], labels) for one in sides},
        for_other_classes(list(sides), labels) if len(sides) == 2 else {},
        thresholds={one.name: one.thresholds for one in sides if one.thresholds},
        curves={one.name: one.curve for one in sides if one.curve},
        **more,
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """The files' names, or their whole paths if they share one."""
    alike = len({path.name for path in paths}) < len(paths)
    return [str(path) if alike else path.name for path in paths]


def read_all(
    paths: Sequence[Path],
    labels: Path | None = None,
    templates: Path | None = None,
    unlabelled: bool = False,
) -> list[Given]:
    """Read one file or two, bring the second into the order of the first, and pool templates;
    `unlabelled` samples need no labels."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"{paths[1]}: is the first file; name another to compare it with")
    needs = [path.suffix.lower() == ".npy" for path in paths]
    given = [
        read(path, labels if need or not any(needs) else None, unlabelled)
        for path, need in zip(paths, needs, strict=True)
    ]
    if len(given) == 2:
        given[1] = in_order(paths, *given)
    if templates:
        given = [pooled(path, one, templates) for path, one in zip(paths, given, strict=True)]
    return given


def read(path: Path, labels: Path | None, unlabelled: bool = False) -> Given:
    try:
        found = read_features(path, labels, unlabelled)
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
    return Given(features, found.labels, found.names, found.roles, found.cameras)


def in_order(paths: Sequence[Path], first: Given, second: Given) -> Given:
    """The second file's samples in the order of the first's. Raises UserError unless they are the
    same."""
    names, other_names = first.names, second.names
    named = names is not None and other_names is not None and len(set(names)) == len(names)
    if named and set(names) != set(other_names):
        one = min(set(names) ^ set(other_names))
        raise UserError(
            f"{paths[0]} and {paths[1]} name other samples, as {one}, which one of them lacks"
        )
    if not named and names is not None and other_names is not None and list(names) != list(other_names):
        raise UserError(
            f"{paths[0]}: some names are there twice, and those of {paths[1]} are others, or in another "
            "order: what belongs together is not known"
        )
    if named and len(names) == len(other_names):
        where = {name: row for row, name in enumerate(other_names)}
        rows = np.array([where[name] for name in names])
        second = Given(*(None if values is None else values[rows] for values in second))
    if len(first.labels) != len(second.labels):
        counts = f"{len(first.labels):,} and {len(second.labels):,} samples"
        raise UserError(f"{paths[0]} and {paths[1]} hold {counts}: two encoders are judged by the same")
    for what, mine, other in (
        ("class", first.labels, second.labels),
        ("role", first.roles, second.roles),
        ("camera", first.cameras, second.cameras),
    ):
        if (mine is None) != (other is None):
            lacks = paths[0] if mine is None else paths[1]
            raise UserError(f"{lacks}: has no {what}s, the other file has")
        wrong = np.flatnonzero(mine != other) if mine is not None else ()
        if len(wrong):
            row = wrong[0]
            raise UserError(
                f"{paths[1]}: sample {row} is of {what} {other[row]}, in {paths[0]} of {mine[row]}: two "
                "encoders are judged by the same samples in the same order, or with the same names"
            )
    return second


def pooled(path: Path, given: Given, file: Path) -> Given:
    """One embedding for each template: of the samples that a table's columns `name` and `template` put
    into it, the mean of unit embeddings within each `media`, if there is such a column, times `weight`,
    if there is one; then the mean over media (IJB-B, Whitelam et al. 2017)."""
    if given.names is None:
        raise UserError(f"{path}: has no array names (N,), by which templates name its samples")
    try:
        found = read_templates(file, given.names)
        labels = label_of_templates(found, given.labels)
        roles = None if given.roles is None else label_of_templates(found, given.roles)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    features = found.mean(given.features)
    return Given(features.astype(np.float32), labels, found.names, roles)


def side(
    name: str, features: Tensor, labels: Tensor, pairs: tuple[Tensor, ...] | None, search: Search
) -> Side:
    retrieved = retrieval(features, labels, search)
    if not retrieved.metrics:
        why = "no class has two samples, so there is nothing to search"
        if pairs is None:
            why = "no query has a sample of its class in the gallery"
        raise UserError(f"{name}: {why}")
    found = Side(name, retrieved.metrics, dict(retrieved.left_out))
    if pairs is None:
        return identified(found, retrieved, labels, search.rows("query"))
    scores = score_pairs(features, *pairs)
    found.left_out |= pair_metrics_left_out(scores, *pairs[:2], labels)
    found.metrics = found.metrics | verification(scores)
    return found


def identified(found: Side, retrieved: Retrieval, labels: Tensor, queries: Tensor) -> Side:
    """Add what holds where some queries' classes are not in the gallery."""
    right = (labels[retrieved.nearest[queries, 0]] == labels[queries]).numpy()
    enrolled = np.isfinite(retrieved.per_query[queries, 0].numpy())
    cosines = retrieved.cosine[queries].numpy()
    probes = Probes(cosines, enrolled, right)
    rates = probes.supported()
    if not rates or not enrolled.any():
        return found
    fpir, reached = probes.rates()
    found.metrics = found.metrics | identification(fpir, reached, rates)
    found.thresholds = [threshold_at(rate, cosines, enrolled, right) for rate in rates]
    shares = np.geomspace(FALSE_ACCEPTS / (~enrolled).sum(), 1, CURVE_POINTS)
    draws, bands, passing = [], [], []
    for weights in weights_of_classes(labels[queries].numpy()):
        if not weights[enrolled].any() or not weights[~enrolled].any():
            continue
        both = probes.rates(weights)
        draws.append(identification(*both, rates))
        bands.append(true_accepts(*both, shares))
        above = [(cosines > one.score) & ~enrolled for one in found.thresholds]
        passing.append([weights[those].sum() / weights[~enrolled].sum() for those in above])
    found.draws = by_metric(draws)
    if found.draws:
        found.thresholds = for_new_classes(found.thresholds, passing)
    band = np.array(bands) if found.draws else None
    found.curve = Curve.of(shares, true_accepts(fpir, reached, shares), band)
    return found


def threshold_at(rate: str, scores: np.ndarray, known: np.ndarray, right: np.ndarray) -> Threshold:
    """The lowest threshold that at most the share `rate` of the scores (n,) of different pairs, or of
    unenrolled probes, is above. The others are `known` (n,), and count where they are `right` (n,)."""
    falling = np.sort(scores[~known])[::-1]
    cut = float(falling[min(int(float(rate) * len(falling) + 1e-9), len(falling) - 1)])
    above = scores > cut
    return Threshold(rate, cut, float(above[~known].mean()), float((above & right)[known].mean()))


def for_new_classes(thresholds: list[Threshold], passing: list[list[float]]) -> list[Threshold]:
    """Thresholds with the false accept rate that is exceeded for few other classes; `passing` are the
    rates at each threshold, for many draws of classes."""
    if not thresholds:
        return []
    highest = np.quantile(np.array(passing), CONFIDENCE, axis=0)
    both = zip(thresholds, highest, strict=True)
    return [one._replace(far_elsewhere=float(high)) for one, high in both]


def for_other_classes(sides: list[Side], labels: np.ndarray) -> dict[str, Difference]:
    """The metrics of a side, or of two the second's minus the first's, with intervals for other
    classes."""
    left_out, draws = sides[-1].left_out, sides[-1].draws
    if len(sides) == 2:
        left_out = {name: own - sides[0].left_out[name] for name, own in left_out.items()}
        draws = {name: own - sides[0].draws[name] for name, own in draws.items()}
    doubts = {name: (jackknife_variance(own), len(own)) for name, own in left_out.items()}
    classes = len(np.unique(labels))
    doubts |= {name: (float(np.var(own, ddof=1)), classes) for name, own in draws.items()}
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
        one = min(thresholds, key=lambda each: float(each.rate))
        unknown, known = WORDS[found.judged]
        other = one.far_elsewhere
        elsewhere = "" if other is None else f" (of other classes up to {share(other)})"
        print(
            f"{name}: accept above {one.score:.4f}; {share(one.far)} of {unknown} pass{elsewhere}, and "
            f"{share(one.tar)} of {known}"
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
    save(plot_det(curves, *AXES[found.judged], title), path)
