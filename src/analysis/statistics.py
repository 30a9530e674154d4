"""Means, differences and their intervals over seeds and folds, and how much a comparison can find."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from math import comb, sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import dunnett, nct, studentized_range
from scipy.stats import f as variance_ratio
from scipy.stats import t as student

from ..evaluation.threshold import CONFIDENCE

POWER = 0.8  # with which the smallest detectable difference is found
FEWEST_DEGREES = 4  # of freedom; with fewer, an interval is so wide that it says nothing
NOISY = 0.01  # risk of calling any of equally noisy groups noisier than the others
MOST_SEEDS = 100  # nobody trains more
NO_SPREAD = 1e-9  # a standard deviation that is none


class Repeat(NamedTuple):
    """Which of a setting's runs: its seed and, in a cross-validation, its fold."""

    seed: int
    fold: int | None = None


class Interval(NamedTuple):
    """The mean of n values, their standard deviation, and the interval of the mean; None where there are
    too few values to say."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """An estimated difference, its interval, and whether the interval leaves out 0. Without an interval,
    `low` and `high` are None and nothing is separable."""

    estimate: float
    low: float | None
    high: float | None
    separable: bool

    @classmethod
    def of(cls, estimate: float, half: float | None) -> "Difference":
        """A difference whose interval is estimate ± half."""
        if half is None:
            return cls(estimate, None, None, False)
        return cls(estimate, estimate - half, estimate + half, abs(estimate) > half)


def by_fold(values: Mapping[Repeat, float]) -> list[float]:
    """The values of the seeds or, in a cross-validation, the mean over the seeds of each fold. Seeds on
    one fold have all of their images in common, so they do not add to the number of values; they make
    each more precise."""
    folds: dict[int | None, list[float]] = {}
    for repeat in sorted(values, key=lambda r: (r.fold is not None, r.fold, r.seed)):
        folds.setdefault(repeat.fold, []).append(values[repeat])
    if set(folds) == {None}:
        return folds[None]
    return [float(np.mean(own)) for own in folds.values()]


class Family:
    """Groups of results that are compared with each other: the results of each group, by seed and fold.
    All differences of one family hold together with CONFIDENCE.

    Seeds are independent, so their variance is pooled over the groups, and pairs are tested by Tukey's
    studentized range. Where groups spread differently, pooling would understate the noisier ones, so
    there are three guards. `spread` gives a standard deviation of each group that is known from more
    than its few results, up to one factor for all groups; without it, all are taken to be equal. A pair
    whose own variance is larger than the pooled one gets its own. And a group that is clearly noisier
    than the others (an F test) is left out of the pool, and compared by Games and Howell's test.
    benchmarks/verdict.py simulates the errors and the power of this.

    Folds share training images, and every group sees the same ones. So their differences are paired by
    fold, with Bonferroni's correction, and the variance of the mean is (1/n + `test_ratio`) s², the
    number of test images per training image (the corrected resampled t, Nadeau & Bengio 2003)."""

    def __init__(
        self,
        groups: Mapping[str, Mapping[Repeat, float]],
        test_ratio: float = 0.0,
        spread: Mapping[str, float] | None = None,
    ):
        self.groups, self.test_ratio = dict(groups), test_ratio
        self.names = list(self.groups)
        self.folded = any(repeat.fold is not None for own in groups.values() for repeat in own)
        self.values = {name: by_fold(own) for name, own in self.groups.items()}
        self.known_spread = bool(spread)
        self.spread = dict(spread or {}) or dict.fromkeys(self.names, 1.0)
        self.scaled = {name: np.array(own) / self.spread[name] for name, own in self.values.items()}
        self.noisy = set() if self.folded or self.known_spread else noisier_than_others(self.scaled)

    @cached_property
    def pooled(self) -> tuple[float, int]:
        """The variance of results divided by their spread, pooled over the groups that are not noisy,
        and its degrees of freedom."""
        return pooled(own for name, own in self.scaled.items() if name not in self.noisy)

    def interval(self, name: str) -> Interval:
        """The mean of a group with its own interval."""
        values = self.values[name]
        n, mean = len(values), float(np.mean(values))
        sd = float(np.std(values, ddof=1)) if n > 1 else None
        variance, degrees = (sd or 0.0) ** 2, n - 1
        if n > 1 and not self.folded and name not in self.noisy:
            variance, degrees = max(variance, self.pooled[0] * self.spread[name] ** 2), self.pooled[1]
        if n < 2 or degrees < FEWEST_DEGREES:
            return Interval(n, mean, sd, None, None)
        half = t_quantile(CONFIDENCE, degrees) * sqrt(variance * (1 / n + self.test_ratio))
        return Interval(n, mean, sd, mean - half, mean + half)

    def difference(self, ours: str, theirs: str) -> Difference:
        """Our mean minus theirs."""
        if self.folded:
            return self._paired(ours, theirs)
        mine, other = self.values[ours], self.values[theirs]
        error, degrees = self.error(ours, theirs)
        estimate = float(np.mean(mine) - np.mean(other))
        if degrees < FEWEST_DEGREES or error < NO_SPREAD:
            return Difference.of(estimate, None)
        return Difference.of(estimate, range_quantile(len(self.names), degrees) / sqrt(2) * error)

    def error(self, ours: str, theirs: str) -> tuple[float, float]:
        """The standard error of a difference of two means, and its degrees of freedom."""
        mine, other = self.values[ours], self.values[theirs]
        if min(len(mine), len(other)) < 2 or self.noisy & {ours, theirs}:
            return welch(mine, other)
        variance, degrees = self.pooled
        if not self.known_spread:
            variance = max(
                variance, (np.var(self.scaled[ours], ddof=1) + np.var(self.scaled[theirs], ddof=1)) / 2
            )
        parts = (self.spread[n] ** 2 / len(self.values[n]) for n in (ours, theirs))
        return sqrt(variance * sum(parts)), degrees

    def _paired(self, ours: str, theirs: str) -> Difference:
        both = self.groups[ours].keys() & self.groups[theirs].keys()
        if not both:
            gap = float(np.mean(self.values[ours]) - np.mean(self.values[theirs]))
            return Difference.of(gap, None)
        gaps = by_fold({each: self.groups[ours][each] - self.groups[theirs][each] for each in both})
        n, sd = len(gaps), float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0
        if n - 1 < FEWEST_DEGREES or sd < NO_SPREAD:
            return Difference.of(float(np.mean(gaps)), None)
        confidence = 1 - (1 - CONFIDENCE) / max(1, comb(len(self.names), 2))
        half = t_quantile(confidence, n - 1) * sd * sqrt(1 / n + self.test_ratio)
        return Difference.of(float(np.mean(gaps)), half)

    def against(self, baseline: str) -> dict[str, Difference]:
        """Each other group minus a baseline that was fixed before anything was seen: Dunnett's test,
        which needs no correction for the pairs without the baseline. The guards of the family hold here,
        too."""
        others = [name for name in self.names if name != baseline]
        enough = not self.folded and self.pooled[1] >= FEWEST_DEGREES and self.pooled[0] > NO_SPREAD**2
        if not enough or self.noisy or min(map(len, self.values.values())) < 2:
            return {name: self.difference(name, baseline) for name in others}
        control = self.values[baseline]
        found = dunnett(*(self.values[name] for name in others), control=control, rng=0)
        interval = found.confidence_interval(CONFIDENCE)
        variance, _ = pooled(self.values.values())
        gaps = {}
        for name, low, high in zip(others, interval.low, interval.high, strict=True):
            error = sqrt(variance * (1 / len(self.values[name]) + 1 / len(control)))
            wider = self.error(name, baseline)[0] / error
            gaps[name] = Difference.of(float(low + high) / 2, float(high - low) / 2 * wider)
        return gaps

    def smallest_detectable(self, repeats: int | None = None) -> float | None:
        """The smallest difference between two groups that this family finds with a power of 80%, with as
        many `repeats` of each as there are, or another number; None where it has no intervals."""
        k, n = len(self.names), min(map(len, self.values.values()))
        if k < 2 or n < 2:
            return None
        if self.folded:
            return self._detectable_by_folds()
        variance, degrees = self.pooled
        if k - len(self.noisy) < 2 or variance < NO_SPREAD**2 or degrees < FEWEST_DEGREES:
            return None
        variance *= float(np.mean([spread**2 for spread in self.spread.values()]))
        if repeats:
            n, degrees = repeats, round(degrees / (n - 1)) * (repeats - 1)
        size = in_standard_deviations(k, n, degrees)
        return size and size * sqrt(variance)

    def _detectable_by_folds(self) -> float | None:
        spreads = []
        for ours, theirs in combinations(self.names, 2):
            both = self.groups[ours].keys() & self.groups[theirs].keys()
            gaps = by_fold({r: self.groups[ours][r] - self.groups[theirs][r] for r in both})
            if len(gaps) - 1 < FEWEST_DEGREES:
                return None
            spreads.append(np.var(gaps, ddof=1))
        n, confidence = len(gaps), 1 - (1 - CONFIDENCE) / len(spreads)
        error = sqrt(float(np.mean(spreads)) * (1 / n + self.test_ratio))
        return detectable(t_quantile(confidence, n - 1), n - 1) * error or None

    def repeats_to_detect(self, difference: float) -> int | None:
        """How many seeds of each group find a difference of this size with a power of 80%; None if more
        than anybody trains, or where no variance is known."""
        if self.folded or self.smallest_detectable() is None:
            return None

        def found(n: int) -> bool:
            smallest = self.smallest_detectable(n)
            return smallest is not None and smallest <= abs(difference)

        # More seeds find smaller differences.
        n = bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=found)
        return n if n <= MOST_SEEDS else None


def pooled(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Return the variance of groups of values around their own means, and its degrees of freedom."""
    groups = list(groups)
    degrees = sum(len(values) - 1 for values in groups)
    squares = sum(float(np.var(values)) * len(values) for values in groups)
    return squares / max(degrees, 1), degrees


