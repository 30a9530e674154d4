"""Families of results, budgets and power against scipy, enumeration and simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from src.analysis.statistics import (
    Difference,
    Family,
    Repeat,
    expected_best,
    noisier_than_others,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def seeds(values) -> dict[Repeat, float]:
    return {Repeat(seed): value for seed, value in enumerate(values)}


def family(*groups, **options) -> Family:
    return Family({chr(97 + i): seeds(values) for i, values in enumerate(groups)}, **options)


def test_differences_are_tukeys_as_scipy_has_it(rng):
    groups = rng.normal(0, 1, (4, 6)) + np.array([[0.0], [0.5], [1], [3]])
    variances = groups.var(1, ddof=1)
    groups = groups.mean(1, keepdims=True) + (groups - groups.mean(1, keepdims=True)) / np.sqrt(
        variances[:, None]
    )  # equal variances, so that no guard widens anything
    found, expected = family(*groups), stats.tukey_hsd(*groups).confidence_interval(0.95)
    for i, j in combinations(range(4), 2):
        gap = found.difference("abcd"[i], "abcd"[j])
        assert gap.estimate == pytest.approx(groups[i].mean() - groups[j].mean())
        assert (gap.low, gap.high) == pytest.approx((expected.low[i, j], expected.high[i, j]), abs=2e-3)
        assert gap.separable == (not gap.low <= 0 <= gap.high)


def test_a_noisy_group_is_compared_by_games_and_howell_and_spoils_no_other_pair(rng):
    groups = [*rng.normal(0, 1, (3, 8)), rng.normal(0, 40, 8)]
    found = family(*groups)
    assert found.noisy == {"d"}
    expected = stats.tukey_hsd(*groups, equal_var=False).confidence_interval(0.95)
    gap = found.difference("a", "d")
    assert (gap.low, gap.high) == pytest.approx((expected.low[0, 3], expected.high[0, 3]), rel=0.01)
    assert found.difference("a", "b").high - found.difference("a", "b").low < 5


def test_differences_from_a_baseline_are_dunnetts(rng):
    groups = rng.normal(0, 1, (3, 6)) + np.array([[0.0], [1], [2]])
    groups = groups.mean(1, keepdims=True) + (groups - groups.mean(1, keepdims=True)) / groups.std(
        1, ddof=1, keepdims=True
    )
    found = family(*groups).against("a")
    expected = stats.dunnett(groups[1], groups[2], control=groups[0], rng=0).confidence_interval(0.95)
    for i, name in enumerate("bc"):
        assert found[name].low == pytest.approx(expected.low[i], abs=1e-6)
        assert found[name].high == pytest.approx(expected.high[i], abs=1e-6)
    tukey = family(*groups)
    for name in "bc":  # fewer questions, narrower answers
        gap = tukey.difference(name, "a")
        assert found[name].high - found[name].low < gap.high - gap.low


def test_a_mean_has_the_pooled_interval():
    groups = [[0.9, 0.92, 0.94], [0.8, 0.82, 0.84]]
    found = family(*groups).interval("a")
    half = stats.t.ppf(0.975, 4) * 0.02 / np.sqrt(3)
    assert found == pytest.approx((3, 0.92, 0.02, 0.92 - half, 0.92 + half))


def test_below_four_degrees_of_freedom_there_is_no_interval():
    assert family([0.5], [0.6]).difference("a", "b") == Difference(
        pytest.approx(-0.1), None, None, False
    )
    two = family([0.5, 0.6], [0.9, 1.0])
    assert two.difference("a", "b").low is None and two.interval("a").low is None
    assert two.smallest_detectable() is None and two.repeats_to_detect(0.1) is None
    four = family(*([x, x + 0.1] for x in (0.1, 0.2, 0.3, 0.4)))
    assert four.difference("a", "b").low is not None and four.smallest_detectable() > 0


def test_results_without_any_spread_have_no_interval():
    assert family([0.5] * 3, [0.5] * 3, [0.6] * 3).difference("a", "c").low is None


def test_a_known_spread_widens_the_pairs_of_the_noisier_group(rng):
    groups = rng.normal(0, 1, (3, 4)) * [[1.0], [1], [5]]
    plain = family(*groups, spread={"a": 1.0, "b": 1.0, "c": 5.0})
    near, far = plain.difference("a", "b"), plain.difference("a", "c")
    assert (far.high - far.low) / (near.high - near.low) == pytest.approx(np.sqrt(26 / 2))


@pytest.mark.parametrize("groups", [2, 4])
def test_the_smallest_detectable_difference_is_found_four_times_in_five(rng, groups):
    """With the population's variance in the place of the estimate."""
    size = family(*np.tile([-1.0, 0.0, 1.0], (groups, 1))).smallest_detectable()  # variance 1
    critical = stats.studentized_range.ppf(0.95, groups, 2 * groups)
    found = 0
    for _ in range(800):
        drawn = rng.normal(0, 1, (groups, 3))
        drawn[0] += size
        means, variance = drawn.mean(1), drawn.var(1, ddof=1).mean()
        found += abs(means[0] - means[1]) > critical * np.sqrt(variance / 3)
    assert found / 800 == pytest.approx(0.8, abs=0.05)


def test_more_seeds_find_smaller_differences(rng):
    found = family(*rng.normal(0, 1, (4, 3)))
    sizes = [found.smallest_detectable(n) for n in (3, 5, 10)]
    assert sizes == sorted(sizes, reverse=True)
    assert found.smallest_detectable(3) == pytest.approx(found.smallest_detectable())
    wanted = found.repeats_to_detect(sizes[1])
    assert wanted == 5 and found.repeats_to_detect(1e-4) is None


def test_equal_losses_are_seldom_told_apart_whatever_their_spread(rng):
    """As benchmarks/verdict.py does at length."""
    for spread in ([1, 1, 1, 1], [1, 1, 1, 10]):
        claimed = 0
        for _ in range(300):
            groups = rng.normal(0, 1, (4, 3)) * np.array(spread)[:, None]
            known = {name: float(own) for name, own in zip("abcd", spread, strict=True)}
            own = family(*groups, spread=known)
            claimed += any(own.difference(*pair).separable for pair in combinations("abcd", 2))
        assert claimed / 300 <= 0.09


def test_the_noisiest_are_set_apart_one_by_one(rng):
    quiet = {name: list(rng.normal(0, 1, 5)) for name in "abc"}
    assert noisier_than_others(quiet) == set()
    loud = {name: list(rng.normal(0, 1000 * (i + 1), 5)) for i, name in enumerate("de")}
    assert noisier_than_others(quiet | loud) == {"d", "e"}
    assert noisier_than_others({"a": [1.0], "b": [2.0]}) == set()


@pytest.mark.parametrize("budget", [1, 2, 4, 6])
def test_an_expected_best_is_the_mean_over_all_draws(rng, budget):
    chosen, reported = rng.permutation(6) / 6, rng.random(6)
    draws = [max(draw, key=lambda i: chosen[i]) for draw in combinations(range(6), budget)]
    assert expected_best(list(chosen), list(reported), budget) == pytest.approx(np.mean(reported[draws]))


def test_of_equal_settings_the_first_is_chosen():
    assert expected_best([0.9, 0.9, 0.1], [0.2, 0.7, 0.5], 3) == 0.2


def test_an_expected_best_of_a_thousand_settings_is_finite():
    values = list(np.linspace(0, 1, 1000))
    assert expected_best(values, values, 750) == pytest.approx(1, abs=0.01)
