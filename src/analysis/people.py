"""How much a difference depends on the classes that were tested.

Seeds say whether another training would agree. In an open set there is a second doubt: other people, or
other products, might. Test images of one class are not independent of each other, so the bootstrap draws
whole classes, the same ones for both sides of a difference."""

from collections.abc import Iterator
from math import sqrt

import numpy as np
from torch import Tensor

from ..evaluation import PairScores
from ..evaluation.detection import min_dcf
from ..evaluation.retrieval import dealt_into_groups, retrieval_metrics
from ..evaluation.verification import FARS, equal_error_rate
from ..foreign import array_shape, read_arrays
from .settings import Setting
from .statistics import Difference, Family, Repeat, range_quantile

DRAWS = 1000
PAIR_DRAWS = 200  # each looks at all pairs
THRESHOLDS = 2**14


def with_other_classes(
    metric: str, family: Family, chosen: dict[str, dict[Repeat, Setting]], ours: str, theirs: str
) -> Difference | None:
    """Our loss minus theirs with an interval for other seeds and other classes together; None where runs
    keep no results per query, as in a closed set, or where seeds have no interval."""
    seeds = family.difference(ours, theirs)
    if seeds.low is None or family.folded:
        return None
    repeats = [repeat for repeat in chosen[ours] if repeat in chosen[theirs]]
    gaps, labels = [], None
    for repeat in repeats:
        sides = [query_results(chosen[loss][repeat], repeat, metric) for loss in (ours, theirs)]
        if None in sides:
            return None
        (mine, own), (other, others) = sides
        if len(own) != len(others) or (own != others).any():
            return None
        if labels is not None and (len(labels) != len(own) or (labels != own).any()):
            return None
        labels = own
        gaps.append(mine - other)
    if len(gaps) < 2:
        return None
    error, degrees = family.error(ours, theirs)
    variance, classes = classes_variance(np.array(gaps), labels)
    total = error**2 + variance
    # Satterthwaite's degrees of freedom of a sum of two variances.
    both = total**2 / (error**4 / degrees + variance**2 / max(1, classes - 1))
    return Difference.of(seeds.estimate, range_quantile(len(family.names), both) / sqrt(2) * sqrt(total))


