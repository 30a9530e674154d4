"""Runs in Weights & Biases and TensorBoard: the only place that imports them, and only when asked to.

W&B is a view of a run's files; nothing is read back from it. settings.py says what is asked of W&B,
session.py keeps a run of it alive and its waiting bounded, comparison.py shows a sweep's answer there,
a note in each folder says what the server lacks (src/run/upload.py sends it).
"""

from .comparison import publish, report, track_comparison
from .runs import Shown, Tracker, point_cloud, sweep_group, track
from .session import Note, left_in_sweep, note_of
from .settings import check_logger, check_online, why_not_online

__all__ = [
    "Note",
    "Shown",
    "Tracker",
    "check_logger",
    "check_online",
    "left_in_sweep",
    "note_of",
    "point_cloud",
    "publish",
    "report",
    "sweep_group",
    "track",
    "track_comparison",
    "why_not_online",
]
