"""A threshold whose false accepts are promised for new classes, on simulated ones."""

import numpy as np
import pytest

from src.evaluation.threshold import effective_count, promised_threshold

RATE = 0.1


def population(rng, classes: int, images: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of unknown images: some people look like somebody in the gallery, in all images."""
    person = rng.normal(0, 0.15, classes)
    labels = np.repeat(np.arange(classes), images)
    return 0.3 + person[labels] + rng.normal(0, 0.1, len(labels)), labels


def broken_promises(threshold) -> float:
    """The share of 300 draws in which more than RATE of very many new people's images are accepted."""
    rng = np.random.default_rng(0)
    many, _ = population(rng, 20_000)
    return np.mean([(many > threshold(*population(rng, 80))).mean() > RATE for _ in range(300)])


def test_the_promise_is_broken_in_no_more_than_the_stated_share():
    assert (
        broken_promises(lambda cosines, labels: promised_threshold(cosines, labels, RATE).cosine) < 0.08
    )
    assert broken_promises(lambda cosines, labels: np.quantile(cosines, 1 - RATE)) > 0.4


def test_independent_images_count_as_they_are_and_copies_as_one():
    rng = np.random.default_rng(0)
    alone = effective_count(rng.permutation(400), RATE)
    assert alone == pytest.approx(400, rel=0.02)
    copied = effective_count(np.repeat(rng.permutation(40), 10), RATE)
    assert 30 < copied < 45


def test_few_classes_allow_what_they_allow():
    cosines, labels = population(np.random.default_rng(1), 8)
    promise = promised_threshold(cosines, labels, 0.001)
    assert promise.cosine == cosines.max() and promise.accepted == 0 and promise.rate > 0.05
    alone = promised_threshold(np.array([0.5, 0.4]), np.array([3, 3]), 0.1)  # one class
    assert alone.cosine == 0.5 and alone.rate > 0.7


def test_equal_cosines_are_accepted_together():
    promise = promised_threshold(np.full(1000, 0.5), np.arange(1000), 0.1)
    assert promise.cosine == 0.5 and promise.accepted == 0