def query_results(setting: Setting, repeat: Repeat, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return each query's part in a metric of a run (Q,), and its class (Q,); None if it is not kept."""
    run = next(run for run in setting.runs if run.repeat == repeat)
    evaluation = run.config.evaluation
    columns = retrieval_metrics(evaluation.ranks, evaluation.map_at)
    if metric not in columns:
        return None
    path = run.folder / "embeddings.npz"
    try:
        rows, width = array_shape(path, "per_query")
        if width != len(columns):
            return None
        kept = read_arrays(path, "per_query", "labels")
        values, labels = kept["per_query"][:, columns.index(metric)], kept["labels"]
        if labels.shape != (rows,):
            return None
    except Exception:  # none, or damaged: numpy and zlib raise anything
        return None
    queries = np.isfinite(values)
    return values[queries].astype(float), labels[queries]


def classes_variance(gaps: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """The variance that the choice of classes gives to the mean of differences (R, Q) per repeat and
    query, by a bootstrap over the classes (Q,) of the queries, and the number of classes.

    Drawing classes also redraws what each repeat does to each class by chance. That is part of the
    variance between repeats already, so it is taken out: it falls with the number of repeats, while what
    is left stays."""
    _, place = np.unique(labels, return_inverse=True)
    counts = np.bincount(place).astype(float)
    sums = np.array([np.bincount(place, row) for row in gaps])
    rng = np.random.default_rng(0)
    means = np.empty((DRAWS, len(gaps)))
    for draw in range(DRAWS):
        picked = np.bincount(rng.integers(len(counts), size=len(counts)), minlength=len(counts))
        means[draw] = sums @ picked / (counts @ picked)
    of_mean, repeats = float(np.var(means.mean(1), ddof=1)), len(gaps)
    of_each = float(np.var(means, axis=0, ddof=1).mean())
    noise = max(0.0, (of_each - of_mean) / (repeats - 1)) if repeats > 1 else 0.0
    return max(0.0, of_mean - noise), len(counts)


def jackknife_variance(left_out: np.ndarray) -> float:
    """The variance that the choice of classes gives to a metric, whose values without each group of them
    are `left_out` (G,)."""
    groups = len(left_out)
    return float((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum())


class WeightedPairs:
    """Pairs by falling cosine, for metrics of them with other weights, at THRESHOLDS of their cosines at
    most: those are close together, and closest where few pairs are accepted."""

    def __init__(self, scores: PairScores):
        cosines, same = scores.cosines.numpy(), scores.same.numpy()
        self.order = np.argsort(-cosines, kind="stable")
        falling, self.same = cosines[self.order], same[self.order]
        first = np.flatnonzero(np.append(True, falling[1:] != falling[:-1]))  # of equal cosines
        if len(first) > THRESHOLDS:
            half, last = THRESHOLDS // 2, len(first) - 1
            kept = np.concatenate([np.geomspace(1, last, half), np.linspace(0, last, half)]).astype(int)
            first = first[np.unique(kept)]
        self.first = first

    def rates(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """False and true accept rates (K,) over falling thresholds, each pair (P,) with its weight."""
        weights = weights[self.order]
        of_same = weights * self.same
        sums = [np.cumsum(np.add.reduceat(part, self.first)) for part in (weights - of_same, of_same)]
        far, tar = (np.concatenate([[0.0], accepted / accepted[-1]]) for accepted in sums)
        return far, tar

    def metrics(self, weights: np.ndarray) -> dict[str, float]:
        """AUC, EER and true accept rates, each pair (P,) with its weight; as `verification` has them
        where all weights are 1."""
        return metrics_of(*self.rates(weights))


def metrics_of(
    far: np.ndarray, tar: np.ndarray, rates: tuple[str, ...] = FARS, prior: float | None = None
) -> dict[str, float]:
    """AUC, EER, true accept rates at some `rates` of false accepts and, with a `prior`, minDCF, given
    false and true accept rates (K,) over falling thresholds."""
    found = {"auc": float(np.trapezoid(tar, far)), "eer": equal_error_rate(far, tar)}
    for rate in rates:
        found[f"tar_at_far_{rate}"] = float(true_accepts(far, tar, float(rate)))
    if prior is not None:
        found["min_dcf"] = min_dcf(far, tar, prior)
    return found


def true_accepts(far: np.ndarray, tar: np.ndarray, at: float | np.ndarray) -> np.ndarray:
    """The largest true accept rates at false accept rates of at most `at`."""
    return tar[np.searchsorted(far, at + 1e-12, "right") - 1]


def weights_of_draws(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, up to PAIR_DRAWS times, how often each pair (P,) counts if the classes are drawn anew: a
    pair of two classes as often as both were drawn, a pair of one class as often as that was. `first`
    and `second` (P,) are the classes of the pairs. Draws without a pair of either kind are left out."""
    classes, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    (first, second), rng = np.split(place.astype(np.int32), 2), np.random.default_rng(0)
    alike = np.flatnonzero(first == second)
    for _ in range(PAIR_DRAWS):
        times = np.bincount(rng.integers(len(classes), size=len(classes)), minlength=len(classes))
        times = times.astype(float)
        weights = times[first]
        own = weights[alike]
        weights *= times[second]
        weights[alike] = 0
        different = weights.any()
        weights[alike] = own
        if different and own.any():
            yield weights


def weights_of_classes(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, PAIR_DRAWS times, how often each sample (N,) counts if the classes, `labels` (N,), are
    drawn anew."""
    classes, place = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(0)
    for _ in range(PAIR_DRAWS):
        times = np.bincount(rng.integers(len(classes), size=len(classes)), minlength=len(classes))
        yield times[place].astype(float)


def pair_metrics_left_out(
    scores: PairScores, first: Tensor, second: Tensor, labels: Tensor
) -> dict[str, np.ndarray]:
    """Metrics (G,) of pairs without each group of classes, by name: a jackknife over the classes, labels
    (N,), of the rows `first` and `second` (P,). Empty if a group leaves no pair of either kind."""
    group, count = dealt_into_groups(labels)
    (one, other), pairs = (group[rows].numpy() for rows in (first, second)), WeightedPairs(scores)
    same, found = scores.same.numpy(), []
    for left_out in range(count):
        stay = (one != left_out) & (other != left_out)
        if not (stay & same).any() or not (stay & ~same).any():
            return {}
        found.append(pairs.metrics(stay.astype(float)))
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def by_metric(draws: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """The metrics of draws as an array each; none if more than a tenth of the draws were left out, which
    are then about other classes than the rest."""
    if len(draws) < 0.9 * PAIR_DRAWS:
        return {}
    return {name: np.array([one[name] for one in draws]) for name in draws[0]}
