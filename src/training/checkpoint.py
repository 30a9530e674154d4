"""All that a run needs to be used, or to go on: plain tensors and numbers, no pickled code."""

import os
from pathlib import Path

import torch


def save_checkpoint(path: Path, **state) -> None:
    """Write `state` so that `path` always holds a whole checkpoint, even after a kill."""
    unfinished = path.with_suffix(".tmp")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: Path) -> dict:
    """What `save_checkpoint` wrote, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)
