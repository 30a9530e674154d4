"""Find out whether training has collapsed: nothing is told apart."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import angles_between

NARROW = math.radians(5)  # vectors all within this angle of their mean count as one direction
SAMPLES = 2000  # embeddings to look at


def collapse(metrics: dict[str, float], embeddings: Tensor, prototypes: Tensor) -> str | None:
    """Return in words why a model with these `metrics`, embeddings (N, D) and prototypes (C, D) tells
    nothing apart, or None if it does. A model that is merely bad has not collapsed."""
    reasons, accuracy = [], metrics.get("accuracy")
    if accuracy is not None and accuracy <= 1 / len(prototypes):
        reasons.append(f"accuracy {accuracy:.1%} is no better than chance")
    step = max(1, len(embeddings) // SAMPLES)
    for name, vectors in (("embeddings", embeddings[::step]), ("prototypes", prototypes)):
        if len(vectors) > 1 and spread(vectors) < NARROW:
            reasons.append(f"all {name} lie in one direction")
    return " and ".join(reasons) or None


@torch.no_grad()
def spread(vectors: Tensor) -> float:
    """Return the largest angle, in radians, between vectors (N, D) and their mean direction."""
    directions = F.normalize(vectors.float(), dim=1)
    return float(angles_between(directions, F.normalize(directions.mean(0), dim=0)).max())
