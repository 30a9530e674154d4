"""From a backbone, a head and resident data to trained weights, an epoch at a time."""

from .checkpoint import load_checkpoint, random_states, save_checkpoint, set_random_states
from .device import Device, available_cores, choose_device
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
    "available_cores",
    "build_optimizer",
    "build_schedule",
    "choose_device",
    "embed",
    "fit",
    "load_checkpoint",
    "margin_schedule",
    "random_states",
    "save_checkpoint",
    "set_random_states",
]
