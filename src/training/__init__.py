"""From a backbone, a head and resident data to trained weights, an epoch at a time."""

from . import processes
from .average import Average
from .checkpoint import load_checkpoint, random_states, save_checkpoint, set_random_states
from .device import (
    Device,
    available_cores,
    bf16_cost,
    choose_device,
    find_device,
    give_memory_back,
)
from .graph import NotRecorded
from .loop import Epoch, NotFinite, embed, fit
from .optimizers import (
    WARMUPS,
    adam,
    adamw,
    build_optimizer,
    constant_rate,
    cosine_decay,
    load_optimizer,
    margin_schedule,
    one_cycle,
    rmsprop,
    sgd,
    step_decay,
)
from .progress import TrainingBar
from .sampling import Order, balanced, classes_in_batches, shortened, shuffled
from .step import Step

__all__ = [
    "WARMUPS",
    "Average",
    "Device",
    "Epoch",
    "NotFinite",
    "NotRecorded",
    "Order",
    "Step",
    "TrainingBar",
    "adam",
    "adamw",
    "available_cores",
    "balanced",
    "bf16_cost",
    "build_optimizer",
    "choose_device",
    "classes_in_batches",
    "constant_rate",
    "cosine_decay",
    "embed",
    "find_device",
    "fit",
    "give_memory_back",
    "load_checkpoint",
    "load_optimizer",
    "margin_schedule",
    "one_cycle",
    "processes",
    "random_states",
    "rmsprop",
    "save_checkpoint",
    "set_random_states",
    "sgd",
    "shortened",
    "shuffled",
    "step_decay",
]
