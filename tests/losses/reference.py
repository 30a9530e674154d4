"""The losses as their papers print them, in float64, row by row in plain Python: slow, obvious, and
sharing nothing with src/losses."""

import math

import numpy as np


def psi(phi: float) -> float:
    k = math.floor(phi / math.pi)
    return (-1) ** k * math.cos(phi) - 2 * k


def moved_cosine(name: str, theta: float, margin, beyond_pi: str = "monotone") -> float:
    """The target's cosine after the margin, from its angle."""
    m1, m2, m3 = {
        "normface": lambda: (1, 0, 0),
        "cosface": lambda: (1, 0, margin),
        "arcface": lambda: (1, margin, 0),
        "sphereface": lambda: (margin, 0, 0),
        "combined": lambda: margin,
    }[name]()
    phi = m1 * theta + m2
    if beyond_pi == "easy" and theta >= math.pi / 2:
        return math.cos(theta) - m3
    return (math.cos(phi) if beyond_pi != "monotone" else psi(phi)) - m3


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Between two vectors, without the cancellation of arccos near 0 and π."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return 2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b))


def logits(
    name: str, x: np.ndarray, w: np.ndarray, y: np.ndarray, s: float, margin, beyond_pi="monotone"
):
    z = np.empty((len(x), len(w)))
    for i in range(len(x)):
        for j in range(len(w)):
            theta = angle(x[i], w[j])
            z[i, j] = s * (
                moved_cosine(name, theta, margin, beyond_pi) if j == y[i] else math.cos(theta)
            )
    return z


def cross_entropy(z: np.ndarray, y: np.ndarray) -> float:
    """−log softmax of the target, written so that a tiny loss keeps its digits."""
    losses = []
    for row, label in zip(z, y, strict=True):
        others = np.delete(row - row[label], label)
        top = max(0.0, others.max())
        if top == 0.0:
            losses.append(math.log1p(np.exp(others).sum()))
        else:
            losses.append(top + math.log(math.exp(-top) + np.exp(others - top).sum()))
    return float(np.mean(losses))


def loss(name, x, w, y, s, margin, beyond_pi="monotone") -> float:
    return cross_entropy(logits(name, x, w, y, s, margin, beyond_pi), y)


def gradient(function, at: np.ndarray, step: float) -> np.ndarray:
    """Central differences of a scalar function, fourth order."""
    grad = np.zeros_like(at)
    for index in np.ndindex(at.shape):

        def moved(by, index=index):
            there = at.copy()
            there[index] += by
            return function(there)

        grad[index] = (8 * (moved(step) - moved(-step)) - moved(2 * step) + moved(-2 * step)) / (
            12 * step
        )
    return grad


def batch(rng: np.random.Generator, thetas, classes: int, dimension: int, one_class: bool = False):
    """Float32 embeddings of any length at the angles `thetas` to their own prototypes, rounded:
    (x (B, D), w (C, D), y (B,)). The references run on the float64 values of the rounded numbers."""
    w = rng.normal(size=(classes, dimension))
    y = np.zeros(len(thetas), int) if one_class else rng.integers(classes, size=len(thetas))
    own = w[y] / np.linalg.norm(w[y], axis=1, keepdims=True)
    side = rng.normal(size=own.shape)
    side -= (side * own).sum(1, keepdims=True) * own
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    thetas = np.asarray(thetas)[:, None]
    x = (np.cos(thetas) * own + np.sin(thetas) * side) * rng.uniform(0.1, 20, size=(len(thetas), 1))
    return x.astype(np.float32), w.astype(np.float32), y
