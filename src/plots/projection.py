"""Embeddings of any dimension in the few that can be drawn."""

import numpy as np


def to_dimensions(
    embeddings: np.ndarray, prototypes: np.ndarray, dimensions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Directions of embeddings (N, D) and prototypes (C, D), in `dimensions` or fewer.

    Vectors are scaled to length 1. If D is larger, both are projected on the plane or space that
    keeps most of the embeddings' variance (principal components); lengths are then at most 1.
    """

    def units(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    points, ends = units(embeddings), units(prototypes)
    if points.shape[1] <= dimensions:
        return points, ends
    centre = points.mean(0)
    axes = np.linalg.svd(points - centre, full_matrices=False)[2][:dimensions]
    return (points - centre) @ axes.T, (ends - centre) @ axes.T


def class_means(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean directions (C, D) of embeddings (N, D) with labels (N,); zero for a label that is not
    there."""
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    sums = np.zeros((int(labels.max()) + 1, embeddings.shape[1]), embeddings.dtype)
    np.add.at(sums, labels, units)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
