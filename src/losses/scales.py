"""Scales that follow from the number of classes."""

import math

from .errors import BadArgument


def adacos_scale(num_classes: int) -> float:
    """Return AdaCos's fixed scale √2 · ln(C − 1) (arXiv 1905.00292). Raises BadArgument for C ≤ 2."""
    if num_classes <= 2:
        why = "expected at least 3 classes: AdaCos's scale √2·ln(C−1) is 0 or undefined for fewer"
        raise BadArgument("num_classes", num_classes, why)
    return math.sqrt(2) * math.log(num_classes - 1)


def sufficient_scale(num_classes: int, probability: float = 0.9999) -> float:
    """Return the smallest scale at which a perfectly placed sample reaches the `probability` p:
    (C−1)/C · ln((C−1) p / (1−p)), the bound of CosFace, arXiv 1801.09414, section 3.3."""
    others = max(num_classes - 1, 1)
    odds = probability / (1 - probability)
    return others / num_classes * math.log(others * odds)
