"""Embeddings of any dimension, in the two or three that can be drawn."""

import numpy as np


def to_dimensions(
    embeddings: np.ndarray, prototypes: np.ndarray, dimensions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Directions of embeddings (N, D) and prototypes (C, D) in min(D, `dimensions`) dimensions.

    Vectors are scaled to length 1. If D is larger than `dimensions`, both are then projected onto the
    first principal components of the embeddings, and centred on their mean.
    """
    points, directions = _unit(embeddings), _unit(prototypes)
    if points.shape[1] <= dimensions:
        return points, directions
    centre = points.mean(0)
    components = np.linalg.svd(points - centre, full_matrices=False)[2][:dimensions]
    return (points - centre) @ components.T, (directions - centre) @ components.T


def class_means(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean directions (C, D) of embeddings (N, D) with labels (N,), C = max label + 1; zero for a label
    without samples."""
    sums = np.zeros((int(labels.max()) + 1, embeddings.shape[1]), embeddings.dtype)
    np.add.at(sums, labels, _unit(embeddings))
    return _unit(sums)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
