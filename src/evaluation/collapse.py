"""Has training ended where nothing is told apart?"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import angles_between

NARROW = math.radians(5)  # directions within so much of their mean are one place
SAMPLES = 2000  # embeddings that are looked at


def collapse(
    metrics: dict[str, float], embeddings: Tensor, prototypes: Tensor, *, angular: bool
) -> str | None:
    """Why a model with these `metrics`, embeddings (N, D) and prototypes (C, D) has collapsed, in words;
    None if it has not. `angular` says that the loss works on angles, so that a sample belongs within 90°
    of its prototype."""
    reasons = []
    angle, accuracy = metrics.get("target_angle_mean"), metrics.get("accuracy")
    if angular and angle is not None and angle > math.pi / 2:
        reasons.append(f"samples are {math.degrees(angle):.0f}° from their own prototype on average")
    if accuracy is not None and accuracy <= 1 / len(prototypes):
        reasons.append(f"accuracy {accuracy:.1%} is no better than chance")
    step = max(1, len(embeddings) // SAMPLES)
    for name, vectors in (("embeddings", embeddings[::step]), ("prototypes", prototypes)):
        if len(vectors) > 1 and spread(vectors) < NARROW:
            reasons.append(f"all {name} lie in one direction")
    return " and ".join(reasons) or None


@torch.no_grad()
def spread(vectors: Tensor) -> float:
    """The largest angle, in radians, between vectors (N, D) and their mean direction."""
    directions = F.normalize(vectors.float(), dim=1)
    return float(angles_between(directions, F.normalize(directions.mean(0), dim=0)).max())
