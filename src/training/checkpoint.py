"""What it takes to use a run, or to resume it: plain tensors and numbers, no pickled code."""

import pickle
import re
import zipfile
from pathlib import Path

import torch

from ..durable import written_aside
from ..foreign import regular_file


def save_checkpoint(path: Path, **state) -> None:
    """Write `state` so that `path` always holds a whole checkpoint, even after a kill or a power cut.
    Raises OSError if it cannot be written."""
    with written_aside(path) as beside:
        torch.save(state, beside)  # by path: through a file object, Ctrl-C can get lost


def load_checkpoint(path: Path) -> dict:
    """What `save_checkpoint` wrote, on the CPU. Raises ValueError for a file that is torn, that holds
    anything but tensors and plain values, or that would take more memory than it has bytes."""
    size = regular_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            held = sum(member.file_size for member in archive.infolist())
        if held <= size:  # torch never compresses
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:  # torch advises to trust the file
        names = re.findall(r"GLOBAL ([\w.]+)", str(error)) or ["something else"]
        raise ValueError(
            f"holds more than tensors and plain values ({names[0]}), or is no checkpoint"
        ) from error
    except Exception as error:  # whatever torch makes of a file
        raise ValueError("torn, or no checkpoint") from error
    raise ValueError(f"would expand to {held:,} bytes, or is no checkpoint")


def random_states() -> dict[str, torch.Tensor]:
    """Torch's generators, of the CPU and of every GPU, as they are."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"cuda:{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_states(states: dict[str, torch.Tensor]) -> None:
    """Put torch's generators back; those of GPUs that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        if f"cuda:{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{i}"], i)
