"""Tensors in, numbers out."""

from .closed_set import METRICS, ClosedSet, closed_set

__all__ = ["METRICS", "ClosedSet", "closed_set"]
