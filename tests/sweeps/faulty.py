"""`python -m tests.sweeps.faulty …` is `python -m src.train …` with faults planted.

FAULTS="arcface4:diverge cosface7:abort" in the environment says which loss and seed gets which; it
strikes after the first epoch of the run.
"""

import os
import sys
import time
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from src import train

real_task, real_train = train.task, train.train


def diverge(run):
    with torch.no_grad():
        next(run.backbone.parameters()).fill_(float("nan"))


def raise_(run):
    raise ZeroDivisionError("planted: one by zero")


def abort(run):
    os.abort()


def exit_(run):
    os._exit(0)


def hang(run):
    here = Path(run.folder, "hangs")
    here.with_suffix(".tmp").write_text(str(os.getpid()))
    here.with_suffix(".tmp").rename(here)  # who waits for it never reads half of it
    time.sleep(600)


FAULTS = {"diverge": diverge, "raise": raise_, "abort": abort, "exit": exit_, "hang": hang}


def task(composed):
    planted = dict(pair.split(":") for pair in os.environ.get("FAULTS", "").split())
    fault = FAULTS.get(planted.get(f"{composed.loss.name}{composed.seed}"))

    def faulty_train(run, tracker):
        real = train.checkpoint

        def checkpoint(run, epoch):
            real(run, epoch)
            if fault:
                fault(run)

        train.checkpoint = checkpoint
        try:
            return real_train(run, tracker)
        finally:
            train.checkpoint = real

    train.train = faulty_train
    node = os.environ.get("SUBMITIT_EXECUTOR")
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        node = sys.modules["ray"].get_runtime_context().get_node_id()
    if node:
        Path(HydraConfig.get().runtime.output_dir, "node").write_text(node)
    return real_task(composed)


if __name__ == "__main__":
    from tests.sweeps.faulty import task as importable

    train.task = importable
    train.main()
