"""Clusters on a sphere, drawn from von Mises–Fisher distributions: as many classes as wanted."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ..losses import BadArgument
from .options import ClosedOrOpen, Seed
from .splits import Labelled, Source

AT_ONCE = 2**17  # samples: what they are drawn from takes many times their memory


def von_mises_fisher(
    labels: np.ndarray, means: np.ndarray, concentration: float, seed: int
) -> np.ndarray:
    """Unit vectors (N, D) float32 around the unit vectors `means` (C, D) of their labels (N,): density ∝
    exp(κ cos θ) at the angle θ from the mean, κ the concentration (Fisher 1953; drawn by scipy)."""
    from scipy.stats import vonmises_fisher

    dimension = means.shape[1]
    pole = np.eye(dimension)[0]
    drawn, random = vonmises_fisher(pole, concentration), np.random.RandomState(seed)
    points = np.empty((len(labels), dimension), np.float32)
    for first in range(0, len(labels), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        around_pole = drawn.rvs(len(labels[rows]), random_state=random)
        # A reflection takes the pole to each mean, so that one draw serves all classes.
        normal = pole - means[labels[rows]]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        points[rows] = around_pole - 2 * (around_pole * normal).sum(1, keepdims=True) * normal
    return points


def synthetic(
    root: Path,
    *,
    split: ClosedOrOpen = "closed_set",
    classes: Annotated[int, Field(ge=2)] = 10,
    dimension: Annotated[int, Field(ge=2)] = 16,
    concentration: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 40.0,
    per_class: Annotated[int, Field(ge=1)] = 100,
    test_per_class: Annotated[int, Field(ge=1)] = 20,
    test_classes: Annotated[int, Field(ge=2)] | None = None,
    data_seed: Seed = 0,
) -> Source:
    """Vectors as images (1, 1, `dimension`): each coordinate is stretched by what takes the largest of
    all to 127, and 128 is added, to make a byte of it. In a closed set the test samples come from the
    same classes, in an open set from `test_classes` others, or as many others. `root` is not used.
    Raises BadArgument for `test_classes` of a closed set."""
    if split == "closed_set" and test_classes is not None:
        raise BadArgument("test_classes", test_classes, "a closed set is tested on all of its classes")
    rng = np.random.default_rng(data_seed)
    others = 0 if split == "closed_set" else test_classes or classes
    means = rng.normal(size=(classes + others, dimension))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    tested = slice(classes, None) if others else slice(None)

    def points(own_means: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(len(own_means)), count)
        return von_mises_fisher(labels, own_means, concentration, seed), labels

    train = points(means[:classes], per_class, data_seed + 1)
    test = points(means[tested], test_per_class, data_seed + 2)
    stretch = 127 / max(np.abs(train[0]).max(), np.abs(test[0]).max())

    def labelled(points: np.ndarray, labels: np.ndarray, names: range) -> Labelled:
        points *= stretch
        points += 128
        pixels = np.rint(points, out=points).astype(np.uint8)
        return Labelled(pixels[:, None, None], labels, tuple(map(str, names)))

    names = range(len(means))
    return Source(train=labelled(*train, names[:classes]), test=labelled(*test, names[tested]))
