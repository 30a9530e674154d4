"""Runs in Weights & Biases: the only place that imports wandb, and only when asked to.

W&B is a view of a run's files; nothing is read back from it. settings.py says what is asked of W&B,
session.py keeps a run of it alive and its waiting bounded, comparison.py shows a sweep's answer there,
sync.py sends what the server lacks.
"""

from .comparison import publish, report, track_comparison
from .runs import Tracker, point_cloud, sweep_group, track
from .session import left_in_sweep
from .settings import check_logger, check_online
from .sync import upload

__all__ = [
    "Tracker",
    "check_logger",
    "check_online",
    "left_in_sweep",
    "point_cloud",
    "publish",
    "report",
    "sweep_group",
    "track",
    "track_comparison",
    "upload",
]
