"""From run folders to an answer: which setting is best, by how much, and how sure that is."""

from .across import Across
from .compare import compare_sweeps
from .ranking import Comparison, Setting, rank_runs
from .read import RunRecord, read_runs

__all__ = ["Across", "Comparison", "RunRecord", "Setting", "compare_sweeps", "rank_runs", "read_runs"]
