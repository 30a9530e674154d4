"""Optimizers that strike: `optimizer._target_=tests.faults.Adam`, as a user's own would be named.

They train like torch's until, after a run's first checkpoint, the fault that is planned for it comes.
FAULTS="arcface4:diverge cosface7:abort" in the environment plans faults by loss and seed; a test that
trains in its own process sets `strike`.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from src.commands import is_follower

strike: Callable[[torch.optim.Optimizer], None] | None = None  # before every step


def diverge(optimizer, folder):
    with torch.no_grad():
        optimizer.param_groups[0]["params"][0].fill_(float("nan"))


def raise_(optimizer, folder):
    raise ZeroDivisionError("planted: one by zero")


def abort(optimizer, folder):
    os.abort()


def exit_(optimizer, folder):
    os._exit(0)


def hang(optimizer, folder):
    here = folder / "hangs"
    here.with_suffix(".tmp").write_text(str(os.getpid()))
    here.with_suffix(".tmp").rename(here)  # who waits for it never reads half of it
    time.sleep(600)


def kill(optimizer, folder):
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(optimizer, folder):
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(optimizer, folder):
    sys.exit("planted: leaving")


def full(optimizer, folder):
    raise OSError(errno.ENOSPC, "No space left on device")


def recurse(optimizer, folder):
    recurse(optimizer, folder)


def unprintable(optimizer, folder):
    raise RuntimeError("planted: \ud800\x00 over\ntwo lines")


def beside(folder) -> bool:
    """Whether another run of the sweep is under way."""
    others = [each for each in folder.parent.iterdir() if (each / "train.log").exists()]
    return any(each != folder and not (each / "summary.json").exists() for each in others)


def starve(optimizer, folder):
    """No memory; the first attempt waits for another run beside it."""
    attempts = folder / "crowded"
    while not (attempts.exists() or beside(folder)):
        time.sleep(0.05)
    with open(attempts, "a") as file:
        file.write("again\n")
    raise torch.OutOfMemoryError("planted: CUDA out of memory")


def crowd(optimizer, folder):
    """No memory while another run is beside this one, for which the first attempt waits."""
    if not (folder / "crowded").exists() or beside(folder):
        starve(optimizer, folder)


def accompany(optimizer, folder):
    """Be beside one that is to starve, until it has."""
    while not list(folder.parent.glob("*/crowded")):
        time.sleep(0.05)


def until_next_is_finished(optimizer, folder):
    """Be at it until the run of the next seed is through."""
    stem, _, seed = folder.name.rpartition("=")
    deadline = time.monotonic() + 300
    while not (folder.parent / f"{stem}={int(seed) + 1}" / "summary.json").exists():
        assert time.monotonic() < deadline, "planted: the next run has not ended"
        time.sleep(0.05)
    time.sleep(1)  # in which a sweep that ends with the next run would end this one
    (folder / "went_on").touch()


def in_drawing(fault: Callable) -> Callable:
    """The same fault, when the run's figures are to be drawn."""

    def plant(optimizer, folder):
        from src.run import lifecycle

        draw = lifecycle.draw_wanted

        def struck(folder_of_run):
            lifecycle.draw_wanted = draw
            fault(optimizer, folder)
            return draw(folder_of_run)

        if draw.__name__ != "struck":  # at an earlier step
            lifecycle.draw_wanted = struck

    return plant


FAULTS = {"diverge": diverge, "raise": raise_, "abort": abort, "exit": exit_, "hang": hang}
FAULTS |= {"kill": kill, "segfault": segfault, "leave": leave, "full": full, "recurse": recurse}
FAULTS |= {"unprintable": unprintable, "crowd": crowd, "starve": starve}
FAULTS |= {"accompany": accompany, "draw_long": in_drawing(until_next_is_finished)}
FAULTS |= {"draw_and_abort": in_drawing(abort), "draw_and_hang": in_drawing(hang)}


def planned(optimizer) -> None:
    """What FAULTS has for the run that this process trains."""
    if not HydraConfig.initialized() or is_follower():
        return
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    given = dict(override.partition("=")[::2] for override in job.overrides.task)
    name = given.get("loss", "arcface") + given.get("seed", "0")
    faults = dict(pair.split(":") for pair in os.environ.get("FAULTS", "").split())
    if (folder / "checkpoint.pt").exists() and name in faults:
        FAULTS[faults.pop(name)](optimizer, folder)
    record_node(folder)


def record_node(folder: Path) -> None:
    """Which machine of a cluster a run is on, and how many processes it has."""
    node = os.environ.get("SUBMITIT_EXECUTOR")
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        node = sys.modules["ray"].get_runtime_context().get_node_id()
    if node:
        (folder / "node").write_text(node)
    if torch.distributed.is_initialized():
        (folder / "together").write_text(str(torch.distributed.get_world_size()))


class _Faulty:
    def step(self, *arguments, **options):
        (strike or planned)(self)
        return super().step(*arguments, **options)


class Adam(_Faulty, torch.optim.Adam):
    pass


class AdamW(_Faulty, torch.optim.AdamW):
    pass


class SGD(_Faulty, torch.optim.SGD):
    pass
