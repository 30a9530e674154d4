"""A run by several processes: what process 0 tells the others, and what they do.

Process 0 does all that one process would: it claims the folder, goes on from a checkpoint, evaluates and
writes. When it begins to train, the others build the same run and take the same steps with it.
"""

import copy
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ..config import Config
from ..datasets import BrokenImage
from ..errors import UserError
from ..training import Epoch, NotFinite, Step, fit, load_checkpoint, load_optimizer, processes
from .build import Run, build_run
from .folder import LAST, RunFolder
from .parts import build_training, penalty_of
from .resume import restore

FOLLOWS = "ANGULAR_PENALTY_FOLLOWS"  # two pipes to the process that started this one
SOURCES = Path(__file__).parents[2]  # where `src` is imported from


class Work(NamedTuple):
    """The run that process 0 trains and the others build for themselves."""

    config: Config
    folder: Path
    resumed: bool
    precision: str


def tell_others(run: Run) -> None:
    resumed = run.epochs_trained > 0
    processes.told(Work(run.config, run.folder.path.absolute(), resumed, run.device.precision))


@contextmanager
def followers(count: int, kind: str) -> Iterator[None]:
    """Within a block, be process 0 of `count` on this machine, on devices of a `kind`; the others are
    started, and end with the block. For a launcher that starts one process for each run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": f"{count}", "LOCAL_WORLD_SIZE": f"{count}"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    path = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "src.train", f"device.kind={kind}"]
    before, others = dict(os.environ), []
    ready, says_ready = os.pipe()
    ends, lives = os.pipe()  # which is closed when this process ends, however that is
    try:
        os.environ.update(shared | {"RANK": "0", "LOCAL_RANK": "0"})
        for rank in range(1, count):
            own = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "PYTHONPATH": path}
            own[FOLLOWS] = f"{says_ready},{ends}"
            pipes = (says_ready, ends)
            others.append(subprocess.Popen(command, env=os.environ | own, pass_fds=pipes))
        wait_until_ready(others, ready)
        yield
        for process in others:
            process.wait()
    finally:
        processes.leave()
        for process in others:
            process.kill()
            process.wait()
        for end in (ready, says_ready, ends, lives):
            os.close(end)
        os.environ.clear()
        os.environ.update(before)


def wait_until_ready(others: list[subprocess.Popen], ready: int) -> None:
    """Wait until all followers are about to connect: torch waits a day for one that ends before. Raises
    UserError for one that does."""
    count = 0
    while count < len(others):
        if select.select([ready], [], [], 1)[0]:
            count += len(os.read(ready, len(others)))
            continue
        for rank, process in enumerate(others, 1):
            if process.poll() is not None:
                raise UserError(f"process {rank} of {len(others) + 1} has ended before it could train")


def ready_to_follow() -> None:
    """Tell the process that started this one, if it did, that this one is about to connect; and end when
    that one ends."""
    if FOLLOWS not in os.environ:
        return
    says_ready, ends = map(int, os.environ.pop(FOLLOWS).split(","))

    def wait() -> None:
        os.read(ends, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    os.write(says_ready, b"1")
    os.close(says_ready)


def follow() -> None:
    """Train what process 0 trains, until it says that nothing is left. Raises UserError if another
    process has ended."""
    logging.disable(logging.ERROR)
    with lost_ones_named():
        try:
            follow_all()
        except NotFinite:  # which process 0 says, and ends
            processes.told()
        except (BrokenImage, OSError) as error:
            raise UserError(str(error)) from None


def follow_all() -> None:
    while work := processes.told():
        folder = RunFolder(work.folder)
        run = build_run(work.config, folder, fetch=not work.resumed, precision=work.precision)
        if work.resumed:
            restore(run, load_checkpoint(folder.path / LAST))
        for _ in epochs_of(run):
            if not processes.told():
                break


def epochs_of(run: Run, on_step: Callable = lambda step, losses: None) -> Iterator[Epoch]:
    """Train the epochs that are left, in all processes at once; after each, process 0 has the whole
    model in `run`."""
    config = run.config
    parts = ClassesInParts(run) if config.device.class_parallel and processes.count() > 1 else None
    step = Step(
        run.data.train,
        run.backbone,
        parts.head if parts else run.head,
        parts.optimizer if parts else run.optimizer,
        parts.schedule if parts else run.schedule,
        run.device,
        augment=run.augmentation if run.augmentation else None,
        average=run.average,
        penalty=penalty_of(config),
        accumulate=config.optimizer.accumulate,
        clip_norm=config.optimizer.clip_norm,
        batch_size=config.batch_size,
    )
    for epoch in fit(
        step,
        epochs=config.epochs,
        after=run.epochs_trained,
        batch_size=config.batch_size,
        generator=run.shuffling,
        order=run.order,
        margin=run.margin,
        on_step=on_step,
    ):
        if parts:
            parts.collect()
        else:
            processes.synchronise(run.head)
        yield epoch


@contextmanager
def lost_ones_named() -> Iterator[None]:
    """Raise UserError for what torch raises where another process has ended."""
    try:
        yield
    except RuntimeError as error:
        lost = processes.lost()
        if not lost:
            raise
        which = " and ".join(lost)
        raise UserError(
            f"{which} of {processes.count()} has ended; started again, with any number of processes, "
            "the run goes on after its last epoch"
        ) from error


class ClassesInParts:
    """The head of a run, with this process's share of the classes, and what trains that. Process 0 keeps
    the whole head and optimizer in the run as well; the others let theirs go."""

    def __init__(self, run: Run):
        own = processes.share(run.head.num_classes)
        self.run, self.head = run, copy.deepcopy(run.head)
        self.head.keep_classes(own.start, own.stop)
        whole, weight = run.optimizer.state_dict(), run.head.weight
        self.optimizer, self.schedule = build_training(run.config, run.backbone, self.head, run.steps)
        self.place = place_of(run.optimizer, weight)
        state = whole["state"].get(self.place, {})
        whole["state"][self.place] = {
            name: value[own].clone() if is_of(value, weight) else value for name, value in state.items()
        }
        load_optimizer(self.optimizer, whole)
        self.schedule.load_state_dict(run.schedule.state_dict())
        if processes.rank():
            run.head, run.optimizer, run.schedule = self.head, self.optimizer, self.schedule

    @torch.no_grad()
    def collect(self) -> None:
        """Let process 0 have the whole head and optimizer in its run."""
        classes = self.head.num_classes
        weight = processes.collected_rows(self.head.weight.detach(), classes)
        part, state = self.head.weight, self.optimizer.state_dict()
        own = state["state"].get(self.place, {})
        own = {
            name: processes.collected_rows(value, classes) if is_of(value, part) else value
            for name, value in own.items()
        }
        if processes.rank():
            return
        run = self.run
        run.head.load_state_dict(self.head.state_dict() | {"weight": weight})
        state["state"][self.place] = own
        load_optimizer(run.optimizer, state)
        run.schedule.load_state_dict(self.schedule.state_dict())


def place_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> int:
    """The number of a parameter in an optimizer's state dict."""
    every = [each for group in optimizer.param_groups for each in group["params"]]
    return next(place for place, each in enumerate(every) if each is parameter)


def is_of(value: object, weight: torch.Tensor) -> bool:
    """Return whether a part of an optimizer's state has a number for each weight."""
    return isinstance(value, torch.Tensor) and value.shape == weight.shape
