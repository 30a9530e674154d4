"""Intervals, differences and budgets against scipy, enumeration and simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from src.analysis.statistics import (
    Repeat,
    expected_best,
    interval,
    more_seeds,
    paired_difference,
)

RNG = np.random.default_rng(0)


def seeds(values) -> dict[Repeat, float]:
    return {Repeat(seed): value for seed, value in enumerate(values)}


@pytest.mark.parametrize("n", [2, 3, 10])
def test_an_interval_is_scipys(n):
    values = RNG.normal(0.9, 0.02, n)
    found = interval(list(values))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert found == pytest.approx((n, values.mean(), values.std(ddof=1), low, high))


def test_one_value_has_no_interval():
    assert interval([0.5]) == (1, 0.5, None, None, None)


@pytest.mark.parametrize("compared", [1, 21])
def test_a_difference_is_scipys_paired_t_at_bonferronis_level(compared):
    a, b = RNG.normal(0.9, 0.02, 8), RNG.normal(0.88, 0.02, 8)
    found = paired_difference(seeds(a), seeds(b), compared)
    expected = stats.ttest_rel(a, b).confidence_interval(1 - 0.05 / compared)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.separable == (stats.ttest_rel(a, b).pvalue < 0.05 / compared)


def test_only_seeds_that_both_have_are_paired():
    ours = {Repeat(seed): value for seed, value in {0: 1.0, 1: 2.0, 5: 9.0}.items()}
    theirs = {Repeat(seed): value for seed, value in {0: 0.5, 1: 1.0, 7: 0.0}.items()}
    assert paired_difference(ours, theirs).n == 2
    assert paired_difference({Repeat(0): 1.0}, {Repeat(1): 1.0}) is None
    assert paired_difference({Repeat(0, 1): 1.0}, {Repeat(0, 2): 1.0}) is None  # of other folds
    alone = paired_difference({Repeat(0): 1.0}, {Repeat(0): 0.5})
    assert alone.mean == 0.5 and alone.low is None and not alone.separable


def test_the_interval_covers_the_truth_in_95_of_100_sweeps():
    values = RNG.normal(0.9, 0.02, (4000, 3))
    found = [interval(list(row)) for row in values]
    assert 0.93 <= np.mean([f.low <= 0.9 <= f.high for f in found]) <= 0.97
    gaps = [paired_difference(seeds(a), seeds(b)) for a, b in zip(values, values[::-1], strict=True)]
    assert 0.93 <= np.mean([gap.low <= 0 <= gap.high for gap in gaps]) <= 0.97


def test_among_many_ties_a_difference_is_claimed_in_5_of_100_sweeps_at_most():
    claimed = 0
    for _ in range(400):
        settings = RNG.normal(0.9, 0.02, (11, 4))
        first = seeds(settings[0])
        claimed += any(paired_difference(seeds(s), first, 10).separable for s in settings[1:])
    assert claimed / 400 <= 0.07


@pytest.mark.parametrize("effect", [0.4, 1.0, 3.0])
def test_as_many_more_seeds_as_it_says_find_the_difference_four_times_in_five(effect):
    total = 3 + more_seeds(effect, 1.0, 3)
    draws = RNG.normal(effect, 1.0, (4000, total))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() >= 0.77
    assert found.mean() <= 0.9 or total == 4  # that is one more, there is nothing less


def test_no_difference_needs_more_seeds_than_anybody_has():
    assert more_seeds(0.0, 1.0, 3) is None and more_seeds(1e-4, 1.0, 3) is None


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_the_best_of_a_budget_is_the_mean_over_all_draws(budget):
    chosen, reported = RNG.normal(size=5), RNG.normal(size=5)
    draws = [max(draw, key=lambda i: chosen[i]) for draw in combinations(range(5), budget)]
    assert expected_best(list(chosen), list(reported), budget) == pytest.approx(np.mean(reported[draws]))


def test_of_settings_that_are_equally_good_the_first_is_chosen_as_the_answer_does():
    assert expected_best([0.9, 0.9, 0.1], [0.2, 0.7, 0.5], 3) == 0.2


def test_a_thousand_settings_have_a_budget():
    values = list(np.linspace(0, 1, 1500))
    assert expected_best(values, values, 750) == pytest.approx(1, abs=0.01)
