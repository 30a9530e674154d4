"""`hydra/launcher=workers`: warm processes on this machine, as many as its cores or GPUs have room for.

A run that takes its process down takes down nothing else: every worker is a Pebble pool of one process,
which Pebble replaces when it dies or when its time is up.
"""

import math
import os
import queue
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool

import pebble
import torch
from hydra import version
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ..errors import Interrupted, UserError
from ..run.build import check_device
from ..run.folder import read_summary
from ..run.schema import check_config
from ..training import available_cores
from .compose import Composer
from .console import Board
from .forkserver import workers_context
from .plan import Planned, plan
from .sharing import (
    MOST_ON_A_GPU,
    Turns,
    kills_for_memory,
    may_work_alone,
    workers_that_fit,
)
from .worker import TERMINATED, begin_worker, error_text, execute

pebble.CONSTS.term_timeout = 10  # seconds from SIGTERM to SIGKILL: W&B wants some to mark a run's end
LOOK_SECONDS = 2  # between looks at whether a worker still lives
FRESH_WORKERS = 3  # attempts at giving a run a worker that lives until it has the run


class WorkersLauncher(Launcher):
    """`workers` auto or a number; `timeout` in seconds for each run or null; `fail_fast` ends the sweep
    with its first failure."""

    def __init__(self, workers: str | int, timeout: float | None, fail_fast: bool):
        self.asked, self.timeout, self.fail_fast = workers, timeout, fail_fast
        self.stopping = False

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        asked, timeout = self.asked, self.timeout
        if asked != "auto" and not (type(asked) is int and asked >= 1):
            raise UserError(f"hydra.launcher.workers={asked}: auto or a whole number from 1")
        if timeout is not None and not (type(timeout) in (int, float) and timeout > 0):
            raise UserError(f"hydra.launcher.timeout={timeout}: seconds above 0, or null for no limit")
        if type(self.fail_fast) is not bool:
            raise UserError(f"hydra.launcher.fail_fast={self.fail_fast}: true or false")
        self.context, self.task, self.config = hydra_context, task_function, config
        self.threads, environments = shares(self.asked, config.device.name, config.device.threads)
        workers_context()  # it imports while the sweep is being planned
        # What workers are sent is found by its module's name; without this they would run the main
        # script again to have it in their __main__.
        vars(sys.modules["__main__"])["__spec__"] = None
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.workers = [Worker(environment) for environment in environments]
        self.turns, self.free = Turns(), queue.SimpleQueue()
        # On GPUs, one run each tells how much memory it takes before others come beside it.
        self.gpus = gpus_for(config.device.name) if self.asked == "auto" else 0
        self.waiting = self.workers[self.gpus :] if self.gpus else []
        for worker in self.workers[: self.gpus or None]:
            self.free.put(worker)

    @staticmethod
    def check(values: dict) -> None:
        """Raise UserError for a run that cannot be trained on this machine."""
        check_config(values)
        check_device(values["device"])

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        with Board(len(job_overrides)) as board:
            runs = plan(Composer(self.context, self.config, self.check), job_overrides)
            return self.launch_runs(runs, board)

    def launch_runs(self, runs: list[Planned], board: Board) -> list[JobReturn]:
        with ThreadPoolExecutor(len(self.workers)) as threads:
            try:
                futures = [threads.submit(self.launch_run, run, board) for run in runs]
                return [future.result() for future in futures]
            except BaseException:
                self.stop()
                threads.shutdown(cancel_futures=True)
                raise

    def launch_run(self, run: Planned, board: Board) -> JobReturn:
        """Run one on the next free worker; to be called from several threads."""
        worker = self.free.get()
        try:
            if self.stopping:
                return run.failed(Interrupted("the sweep ended first", "not started"))
            board.started()
            result = self.outcome_beside_or_alone(run, worker)
            self.use_what_fits(read_summary(run.folder) or {})
            failed = result.status == JobStatus.FAILED
            if failed and self.fail_fast and (read_summary(run.folder) or {}).get("state") != "pruned":
                self.stop()
            board.ended(run, result)
            return result
        finally:
            self.free.put(worker)

    def outcome_beside_or_alone(self, run: Planned, worker: "Worker") -> JobReturn:
        """A run that may have failed because of others beside it is tried again alone; it goes on from
        its last checkpoint."""
        kills = kills_for_memory()
        with self.turns.shared() as turn:
            result = self.outcome(run, worker)
        if result.status != JobStatus.FAILED or self.stopping:
            return result
        error = str(result._return_value)
        if not may_work_alone(error, kills_for_memory() > kills):
            return result
        worker.leave()  # its process may keep memory, or be unable to use the GPU any more
        if not turn.beside:
            return result
        with self.turns.alone():
            return result if self.stopping else self.outcome(run, worker)

    def use_what_fits(self, summary: dict) -> None:
        """Free the workers that GPUs have room for, once a run has told what it takes."""
        memory = summary.get("gpu_memory")
        if memory and self.waiting:
            waiting, self.waiting = self.waiting, []
            most = len(self.workers) // self.gpus
            for worker in waiting[: (workers_that_fit(memory, most) - 1) * self.gpus]:
                self.free.put(worker)

    def outcome(self, run: Planned, worker: "Worker") -> JobReturn:
        with open_dict(run.config):
            run.config.device.threads = self.threads
            log_to_file_alone(run.config)
        try:
            job = self.task, self.context, run.config, "{0.major}.{0.minor}".format(version.getbase())
            objective, error = worker.call(execute, job, self.timeout)
            return run.failed(UserError(error)) if error else run.finished(objective)
        except CancelledError:
            return run.failed(Interrupted("the sweep was ended"))
        except TimeoutError:
            error = f"took longer than hydra.launcher.timeout={self.timeout} s"
        except pebble.ProcessExpired as death:
            error = last_words(death.exitcode)
        except Exception as unexpected:  # no fault of one run or of ours may end the others
            error = error_text(unexpected)
        return run.lost(error)

    def stop(self) -> None:
        """End running workers as Ctrl-C would a single run; runs not started yet never are."""
        self.stopping = True
        for worker in self.workers:
            worker.interrupt()

    def close(self) -> None:
        pools = [worker.pool for worker in self.workers if worker.pool]
        for pool in pools:
            pool.stop()
        for pool in pools:
            pool.join()


