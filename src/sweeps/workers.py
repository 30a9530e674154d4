"""`hydra/launcher=workers`: warm processes on this machine, as many runs at a time as its cores or GPUs
have room for.

A run whose results are on the disk leaves its slot to the next one, even if its process goes on drawing
its pictures or waiting for W&B: every slot has a second process for that.
"""

import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, TimeoutError
from typing import Annotated, Literal

import pebble
import torch
from hydra import version
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from pydantic import Field

from ..config import Config
from ..config.classes import checked_node
from ..config.compose import Composer
from ..errors import Interrupted, UserError
from ..run.build import check_config, check_device
from ..run.folder import Summary
from ..training import available_cores
from ..words import counted
from .console import Board, console
from .forkserver import workers_context
from .plan import Planned, plan
from .processes import LOOK_SECONDS, Slot, Worker, last_words, wait_for_all
from .sharing import (
    MOST_ON_A_GPU,
    Turns,
    kills_for_memory,
    may_work_alone,
    workers_that_fit,
)
from .worker import error_text, execute

# Drawing and waiting are worth a second process, with imports and data of its own, when they have taken
# so many seconds, and such a share of the run's.
RELIEF_SECONDS, RELIEF_SHARE = 1, 0.05
PATIENCE = 3  # seconds of waiting for that before it is said


class WorkersLauncher(Launcher):
    """`workers` auto or a number; `timeout` in seconds for each run or null; `fail_fast` ends the sweep
    with its first failure."""

    def __init__(
        self,
        workers: Literal["auto"] | Annotated[int, Field(ge=1)],
        timeout: Annotated[float, Field(gt=0)] | None,
        fail_fast: bool,
    ):
        self.asked, self.timeout, self.fail_fast = workers, timeout, fail_fast
        self.stopping = False

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        # Again, with the values converted to the types of the signature.
        self.__init__(**checked_node(WorkersLauncher, config.hydra.launcher, "hydra.launcher."))
        self.context, self.task, self.config = hydra_context, task_function, config
        self.threads, environments = shares(self.asked, config.device.kind, config.device.threads)
        workers_context()  # it imports while the sweep is being planned
        # What workers are sent is found by its module's name; without this they would run the main
        # script again to have it in their __main__.
        vars(sys.modules["__main__"])["__spec__"] = None
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.slots = [Slot(environment) for environment in environments]
        self.attempts: dict[Worker, Attempt] = {}  # the last of each
        self.turns, self.free = Turns(), queue.SimpleQueue()
        # On GPUs, one run each tells how much memory it takes before others come beside it.
        self.gpus = gpus_for(config.device.kind) if self.asked == "auto" else 0
        self.waiting = self.slots[self.gpus :] if self.gpus else []
        for slot in self.slots[: self.gpus or None]:
            self.free.put(slot)

    @staticmethod
    def check(config: Config, *which) -> Config:
        """`check_config`, and whether this machine has the device."""
        config = check_config(config, *which)
        check_device(config)
        return config

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        """For a sweeper of Hydra's, which knows no `settle` and no `close`."""
        try:
            with Board(len(job_overrides)) as board:
                runs = plan(Composer(self.context.config_loader, self.config, self.check), job_overrides)
                results = self.launch_runs(runs, board)
            self.settle()
            return results
        except BaseException:
            self.stop()
            self.close()
            raise

    def launch_runs(self, runs: list[Planned], board: Board) -> list[JobReturn]:
        with ThreadPoolExecutor(len(self.slots)) as threads:
            try:
                futures = [threads.submit(self.launch_run, run, board) for run in runs]
                wait_for_all(futures)
                return [future.result() for future in futures]
            except BaseException:
                self.stop()
                threads.shutdown(cancel_futures=True)
                raise

    def launch_run(self, run: Planned, board: Board) -> JobReturn:
        """Run one in the next free slot; to be called from several threads. When this returns, the run
        may still draw or wait for W&B, until `settle` has returned."""
        slot = self.free.get()
        if self.stopping:
            self.free.put(slot)
            return run.failed(Interrupted("the sweep ended first", "not started"))
        board.started()
        attempt = Attempt(self, run, slot, board)
        self.attempts[attempt.worker] = attempt
        attempt.start()
        return attempt.result.result()

    def settle(self) -> None:
        """Wait for what finished runs still do: pictures, and W&B."""
        attempts = [attempt for attempt in list(self.attempts.values()) if attempt.result.done()]
        said = time.monotonic() + PATIENCE
        for attempt in attempts:
            attempt.join(max(0, said - time.monotonic()))
        left = sum(attempt.is_alive() for attempt in attempts)
        if left:
            console.print(f"waiting for the pictures of {counted(left, 'run')}, or for W&B")
        for attempt in attempts:
            while attempt.is_alive():  # as wait_for_all does
                attempt.join(LOOK_SECONDS)

    def ended(self, run: Planned, result: JobReturn, board: Board) -> None:
        """Draw the conclusions from a run's result."""
        summary = run.folder.summary()
        self.use_what_fits(summary)
        failed = result.status == JobStatus.FAILED
        if failed and self.fail_fast and not (summary and summary.state == "pruned"):
            self.stop(finished=False)
        board.ended(run, result)

    def outcome_beside_or_alone(self, run: Planned, worker: Worker, look: Callable) -> JobReturn:
        """How a run ends; `look` is called now and then until it has. A run that may have failed because
        of others beside it is tried again alone; it goes on from its last checkpoint."""
        kills = kills_for_memory()
        with self.turns.shared() as turn:
            result = self.outcome(run, worker, look)
        if result.status != JobStatus.FAILED or self.stopping:
            return result
        error = str(result._return_value)
        if not may_work_alone(error, kills_for_memory() > kills):
            return result
        worker.leave()  # its process may keep memory, or be unable to use the GPU any more
        if not turn.beside:
            return result
        with self.turns.alone():
            return result if self.stopping else self.outcome(run, worker, look)

    def use_what_fits(self, summary: Summary | None) -> None:
        """Free the slots that GPUs have room for, once a run has told what it takes."""
        memory = summary and summary.gpu_memory
        if memory and self.waiting:
            waiting, self.waiting = self.waiting, []
            most = len(self.slots) // self.gpus
            for slot in waiting[: (workers_that_fit(memory, most) - 1) * self.gpus]:
                self.free.put(slot)

    def outcome(self, run: Planned, worker: Worker, look: Callable) -> JobReturn:
        if self.stopping:  # meanwhile
            return run.failed(Interrupted("the sweep ended first", "not started"))
        with open_dict(run.composed):
            run.composed.device.threads = self.threads
            log_to_file_alone(run.composed)
        try:
            job = self.task, self.context, run.composed, "{0.major}.{0.minor}".format(version.getbase())
            objective, error = worker.call(execute, job, self.timeout, look)
            return run.failed(UserError(error)) if error else run.finished(objective)
        except CancelledError:
            error = "the sweep was ended"
            if not run.result_there():
                return run.failed(Interrupted(error))
        except TimeoutError:
            error = f"it took longer than hydra.launcher.timeout={self.timeout} s"
        except pebble.ProcessExpired as death:
            error = last_words(death.exitcode)
        except Exception as unexpected:  # no fault of one run or of ours may end the others
            error = error_text(unexpected)
        result = run.lost(error)
        if result.status != JobStatus.FAILED:
            console.print(
                f"{run.name} is finished, perhaps without all pictures or W&B: {error}", markup=False
            )
        return result

    def stop(self, finished: bool = True) -> None:
        """End running workers as Ctrl-C would end a single run; no other run begins. Unless those that
        are `finished` are meant as well, they go on drawing and waiting for W&B."""
        self.stopping = True
        for worker in self.processes:
            attempt = self.attempts.get(worker)
            if finished or not (attempt and attempt.result.done()):
                worker.interrupt()

    def close(self) -> None:
        for worker in self.processes:
            worker.ended = True
        with ThreadPoolExecutor(len(self.processes)) as threads:  # each may wait for its process
            list(threads.map(Worker.leave, self.processes))
        for attempt in list(self.attempts.values()):
            attempt.join(PATIENCE)

    @property
    def processes(self) -> list[Worker]:
        return [worker for slot in self.slots for worker in slot.workers]