def in_standard_deviations(groups: int, repeats: int, degrees: int | None = None) -> float | None:
    """Return the smallest difference that a family of so many groups, with so many results each, finds
    with the power POWER, in standard deviations; None where it has no intervals. `degrees` of freedom
    are those of all groups, unless some are left out of the pool."""
    degrees = groups * (repeats - 1) if degrees is None else degrees
    if groups < 2 or degrees < FEWEST_DEGREES:
        return None
    return detectable(range_quantile(groups, degrees) / sqrt(2), degrees) * sqrt(2 / repeats)


def noisier_than_others(groups: Mapping[str, list[float]]) -> set[str]:
    """The groups whose variance is clearly larger than that of the others, the largest first, each
    tested with Bonferroni's correction."""
    left = {name: values for name, values in groups.items() if len(values) > 1}
    found: set[str] = set()
    while len(left) > 2:
        noisiest = max(left, key=lambda name: np.var(left[name], ddof=1))
        rest = [values for name, values in left.items() if name != noisiest]
        variance, degrees = pooled(rest)
        limit = variance_ratio.ppf(1 - NOISY / len(left), len(left[noisiest]) - 1, degrees)
        if np.var(left[noisiest], ddof=1) <= max(limit * variance, NO_SPREAD**2):
            break
        found.add(noisiest)
        del left[noisiest]
    return found


