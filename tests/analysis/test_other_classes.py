"""Intervals for other classes: on data whose classes differ, and whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from src.analysis.other_classes import classes_variance, with_other_classes
from src.analysis.statistics import Family, Repeat


def clustered(rng, classes: int, queries: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences (repeats, queries) around 0, and the class of each query: every class has its own, and
    so have every repeat and, in each repeat, every class."""
    labels = np.repeat(np.arange(classes), queries)
    of_class = rng.normal(0, 1.0, classes)[labels]
    of_repeat = rng.normal(0, 0.1, (repeats, 1))
    of_both = rng.normal(0, 0.5, (repeats, classes))[:, labels]
    return of_class + of_repeat + of_both + rng.normal(0, 1.0, (repeats, len(labels))), labels


def without_each(gaps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Means (repeats, classes) of differences (repeats, queries) without each class."""
    return np.array([gaps[:, labels != one].mean(1) for one in np.unique(labels)]).T


def test_classes_and_seeds_together_cover_the_truth_where_images_alone_do_not():
    rng, covered, naive, tables = np.random.default_rng(0), 0, 0, 400
    for _ in range(tables):
        gaps, labels = clustered(rng, 40, 8, 3)
        means = gaps.mean(1)
        seeds = means.var(ddof=1) / len(means)
        of_classes = classes_variance(without_each(gaps, labels))
        total = seeds + of_classes
        degrees = total**2 / (seeds**2 / (len(means) - 1) + of_classes**2 / 39)
        covered += abs(gaps.mean()) <= stats.t.ppf(0.975, degrees) * np.sqrt(total)
        images = gaps.mean(0)
        naive += abs(gaps.mean()) <= 1.96 * np.sqrt(images.var(ddof=1) / len(images))
    assert 0.92 <= covered / tables <= 0.98
    assert naive / tables < 0.7


def test_the_variance_is_that_of_the_classes():
    rng = np.random.default_rng(1)
    found = [classes_variance(without_each(*clustered(rng, 60, 5, 3))) for _ in range(40)]
    assert np.mean(found) == pytest.approx(1.0 / 60, rel=0.1)


def test_an_interval_for_both_is_never_narrower_than_for_seeds_and_needs_classes(monkeypatch):
    """More degrees of freedom may shrink it by more than a little variance widens it."""
    family = Family(
        {
            "ours": {Repeat(i): 0.8 + 0.01 * i for i in range(3)},
            "theirs": {Repeat(i): 0.7 + 0.02 * (i % 2) for i in range(3)},
        }
    )
    chosen = {loss: dict.fromkeys(map(Repeat, range(3)), loss) for loss in ("ours", "theirs")}
    seeds = family.difference("ours", "theirs")
    for groups, known in ((40, True), (4, False)):
        left_out = np.linspace(0, 1e-3, groups), np.zeros(3)
        monkeypatch.setattr("src.analysis.other_classes.without_groups", lambda *given: left_out)  # noqa: B023
        both = with_other_classes("map_at_r", family, chosen, "ours", "theirs")
        assert (both is not None) == known
        assert not known or both.high - both.low >= seeds.high - seeds.low


def test_what_every_class_has_alike_has_no_variance():
    labels = np.repeat(np.arange(10), 3)
    assert classes_variance(without_each(np.full((3, 30), 0.2), labels)) == pytest.approx(0)
