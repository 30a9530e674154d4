"""From a backbone, a head and resident data to trained weights, an epoch at a time."""

from .checkpoint import load_checkpoint, save_checkpoint
from .device import Device, choose_device
from .loop import embed, fit
from .progress import TrainingBar
from .schedules import (
    OPTIMIZERS,
    SCHEDULES,
    WARMUPS,
    build_optimizer,
    build_schedule,
    margin_schedule,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "WARMUPS",
    "Device",
    "TrainingBar",
    "build_optimizer",
    "build_schedule",
    "choose_device",
    "embed",
    "fit",
    "load_checkpoint",
    "margin_schedule",
    "save_checkpoint",
]