class Worker:
    """A process that runs one thing at a time, and another process when that one has died."""

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.pool, self.future, self.ended = None, None, False

    def call(self, function: Callable, arguments: tuple, timeout: float | None):
        """What `function(*arguments)` returns in the process. Raises TimeoutError, pebble.ProcessExpired
        if the process died, or CancelledError after `interrupt`."""
        for _ in range(FRESH_WORKERS):
            self.pool = self.pool or pebble.ProcessPool(
                1, initializer=begin_worker, initargs=(self.environment,), context=workers_context()
            )
            try:
                process = self.schedule(os.getpid).result()
                return wait_for(self.schedule(function, arguments), process, timeout)
            except (BrokenProcessPool, RuntimeError):  # it died while it had nothing to do
                self.pool = None
        raise pebble.ProcessExpired("no worker process lives long enough to be given a run", code=1)

    def schedule(self, function: Callable, arguments: tuple = ()) -> pebble.ProcessFuture:
        self.future = self.pool.schedule(function, arguments)
        if self.ended:  # meanwhile
            self.future.cancel()
        return self.future

    def leave(self) -> None:
        """End the process; the next call has another."""
        if self.pool:
            self.pool.stop()
            self.pool.join()
            self.pool = None

    def interrupt(self) -> None:
        self.ended = True
        if self.future:
            self.future.cancel()


def wait_for(future: pebble.ProcessFuture, process: int, timeout: float | None = None):
    """The future's result. Raises TimeoutError after `timeout` seconds, and CancelledError if somebody
    cancels it, both once its process has ended and left its folder.

    Pebble's own timeout goes by the time of day, which may jump; and it waits forever for a process that
    ended with exit code 0.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout

    def ended(seconds: float) -> bool:
        return bool(wait([future], timeout=seconds).done) or future.cancelled()

    while not ended(max(0, min(LOOK_SECONDS, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            future.cancel()
            wait_for_end(process)
            raise TimeoutError
        if not lives(process) and not ended(LOOK_SECONDS):
            future.cancel()
            raise pebble.ProcessExpired("ended", code=0, pid=process)
    if future.cancelled():
        wait_for_end(process)
    return future.result()


def wait_for_end(process: int) -> None:
    """Pebble ends a process whose task is cancelled; here until it has."""
    deadline = time.monotonic() + pebble.CONSTS.term_timeout + 2 * LOOK_SECONDS
    while lives(process) and time.monotonic() < deadline:
        time.sleep(0.05)


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:  # none, or somebody else's by now
        return False
    return True


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


def last_words(exit_code: int) -> str:
    """What is known of a process that ended without a word."""
    if exit_code == TERMINATED:
        return "its process was ended (SIGTERM), from outside"
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}, from within"
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL":
        return "its process was killed (SIGKILL): by hand, or because memory ran out"
    return f"its process crashed ({name}); the log says where"
