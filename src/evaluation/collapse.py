"""Find out whether training has collapsed: nothing is told apart."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import angles_between

NARROW = math.radians(5)  # vectors all within this angle of their mean count as one direction
SAMPLES = 2000  # embeddings, and prototypes, to look at


def collapse(metrics: dict[str, float], embeddings: Tensor, head) -> str | None:
    """Return in words why a model with these `metrics`, embeddings (N, D) and the `head` tells nothing
    apart, or None if it does. A model that is merely bad has not collapsed."""
    reasons, accuracy = [], metrics.get("accuracy")
    if accuracy is not None and accuracy <= 1 / head.num_classes:
        reasons.append(f"accuracy {accuracy:.1%} is no better than chance")
    some, prototypes = embeddings[evenly(len(embeddings))], head.prototypes_of(evenly(head.num_classes))
    for name, vectors in (("embeddings", some), ("prototypes", prototypes)):
        if len(vectors) > 1 and spread(vectors) < NARROW:
            reasons.append(f"all {name} lie in one direction")
    return " and ".join(reasons) or None


def evenly(count: int) -> slice:
    return slice(None, None, max(1, count // SAMPLES))


@torch.no_grad()
def spread(vectors: Tensor) -> float:
    """Return the largest angle, in radians, between vectors (N, D) and their mean direction."""
    directions = F.normalize(vectors.float(), dim=1)
    return float(angles_between(directions, F.normalize(directions.mean(0), dim=0)).max())
