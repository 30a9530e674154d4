"""Metrics of pairs and samples that count more or less, or of which some are left out: how metrics
depend on the classes that are tested."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .detection import min_dcf
from .verification import FARS, PairScores, equal_error_rate, true_accepts

THRESHOLDS = 2**14
DRAWS = 200  # of classes; each looks at all pairs
ENOUGH = 0.9 * DRAWS  # if more are left out, the others are about other classes
CURVE_POINTS = 100
BAND = (0.025, 0.975)


class Curve(NamedTuple):
    """True accept rates (K,) over false accept rates (K,), and where they lie for 95% of draws of other
    classes."""

    far: np.ndarray
    tar: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, far: np.ndarray, tar: np.ndarray, draws: list[np.ndarray]) -> "Curve":
        """Return the curve with the band that true accept rates (draws, K) span, NaN if they are too
        few."""
        unknown = np.full_like(tar, np.nan)
        return cls(far, tar, *np.quantile(draws if len(draws) >= ENOUGH else [unknown], BAND, axis=0))


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


def metrics_of_rates(
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


def pair_metrics_left_out(
    scores: PairScores, first: Tensor, second: Tensor, group: Tensor, count: int
) -> dict[str, np.ndarray]:
    """Return metrics (G,) of pairs without each of `count` groups of classes, by name: a jackknife over
    classes. `group` (N,) is that of each sample, of which `first` and `second` (P,) are rows. Empty if a
    group leaves no pair of either kind."""
    pairs, small = WeightedPairs(scores), group.cpu().numpy().astype(np.int16)
    one, other = (small[rows.cpu().numpy()][pairs.order] for rows in (first, second))
    step = np.zeros(len(one), np.int64)  # the threshold from which each pair is accepted
    step[pairs.first[1:]] = 1
    step = np.cumsum(step)

    def accepted(kind: np.ndarray) -> np.ndarray:
        """The number (K, G) of pairs above each threshold without each group."""
        size = len(pairs.first)
        left = np.bincount(step[kind], minlength=size)[:, None].repeat(count, 1)
        for side, rows in ((one, kind), (other, kind & (one != other))):
            of_group = step[rows] * count + side[rows]
            left -= np.bincount(of_group, minlength=size * count).reshape(size, count)
        return np.cumsum(left, 0)

    kinds = [accepted(kind) for kind in (~pairs.same, pairs.same)]
    if any((kind[-1] == 0).any() for kind in kinds):
        return {}
    far, tar = (np.concatenate([np.zeros((1, count)), kind / kind[-1]]) for kind in kinds)
    found = [metrics_of_rates(*rates) for rates in zip(far.T, tar.T, strict=True)]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def draws_of_classes(count: int) -> Iterator[np.ndarray]:
    """Yield, DRAWS times, how often each of `count` classes (C,) is there if they are drawn anew."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(count, size=count), minlength=count)
        yield times.astype(np.int32)  # half as much memory to read


def weights_of_samples(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how often each sample (N,) counts if the classes, `labels` (N,), are drawn anew."""
    classes, place = np.unique(labels, return_inverse=True)
    for times in draws_of_classes(len(classes)):
        yield times[place]


def weights_of_pairs(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how often each pair (P,) counts if the classes are drawn anew: a pair of two classes as
    often as both were drawn, a pair of one class as often as that was. `first` and `second` (P,) are
    the classes of the pairs. Draws without a pair of either kind are left out."""
    classes, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    first, second = np.split(place.astype(np.int32), 2)
    alike = np.flatnonzero(first == second)
    for times in draws_of_classes(len(classes)):
        weights = times[first]
        own = weights[alike]
        weights *= times[second]
        weights[alike] = 0
        different = weights.any()
        weights[alike] = own
        if different and own.any():
            yield weights


def by_metric(draws: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """The metrics of draws as an array each; none if too many draws were left out."""
    if len(draws) < ENOUGH:
        return {}
    return {name: np.array([one[name] for one in draws]) for name in draws[0]}
