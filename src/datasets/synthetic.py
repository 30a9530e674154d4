"""Clusters on a sphere, drawn from von Mises–Fisher distributions: as many classes as wanted."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from .splits import Labelled, Source


def von_mises_fisher(
    labels: np.ndarray, means: np.ndarray, concentration: float, seed: int
) -> np.ndarray:
    """Unit vectors (N, D) float32 around the means (C, D) of their labels (N,), density ∝
    exp(κ cos of the angle to the mean), κ the concentration (Fisher 1953; drawn by scipy)."""
    from scipy.stats import vonmises_fisher

    dimension = means.shape[1]
    pole = np.eye(dimension)[0]
    drawn = vonmises_fisher(pole, concentration).rvs(len(labels), random_state=seed)
    # A reflection takes the pole to each mean: one draw does for all classes.
    mirror = pole - means.astype(np.float64)
    length = np.linalg.norm(mirror, axis=1, keepdims=True)
    mirror = (mirror / np.maximum(length, 1e-12))[labels]
    return (drawn - 2 * (drawn * mirror).sum(1, keepdims=True) * mirror).astype(np.float32)


def synthetic(
    root: Path,
    *,
    split: str = "closed_set",
    classes: int = 10,
    dimension: int = 16,
    concentration: float = 40.0,
    per_class: int = 100,
    test_per_class: int = 20,
    data_seed: int = 0,
) -> Source:
    """Vectors as images (1, 1, `dimension`): 128 + 127 times each coordinate, as a byte, stretched by
    the largest one. In a closed set the test samples are of the same classes, in an open set of as
    many others."""
    if min(classes, dimension) < 2 or min(per_class, test_per_class) < 1 or concentration <= 0:
        raise UserError(
            f"dataset.classes={classes} dimension={dimension} concentration={concentration} per_class="
            f"{per_class} test_per_class={test_per_class}: 2, 2, above 0, 1 and 1 at least"
        )
    rng = np.random.default_rng(data_seed)
    means = rng.normal(size=(2 * classes, dimension))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    parts = []
    for count, first, seed in (
        (per_class, 0, 1),
        (test_per_class, classes * (split != "closed_set"), 2),
    ):
        labels = np.repeat(np.arange(classes), count)
        of_part = means[first : first + classes]
        parts.append((von_mises_fisher(labels, of_part, concentration, data_seed + seed), labels, first))
    stretch = 127 / max(np.abs(points).max() for points, _, _ in parts)
    return Source(
        *(
            Labelled(
                np.rint(128 + stretch * points).astype(np.uint8)[:, None, None],
                labels,
                tuple(str(first + each) for each in range(classes)),
            )
            for points, labels, first in parts
        )
    )
