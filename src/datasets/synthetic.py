"""Clusters on a sphere, drawn from von Mises–Fisher distributions: as many classes as wanted."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from .options import ClosedOrOpen, Seed
from .splits import Labelled, Source


def von_mises_fisher(
    labels: np.ndarray, means: np.ndarray, concentration: float, seed: int
) -> np.ndarray:
    """Unit vectors (N, D) float32 around the unit vectors `means` (C, D) of their labels (N,): density ∝
    exp(κ cos θ) at the angle θ from the mean, κ the concentration (Fisher 1953; drawn by scipy)."""
    from scipy.stats import vonmises_fisher

    dimension = means.shape[1]
    pole = np.eye(dimension)[0]
    around_pole = vonmises_fisher(pole, concentration).rvs(len(labels), random_state=seed)
    # A reflection takes the pole to each mean, so that one draw serves all classes.
    normal = pole - means.astype(np.float64)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = (normal / np.maximum(length, 1e-12))[labels]
    reflected = around_pole - 2 * (around_pole * normal).sum(1, keepdims=True) * normal
    return reflected.astype(np.float32)


def synthetic(
    root: Path,
    *,
    split: ClosedOrOpen = "closed_set",
    classes: Annotated[int, Field(ge=2)] = 10,
    dimension: Annotated[int, Field(ge=2)] = 16,
    concentration: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 40.0,
    per_class: Annotated[int, Field(ge=1)] = 100,
    test_per_class: Annotated[int, Field(ge=1)] = 20,
    data_seed: Seed = 0,
) -> Source:
    """Vectors as images (1, 1, `dimension`): each coordinate is stretched by what takes the largest of
    all to 127, and 128 is added, to make a byte of it. In a closed set the test samples come from the
    same classes, in an open set from as many others. `root` is not used."""
    rng = np.random.default_rng(data_seed)
    means = rng.normal(size=(2 * classes, dimension))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    first_test_class = 0 if split == "closed_set" else classes

    def points(first_class: int, count: int, seed: int) -> np.ndarray:
        own_means = means[first_class : first_class + classes]
        return von_mises_fisher(np.repeat(np.arange(classes), count), own_means, concentration, seed)

    train = points(0, per_class, data_seed + 1)
    test = points(first_test_class, test_per_class, data_seed + 2)
    stretch = 127 / max(np.abs(train).max(), np.abs(test).max())

    def labelled(points: np.ndarray, first_class: int) -> Labelled:
        return Labelled(
            np.rint(128 + stretch * points).astype(np.uint8)[:, None, None],
            np.repeat(np.arange(classes), len(points) // classes),
            tuple(str(first_class + label) for label in range(classes)),
        )

    return Source(train=labelled(train, 0), test=labelled(test, first_test_class))
