"""Tensors in, numbers out."""

from .closed_set import METRICS, ClosedSet, closed_set, higher_is_better

__all__ = ["METRICS", "ClosedSet", "closed_set", "higher_is_better"]
