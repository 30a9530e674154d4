"""From run folders to an answer: which setting is best, by how much, and how sure that is."""

from .answer import Comparison, Setting, compare
from .read import Run, read_runs

__all__ = ["Comparison", "Run", "Setting", "compare", "read_runs"]
