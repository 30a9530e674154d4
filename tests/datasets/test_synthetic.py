"""Clusters that are von Mises–Fisher's."""

import numpy as np
import pytest
import torch
from scipy.special import ive

from src.datasets import load, synthetic, von_mises_fisher

CPU = torch.device("cpu")


@pytest.mark.parametrize(("dimension", "concentration"), [(3, 5.0), (16, 40.0), (64, 500.0)])
def test_samples_lie_around_their_mean_as_the_distribution_has_it(dimension, concentration):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, dimension))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    labels = np.repeat(np.arange(4), 20_000)
    x = von_mises_fisher(labels, means, concentration, seed=1).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    # The mean cosine to the centre is I_{D/2}(κ) / I_{D/2−1}(κ) (Mardia & Jupp 2000, 9.3.9).
    expected = ive(dimension / 2, concentration) / ive(dimension / 2 - 1, concentration)
    for each in range(4):
        mean = x[labels == each].mean(0)
        assert mean @ means[each] == pytest.approx(expected, abs=0.01)
        assert np.linalg.norm(mean - expected * means[each]) < 0.02  # to no side


def test_as_many_classes_as_wanted_closed_or_open():
    options = {"classes": 50, "dimension": 8, "per_class": 6, "test_per_class": 4}
    closed = load(synthetic, "unused", CPU, **options)
    assert closed.image_shape == (1, 1, 8) and closed.classes == closed.test.classes
    assert (len(closed.train), len(closed.test)) == (300, 200)
    opened = load(synthetic, "unused", CPU, split="open_set", **options)
    assert not set(opened.train.classes) & set(opened.test.classes) and len(opened.test.classes) == 50
    again = load(synthetic, "elsewhere", CPU, split="open_set", **options)
    assert torch.equal(opened.train.images, again.train.images)
    other = load(synthetic, "unused", CPU, data_seed=1, **options)
    assert not torch.equal(other.train.images, closed.train.images)


def test_the_nearest_class_mean_is_nearly_always_the_own_ones_where_clusters_are_tight():
    data = load(synthetic, "unused", CPU, concentration=300.0)
    (x, y), (test, _) = (split.batch(torch.arange(len(split))) for split in (data.train, data.test))
    means = torch.stack([x[y == c].mean(0) for c in range(10)])
    nearest = torch.cdist(test.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == data.test.labels).float().mean() > 0.97
