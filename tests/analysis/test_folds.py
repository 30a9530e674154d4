"""Folds as repeats: their intervals against the formula as printed, and against simulated truth.

Folds share training images, so their results are correlated, and intervals that take them for
independent are too narrow. Coverage and family-wise error are looked at twice: with a covariance that is
known, and with a small learner that is really cross-validated on data whose truth is known.
"""

import numpy as np
import pytest
from scipy import stats

from src.analysis.statistics import Family, Interval, Repeat, by_fold

FOLDS = 5
TEST_RATIO = 1 / (FOLDS - 1)


def folds(values) -> dict[Repeat, float]:
    return {Repeat(0, fold): value for fold, value in enumerate(values)}


def interval(values, test_ratio: float = TEST_RATIO) -> Interval:
    """The interval of one group of results by fold."""
    return Family({"a": folds(values)}, test_ratio).interval("a")


def claims(groups, test_ratio: float = TEST_RATIO) -> list[bool]:
    """Whether each other group differs from the first."""
    found = Family({str(i): own for i, own in enumerate(groups)}, test_ratio)
    return [found.difference("0", name).separable for name in found.names[1:]]


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_is_nadeau_and_bengios(n):
    """Equation 9 of "Inference for the Generalization Error" (2003): t with n − 1 degrees of freedom and
    variance (1/n + n_test/n_train) S²."""
    values = np.random.default_rng(0).normal(0.8, 0.03, n)
    found = interval(values, 1 / (n - 1))
    scale = np.sqrt((1 / n + 1 / (n - 1)) * values.var(ddof=1))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=scale)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_seeds_on_one_fold_are_averaged_and_do_not_count_as_more_folds():
    values = {Repeat(seed, fold): fold + seed / 10 for seed in range(3) for fold in range(4)}
    assert by_fold(values) == pytest.approx([0.1, 1.1, 2.1, 3.1])
    assert by_fold({Repeat(2): 0.2, Repeat(1): 0.1}) == [0.1, 0.2]
    assert Family({"a": values}, 1 / 3).interval("a").n == 4


def test_differences_are_paired_by_fold_and_corrected_for_the_number_of_pairs():
    rng = np.random.default_rng(0)
    groups = rng.normal(0.8, 0.01, (3, 5)) + rng.normal(0, 0.1, 5)  # what a fold does to all alike
    found = Family({name: folds(own) for name, own in zip("abc", groups, strict=True)}, TEST_RATIO)
    gaps = groups[0] - groups[1]
    half = stats.t.ppf(1 - 0.025 / 3, 4) * gaps.std(ddof=1) * np.sqrt(1 / 5 + TEST_RATIO)
    gap = found.difference("a", "b")
    assert (gap.low, gap.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert found.repeats_to_detect(0.1) is None  # no number of seeds makes more folds
    assert found.smallest_detectable() > 0


def test_three_folds_are_too_few_for_an_interval():
    found = Family({"a": folds([0.9, 0.8, 0.85]), "b": folds([0.8, 0.85, 0.86])}, test_ratio=0.5)
    assert found.difference("a", "b").low is None and found.interval("a").low is None


def correlated(rng, trials: int, correlation: float, seeds: int = 1) -> np.ndarray:
    """Results (trials, seeds, folds) around 0: what a fold does is correlated between folds and the same
    for every seed; seeds add noise of their own."""
    covariance = np.full((FOLDS, FOLDS), correlation) + (1 - correlation) * np.eye(FOLDS)
    fold = rng.multivariate_normal(np.zeros(FOLDS), covariance, trials)
    return fold[:, None] + 0.5 * rng.normal(size=(trials, seeds, FOLDS))


@pytest.mark.parametrize("seeds", [1, 4])
def test_intervals_over_correlated_folds_cover_the_truth(seeds):
    """With the correlation that Nadeau and Bengio assume, n_test / (n_test + n_train)."""
    draws = correlated(np.random.default_rng(1), 3000, 1 / FOLDS, seeds)

    def coverage(test_ratio: float) -> float:
        found = [
            Family(
                {"a": {Repeat(s, f): run[s, f] for s in range(seeds) for f in range(FOLDS)}},
                test_ratio,
            ).interval("a")
            for run in draws
        ]
        return float(np.mean([each.low <= 0 <= each.high for each in found]))

    assert 0.935 <= coverage(TEST_RATIO) <= 0.985
    assert coverage(0.0) < 0.92  # without the correction they do not


def test_among_correlated_ties_a_difference_is_claimed_in_5_of_100_sweeps_at_most():
    rng, claimed, trials, others = np.random.default_rng(2), 0, 600, 6
    for _ in range(trials):
        claimed += any(claims(map(folds, correlated(rng, 1 + others, 1 / FOLDS)[:, 0])))
    assert claimed / trials <= 0.07


def test_a_difference_that_is_large_is_found_in_spite_of_the_correction():
    rng = np.random.default_rng(6)
    pairs = [correlated(rng, 2, 1 / FOLDS)[:, 0] for _ in range(300)]
    assert np.mean([claims([folds(a + 6), folds(b)])[0] for a, b in pairs]) >= 0.8


# A learner, really trained.

DIMENSIONS, SAMPLES, EFFECT = 24, 60, 0.35


def draw(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that differ by as much in every feature."""
    labels = np.arange(count) % 2
    return rng.normal(size=(count, DIMENSIONS)) + EFFECT * labels[:, None], labels


def trained(x: np.ndarray, y: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, float]:
    """The nearest class mean in some features, as a direction and a threshold."""
    low, high = (x[y == label][:, features].mean(0) for label in (0, 1))
    return high - low, float((high - low) @ (high + low) / 2)


def accuracy(model, x, y, features) -> float:
    direction, threshold = model
    return float(np.mean((x[:, features] @ direction > threshold) == (y == 1)))


def cross_validated(rng, learners: list[np.ndarray]) -> list[dict[Repeat, float]]:
    """The accuracy of each learner on each fold of one data set."""
    x, y = draw(rng, SAMPLES)
    order = rng.permutation(SAMPLES)
    found = [{} for _ in learners]
    for fold, test in enumerate(np.array_split(order, FOLDS)):
        train = np.setdiff1d(order, test)
        for values, features in zip(found, learners, strict=True):
            model = trained(x[train], y[train], features)
            values[Repeat(0, fold)] = accuracy(model, x[test], y[test], features)
    return found


def test_the_interval_covers_what_a_cross_validated_learner_really_reaches():
    features, train = np.arange(8), SAMPLES - SAMPLES // FOLDS
    rng = np.random.default_rng(3)
    fresh = draw(rng, 4000)
    truth = np.mean(
        [accuracy(trained(*draw(rng, train), features), *fresh, features) for _ in range(1500)]
    )
    found = [cross_validated(rng, [features])[0] for _ in range(800)]
    intervals = [Family({"a": values}, TEST_RATIO).interval("a") for values in found]
    assert np.mean([each.low <= truth <= each.high for each in intervals]) >= 0.935


def test_learners_that_are_equally_good_are_seldom_told_apart():
    """Six learners on features of their own, each of which says as much: by symmetry none is better."""
    rng, claimed, trials = np.random.default_rng(4), 0, 400
    learners = list(np.arange(DIMENSIONS).reshape(6, 4))
    for _ in range(trials):
        claimed += any(claims(cross_validated(rng, learners)))
    assert claimed / trials <= 0.07
