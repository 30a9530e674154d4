"""Intervals over seeds, differences between settings, and how many seeds it would take."""

from functools import cache
from math import comb, sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95
POWER = 0.8  # with which a difference as large as the one seen should be found
MOST_SEEDS = 1000  # beyond, a difference is as good as none
FEWEST_PAIRS = 3  # below, metrics that count samples agree too often by chance


class Interval(NamedTuple):
    """Mean of n values, their standard deviation, and the t interval of the mean; with one value the
    latter three are None."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def interval(values: list[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of the mean of independent values."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Interval(1, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    half = _quantile(confidence, n) * sd / sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half)


@cache
def _quantile(confidence: float, n: int) -> float:
    return float(student.ppf((1 + confidence) / 2, n - 1))


class Difference(NamedTuple):
    """Of two settings, paired by seed: n pairs, the mean difference with its interval, whether that
    leaves out 0, and about how many more seeds would (None: no finite number in sight)."""

    n: int
    mean: float
    low: float | None
    high: float | None
    separable: bool
    more_seeds: int | None


def paired_difference(
    ours: dict[int, float], theirs: dict[int, float], compared: int = 1
) -> Difference | None:
    """Ours minus theirs, values by seed, over the seeds that both have; None if they share none. The
    interval holds for all of `compared` differences together (Bonferroni)."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    confidence = 1 - (1 - CONFIDENCE) / max(1, compared)
    paired = interval([ours[seed] - theirs[seed] for seed in seeds], confidence)
    if paired.sd is None:
        return Difference(1, paired.mean, None, None, False, None)
    # Counts of samples: the same difference in every seed is a coincidence, not a certainty.
    known = paired.n >= FEWEST_PAIRS and paired.sd > 1e-9
    separable = known and (paired.low > 0 or paired.high < 0)
    more = None if separable else more_seeds(paired.mean, paired.sd, paired.n, confidence)
    return Difference(paired.n, paired.mean, paired.low, paired.high, separable, more)


def more_seeds(mean: float, sd: float, n: int, confidence: float = CONFIDENCE) -> int | None:
    """Seeds beyond n that a paired t test would need to find a difference of this mean and standard
    deviation, with a power of 80%; None if that is more than a thousand in all."""
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
    settings, drawn at random without repetition. Larger is better."""
    k = len(chosen)
    order = sorted(range(k), key=lambda i: chosen[i])  # the worst first
    # The i-th worst is the best of a draw if the others of it are among the i before it.
    return sum(comb(i, budget - 1) / comb(k, budget) * reported[order[i]] for i in range(k))