def welch(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """The standard error of a difference of two means of unequal variance, and Welch's degrees of
    freedom; none where a group has one value."""
    if min(len(ours), len(theirs)) < 2:
        return 0.0, 0.0
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    total = sum(parts)
    if total == 0:
        return 0.0, 0.0
    spread = sum(part**2 / (len(v) - 1) for part, v in zip(parts, (ours, theirs), strict=True))
    return sqrt(total), total**2 / spread


@cache
def t_quantile(confidence: float, degrees: float) -> float:
    return float(student.ppf((1 + confidence) / 2, degrees))


def range_quantile(groups: int, degrees: float, confidence: float = CONFIDENCE) -> float:
    """The quantile of the studentized range of so many groups."""
    return _range_quantile(groups, int(10 * degrees), confidence)


@cache
def _range_quantile(groups: int, tenths: int, confidence: float) -> float:
    return float(studentized_range.ppf(confidence, groups, tenths / 10))


@cache
def detectable(critical: float, degrees: float) -> float:
    """The difference, in standard errors, of which a two-sided test with this critical value of t finds
    80%."""
    return float(brentq(lambda d: nct.sf(critical, degrees, d) - POWER, 0, 10 * critical + 10))


def expected_best(chosen: list[float], reported: list[float], budget: int) -> float:
    """The expected `reported` value of the setting with the largest `chosen` value among `budget`
    settings, drawn at random without repetition. Larger is better; of equal ones the first is chosen."""
    order = sorted(range(len(chosen)), key=lambda i: (chosen[i], -i))  # the worst first
    return float(chances_to_be_best(len(chosen), budget) @ np.array(reported)[order])


@cache
def chances_to_be_best(settings: int, budget: int) -> np.ndarray:
    """The probability of each of so many settings, the worst first, to be the best of `budget` drawn:
    the others of the draw are then among those before it."""
    return np.array([comb(i, budget - 1) / comb(settings, budget) for i in range(settings)])