class Attempt(threading.Thread):
    """One run in one slot, from its beginning until its pictures are drawn and W&B has everything.
    `result` is there, and the slot free for another run, as early as possible."""

    def __init__(self, launcher: WorkersLauncher, run: Planned, slot: Slot, board: Board):
        super().__init__(daemon=True)
        self.launcher, self.planned, self.slot, self.board = launcher, run, slot, board
        self.worker = slot.idle.pop()
        self.result: Future[JobReturn] = Future()
        self.relief_due, self.relieved = math.inf, False
        self.stale = run.result_there() is not None  # perhaps of other code; the run itself looks

    def run(self) -> None:
        try:
            self.give(self.launcher.outcome_beside_or_alone(self.planned, self.worker, self.look))
        except BaseException as error:
            if not self.result.done():
                self.result.set_exception(error)
        finally:
            self.slot.idle.append(self.worker)
            if not self.relieved:
                self.launcher.free.put(self.slot)

    def look(self) -> None:
        """Give the result if the run is finished by now; some time later, the slot as well."""
        if not self.result.done() and not self.stale:
            finished = self.planned.result_there()
            if finished:
                seconds = self.planned.folder.read_summary().seconds or 0
                self.relief_due = time.monotonic() + max(RELIEF_SECONDS, RELIEF_SHARE * seconds)
                self.give(finished)
        if time.monotonic() > self.relief_due and not self.relieved and self.slot.idle:
            self.relieved = True
            self.launcher.free.put(self.slot)

    def give(self, result: JobReturn) -> None:
        if not self.result.done():
            self.launcher.ended(self.planned, result, self.board)
            self.result.set_result(result)


def log_to_file_alone(config: DictConfig) -> None:
    """The console shows results only. A run's own lines go to its train.log, once: what a worker prints
    goes there too. Hydra's own choices of job_logging have a file, or none, or no root."""
    logging = config.hydra.job_logging
    if logging and logging.get("root") and "file" in (logging.get("handlers") or ()):
        logging.root.handlers = ["file"]


def gpus_for(device: str) -> int:
    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def shares(asked: str | int, device: str, threads: int | None) -> tuple[int, list[dict[str, str]]]:
    """CPU threads of each worker, and the environment of each. GPUs are dealt out one by one, at most
    MOST_ON_A_GPU workers for each where there are cores for them; without a GPU, `auto` is as many
    workers as have a core, or `threads`, for themselves. The number of runs has no say: results depend
    on the threads, and must not on what else is in the sweep."""
    cores, gpus = available_cores(), gpus_for(device)
    if asked != "auto":
        count = asked
    elif gpus:
        count = gpus * max(1, min(MOST_ON_A_GPU, cores // (gpus * (threads or 1))))
    else:
        count = max(1, cores // (threads or 1))
    environments: list[dict[str, str]] = [{} for _ in range(count)]
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        for i, environment in enumerate(environments):
            environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[i % gpus]
    return threads or max(1, cores // count), environments
