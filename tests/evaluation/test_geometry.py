"""Angles that are known, and sums worked out in float64."""

import math

import numpy as np
import pytest
import torch

from src.evaluation import geometry, widest_angle

RNG = np.random.default_rng(0)


def simplex(count: int) -> np.ndarray:
    """`count` directions in count − 1 dimensions, each as far from every other."""
    corners = np.eye(count) - 1 / count
    return np.linalg.svd(corners)[0][:, : count - 1]


GOLDEN = (1 + 5**0.5) / 2
ICOSAHEDRON = np.array([p for a in (1, -1) for b in (GOLDEN, -GOLDEN)
                        for p in ((0, a, b), (a, b, 0), (b, 0, a))], float)  # fmt: skip
TURNS = 2 * np.pi * np.arange(7) / 7
BEST = {
    "simplex in 4": (simplex(5), math.acos(-1 / 4)),
    "octahedron": (np.concatenate([np.eye(3), -np.eye(3)]), math.pi / 2),
    "cross in 8": (np.concatenate([np.eye(8), -np.eye(8)]), math.pi / 2),
    "icosahedron": (ICOSAHEDRON, math.acos(1 / 5**0.5)),
    "heptagon": (np.stack([np.cos(TURNS), np.sin(TURNS)], 1), 2 * math.pi / 7),
}


@pytest.mark.parametrize("name", BEST)
def test_the_best_arrangements_reach_the_widest_angle(name):
    directions, angle = BEST[name]
    assert widest_angle(*directions.shape) == pytest.approx(angle, abs=1e-6)
    prototypes = torch.tensor(3 * directions, dtype=torch.float32)
    metrics = geometry(torch.randn(20, directions.shape[1]), torch.arange(20) % 2, prototypes)
    assert metrics["prototype_angle_min"] == pytest.approx(angle, abs=1e-5)
    assert metrics["prototype_separation"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("count", "dimension"), [(20, 3), (100, 3), (100, 8), (1000, 16), (10_000, 512)]
)
def test_no_arrangement_exceeds_the_widest_angle(count, dimension):
    x = torch.randn(count, dimension, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], 0.02)
    for _ in range(0 if count > 1000 else 300):  # pushed apart, as well as this gets them
        unit = torch.nn.functional.normalize(x, dim=1)
        loss = (50 * (unit @ unit.T - 2 * torch.eye(count))).logsumexp((0, 1))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    metrics = geometry(x.detach(), torch.arange(count), x.detach())
    least = 0.75 if dimension == 3 else 0.5 if count <= 1000 else 0.2
    assert least < metrics["prototype_separation"] <= 1


def test_angles_to_the_class_mean_and_between_means():
    # Two classes, each of two samples 0.2 to both sides of its mean; the means 1 apart.
    turns = torch.tensor([0.2, -0.2, 1.2, 0.8])
    x = torch.stack([turns.cos(), turns.sin(), torch.zeros(4)], 1) * torch.tensor([[5.0], [5], [1], [1]])
    metrics = geometry(x, torch.tensor([3, 3, 8, 8]))  # whatever the labels are
    assert metrics["intra_angle_mean"] == pytest.approx(0.2, abs=1e-6)
    assert metrics["inter_angle_mean"] == metrics["inter_angle_min"] == pytest.approx(1.0, abs=1e-6)
    assert "prototype_angle_min" not in metrics


def test_tiny_angles_are_not_rounded_away():
    x = torch.tensor([[1.0, 1e-5], [1.0, -1e-5]])
    assert geometry(x, torch.zeros(2, dtype=torch.int64))["intra_angle_mean"] == pytest.approx(
        1e-5, rel=1e-3
    )


def test_uniformity_is_the_mean_over_pairs():
    x = RNG.normal(size=(200, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    squared = ((unit[:, None] - unit[None]) ** 2).sum(2)
    expected = np.log(np.exp(-2 * squared[np.triu_indices(200, 1)]).mean())
    metrics = geometry(torch.tensor(x, dtype=torch.float32), torch.arange(200) % 4)
    assert metrics["uniformity"] == pytest.approx(expected, abs=1e-5)
    one = geometry(torch.ones(50, 3), torch.arange(50) % 2)
    assert one["uniformity"] == pytest.approx(0, abs=1e-5) and one["effective_dimension"] == 0


@pytest.mark.parametrize("spread", [4, 16])
def test_the_effective_dimension_counts_those_in_which_there_is_spread(spread):
    x = RNG.normal(size=(20_000, 64))
    x[:, spread:] *= 1e-3
    metrics = geometry(torch.tensor(x, dtype=torch.float32), torch.arange(20_000) % 5)
    assert metrics["effective_dimension"] == pytest.approx(spread, rel=0.05)


def test_a_single_direction_has_no_widest_angle():
    with pytest.raises(ValueError, match="1 directions have no smallest angle"):
        widest_angle(1, 3)


def test_one_class_has_no_nearest_other():
    metrics = geometry(torch.randn(10, 4), torch.zeros(10, dtype=torch.int64))
    assert not [name for name in metrics if name.startswith("inter")]
