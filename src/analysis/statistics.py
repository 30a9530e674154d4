"""Means and differences with their intervals, over seeds and folds, and how many seeds it would take."""

from functools import cache
from math import comb, sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95  # of every interval, and of the differences in a table together
POWER = 0.8  # with which a difference as large as the one seen should be found
MOST_SEEDS = 100  # nobody trains more
FEWEST_PAIRS = 3  # below, metrics that count samples agree too often by chance
NO_SPREAD = 1e-9  # a standard deviation that is none


class Repeat(NamedTuple):
    """Which of a setting's runs: its seed and, in a cross-validation, its fold."""

    seed: int
    fold: int | None = None


class Interval(NamedTuple):
    """Mean of n values, their standard deviation, and the t interval of the mean; with one value the
    latter three are None."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def interval(values: list[float], confidence: float = CONFIDENCE, shared: float = 0.0) -> Interval:
    """Student's t interval of the mean of values, which are independent if `shared` is 0. Results on
    folds are not, since any two folds train on much the same samples: then `shared` is the number of
    test samples for each training sample, and the variance of the mean is (1/n + shared) s² instead of
    s²/n, the corrected resampled t (Nadeau & Bengio 2003)."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Interval(1, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    half = _quantile(confidence, n) * sd * sqrt(1 / n + shared)
    return Interval(n, mean, sd, mean - half, mean + half)


@cache
def _quantile(confidence: float, n: int) -> float:
    return float(student.ppf((1 + confidence) / 2, n - 1))


def by_fold(values: dict[Repeat, float]) -> list[float]:
    """What `interval` takes: the values of the seeds or, in a cross-validation, the mean over the seeds
    of each fold. Seeds on one fold have all of their images in common, so they do not add to the number
    of values; they make each more precise."""
    folds: dict[int | None, list[float]] = {}
    for repeat in sorted(values, key=lambda r: (r.fold is not None, r.fold, r.seed)):
        folds.setdefault(repeat.fold, []).append(values[repeat])
    if set(folds) == {None}:
        return folds[None]
    return [float(np.mean(own)) for own in folds.values()]


class Difference(NamedTuple):
    """Of two settings, paired by seed and fold: n pairs (folds, if there are any), the mean difference
    with its interval, whether that leaves out 0, and about how many more seeds would (None: no finite
    number in sight, or too few pairs or folds, of which no number of seeds makes more)."""

    n: int
    mean: float
    low: float | None
    high: float | None
    separable: bool
    more_seeds: int | None


def paired_difference(
    ours: dict[Repeat, float], theirs: dict[Repeat, float], compared: int = 1, shared: float = 0.0
) -> Difference | None:
    """Ours minus theirs over the repeats that both have; None if they share none. The interval holds for
    all of `compared` differences together (Bonferroni); `shared` as for `interval`."""
    both = ours.keys() & theirs.keys()
    if not both:
        return None
    confidence = 1 - (1 - CONFIDENCE) / max(1, compared)
    paired = interval(
        by_fold({repeat: ours[repeat] - theirs[repeat] for repeat in both}), confidence, shared
    )
    if paired.sd is None:
        return Difference(1, paired.mean, None, None, False, None)
    # Counts of samples: the same difference in every seed is a coincidence, not a certainty.
    known = paired.n >= FEWEST_PAIRS and paired.sd > NO_SPREAD
    separable = known and (paired.low > 0 or paired.high < 0)
    more = None
    if known and not separable and not shared:
        more = more_seeds(paired.mean, paired.sd, paired.n, confidence)
    return Difference(paired.n, paired.mean, paired.low, paired.high, separable, more)


def more_seeds(mean: float, sd: float, n: int, confidence: float = CONFIDENCE) -> int | None:
    """Seeds beyond n that a paired t test would need to find a difference of this mean and standard
    deviation, with a power of 80%; None if that is more than MOST_SEEDS in all."""
    if mean == 0:
        return None
    totals, detectable = _detectable(confidence)
    enough = totals[(totals > n) & (abs(mean) >= detectable * sd)]
    return int(enough[0]) - n if len(enough) else None


@cache
def _detectable(confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of seeds, and the difference that each finds, in standard deviations."""
    totals = np.arange(2, MOST_SEEDS + 1)
    quantiles = student.ppf((1 + confidence) / 2, totals - 1) + student.ppf(POWER, totals - 1)
    return totals, quantiles / np.sqrt(totals)


def expected_best(chosen: list[float], reported: list[float], budget: int) -> float:
    """The expected `reported` value of the setting with the largest `chosen` value among `budget`
    settings, drawn at random without repetition. Larger is better; of equal ones the first is chosen."""
    k = len(chosen)
    order = sorted(range(k), key=lambda i: (chosen[i], -i))  # the worst first
    # The i-th worst is the best of a draw if the others of it are among the i before it.
    return sum(comb(i, budget - 1) / comb(k, budget) * reported[order[i]] for i in range(k))
