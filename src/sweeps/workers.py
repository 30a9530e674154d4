"""`hydra/launcher=workers`: a process for each run on this machine, as many at a time as its cores or
GPUs have room for.

Each is forked from a process that has imported torch (forkserver.py). A run that takes its process down
takes down nothing else, and all processes end with the sweep's, however that ends.
"""

import faulthandler
import gc
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Literal

import torch
from hydra import version
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from pydantic import Field

from ..config.classes import checked_node
from ..datasets import share_images
from ..errors import ENDINGS, UserError, interrupts_held, lenient_streams
from ..foreign import own_folder
from ..training import available_cores
from ..words import counted
from .forkserver import allow_files, workers_context
from .loop import Ended, PlannedLauncher
from .plan import Planned

FORKS = 3  # attempts at starting a process
KILL_SECONDS = 10  # from SIGTERM to SIGKILL: W&B wants some to mark a run's end
TERMINATED = 128 + signal.SIGTERM  # exit code of a process that was asked to end
SHARED = ".images"  # in the sweep's folder, while it runs

# Of 16 short runs on one H200: 39.7 s one by one, 18.4 s with four at a time, 17.2 s with eight.
MOST_ON_A_GPU = 8
CONTEXT = 0.7 * 2**30  # bytes that a process has on a GPU besides torch's own
FILLED = 0.85  # of a GPU's memory: settings differ in what they take


@dataclass(eq=False)
class Process:
    """The process of a run, and what is known of it."""

    run: Planned
    process: BaseProcess
    pipe: Connection  # it tells what the run raised, and closes when the process ends, whatever ends it
    gpu: int
    deadline: float
    beside: bool  # whether another run's process lived at any time of it
    kills: int  # processes that the machine had killed for memory before it
    kill_due: float = math.inf
    timed_out: bool = False


class WorkersLauncher(PlannedLauncher):
    """`workers` is how many runs at a time, auto or a number; `timeout` in seconds for each run or
    null."""

    here = True

    def __init__(
        self,
        workers: Literal["auto"] | Annotated[int, Field(ge=1)],
        timeout: Annotated[float, Field(gt=0)] | None,
    ):
        self.asked, self.timeout = workers, timeout

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        # Again, with the values converted to the types of the signature.
        self.__init__(**checked_node(WorkersLauncher, config.hydra.launcher, "hydra.launcher."))
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.most, self.threads = shares(self.asked, config.device.kind, config.device.threads)
        context = workers_context()  # the server imports while the sweep is being planned
        if context.get_start_method() == "forkserver":
            check_files(self.most)
        # What processes are sent is found by its module's name; without this they would run the main
        # script again to have it in their __main__.
        vars(sys.modules["__main__"])["__spec__"] = None
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.gpus = gpus_for(config.device.kind)
        # On GPUs, one run each tells how much memory it takes before others come beside it.
        self.fits_on_gpu = 1 if self.gpus and self.asked == "auto" else None
        self.images = own_folder(Path(config.hydra.sweep.dir).absolute() / SHARED)
        self.processes: list[Process] = []
        self.leaving: list[BaseProcess] = []  # which have said their last word
        self.tried_alone: list[Planned] = []  # again, when nothing else runs any more
        self.given_up: list[Planned] = []  # of those
        self.alone: Process | None = None

    @property
    def slots(self) -> int:
        if self.alone or self.tried_alone:
            return 0
        return self.most if self.fits_on_gpu is None else self.fits_on_gpu * self.gpus

    def start(self, run: Planned) -> None:
        with open_dict(run.composed):
            run.composed.device.threads = self.threads
            log_to_file_alone(run.composed)
        of_gpu = [sum(each.gpu == gpu for each in self.processes) for gpu in range(self.gpus)]
        gpu = of_gpu.index(min(of_gpu)) if of_gpu else 0
        environment = {"CUDA_VISIBLE_DEVICES": visible_gpus()[gpu]} if self.gpus else {}
        job = self.task, self.context, run.composed, "{0.major}.{0.minor}".format(version.getbase())
        process, pipe = forked(environment, self.images, job)
        for other in self.processes:
            other.beside = True
        deadline, beside = time.monotonic() + (self.timeout or math.inf), bool(self.processes)
        self.processes.append(Process(run, process, pipe, gpu, deadline, beside, kills_for_memory()))

    def poll(self, seconds: float) -> list[Ended]:
        now = time.monotonic()
        for one in self.processes:
            if now > one.deadline and one.kill_due == math.inf:
                one.timed_out = True
                self.terminate(one)
            if now > one.kill_due:
                end_process(one.process, signal.SIGKILL)
        ready = wait([one.pipe for one in self.processes], timeout=seconds)
        ended = [self.take(one) for one in list(self.processes) if one.pipe in ready]
        self.learn_what_fits()
        if self.tried_alone and not self.processes:
            with interrupts_held():  # else nobody may know that it has been started
                self.start(self.tried_alone.pop(0))
                self.alone = self.processes[0]
        given_up, self.given_up = self.given_up, []
        return [one for one in ended if one] + [Ended(run) for run in given_up]

    def take(self, one: Process) -> Ended | None:
        """How the run of a process has ended; None if it is to be tried again alone."""
        try:
            error, died = one.pipe.recv(), False
        except (EOFError, OSError):
            error, died = None, True
            one.process.join()
        one.pipe.close()
        self.leaving = [process for process in self.leaving if process.exitcode is None]
        self.leaving.append(one.process)
        self.processes.remove(one)
        was_alone, self.alone = one is self.alone, None if one is self.alone else self.alone
        if died:
            error = last_words(one.process.exitcode)
        if one.timed_out:
            return Ended(one.run, f"it took longer than hydra.launcher.timeout={self.timeout} s", True)
        if one.beside and not was_alone and one.kill_due == math.inf and lacked_memory(one, died):
            self.tried_alone.append(one.run)
            return None
        return Ended(one.run, error, died)

    def learn_what_fits(self) -> None:
        """Fill the GPUs, once a run has told what memory it takes."""
        if self.fits_on_gpu != 1:
            return
        for one in self.processes:
            summary = one.run.folder.summary()
            if summary and summary.gpu_memory:
                self.fits_on_gpu = runs_that_fit(summary.gpu_memory, self.most // self.gpus)

    def kill(self, run: Planned) -> None:
        if run in self.tried_alone:
            self.tried_alone.remove(run)
            self.given_up.append(run)
        for one in self.processes:
            if one.run is run:
                self.terminate(one)

    def terminate(self, one: Process) -> None:
        end_process(one.process, signal.SIGTERM)
        one.kill_due = time.monotonic() + KILL_SECONDS

    def close(self) -> None:
        for process in [*(one.process for one in self.processes), *self.leaving]:
            end_process(process, signal.SIGKILL)
            process.join()
        shutil.rmtree(self.images, ignore_errors=True)


def forked(*arguments) -> tuple[BaseProcess, Connection]:
    """Start a process, and return it with its pipe."""
    for attempt in range(FORKS):
        context = workers_context()  # another server, if somebody killed the last
        pipe, of_child = context.Pipe(duplex=False)
        process = context.Process(target=live, args=(of_child, *arguments))
        try:
            process.start()
        except (EOFError, OSError):  # killed just now
            if attempt + 1 == FORKS:
                raise
        else:
            return process, pipe
        finally:
            of_child.close()


def end_process(process: BaseProcess, how: signal.Signals) -> None:
    """Send a signal to a process, if it still lives. `Process.kill` sends nothing once the server that
    forked the process is gone."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, how)


def lacked_memory(one: Process, died: bool) -> bool:
    """Whether a run may have failed because of those beside it: memory ran out, or a GPU broke, perhaps
    by a neighbour's fault."""
    if died:
        return one.process.exitcode == -signal.SIGKILL and kills_for_memory() > one.kills
    summary = one.run.folder.summary()
    return bool(summary and summary.state == "failed" and summary.cause)


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


def log_to_file_alone(config: DictConfig) -> None:
    """The console shows results only. A run's own lines go to its train.log, once: what its process
    prints goes there too. Hydra's own choices of job_logging have a file, or none, or no root."""
    logging = config.hydra.job_logging
    if logging and logging.get("root") and "file" in (logging.get("handlers") or ()):
        logging.root.handlers = ["file"]


# ------------------------------------------------------------------------------- how many at a time


def check_files(runs: int) -> None:
    """Raise UserError if this process may not open the files that so many runs at a time take: three
    each, and twice as many runs while half of them draw."""
    needed = 16 + 2 * 3 * runs
    allowed = allow_files(needed)
    if allowed < needed:
        at_a_time = f"{counted(runs, 'run')} at a time"
        raise UserError(
            f"ulimit -n {allowed}: too few open files for {at_a_time}, which take {needed}: raise it or "
            "give a smaller hydra.launcher.workers"
        )


def gpus_for(device: str) -> int:
    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else list(map(str, range(torch.cuda.device_count())))


def shares(asked: str | int, device: str, threads: int | None) -> tuple[int, int]:
    """Return how many runs may run at a time, and the CPU threads of each. `auto` is at most
    MOST_ON_A_GPU for each GPU, where there are cores for them, or else a run for each core, or for each
    `threads` cores. The number of runs has no say: results depend on the threads, and must not on what
    else is in the sweep."""
    cores, gpus = available_cores(), gpus_for(device)
    if asked != "auto":
        count = asked
    elif gpus:
        count = gpus * max(1, min(MOST_ON_A_GPU, cores // (gpus * (threads or 1))))
    else:
        count = max(1, cores // (threads or 1))
    return count, threads or max(1, cores // count)


def runs_that_fit(memory: dict[str, int], most: int) -> int:
    """How many runs a GPU has room for, at `most`, after one has told of its `memory`: bytes in all
    (`total`), and of its own at the most (`peak`). Beside each, the process of the last one may still be
    drawing."""
    room = FILLED * memory["total"] / (memory["peak"] + 2 * CONTEXT)
    return max(1, min(most, int(room)))


def kills_for_memory(counters: Path = Path("/proc/vmstat")) -> int:
    """Processes that this machine has killed because its memory ran out; 0 where it does not say."""
    try:
        counts = counters.read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found.group(1)) if found else 0


# ------------------------------------------------------------------------- in the process of a run

running = False  # whether this process is in the middle of a run


def live(pipe: Connection, environment: dict[str, str], images: Path, job: tuple) -> None:
    """The life of a run's process. What the run raised goes through the pipe."""
    gc.freeze()  # a collection would copy what this process shares with the server
    os.environ.update(environment)
    for asked in ENDINGS:  # Ctrl-C is for the sweep, which ends its runs itself, by SIGTERM
        signal.signal(asked, signal.SIG_IGN if asked != signal.SIGTERM else end_run)
    faulthandler.enable()  # a crash writes to stderr, which is the run's log
    lenient_streams()
    for stream in (sys.stdout, sys.stderr):  # the log's, whatever the terminal's characters are
        stream.reconfigure(encoding="utf-8", line_buffering=True)
    threading.Thread(target=die_with_parent, daemon=True).start()
    share_images(images)
    pipe.send(execute(*job))
    os._exit(0)  # whatever threads are left


def end_run(*_) -> None:
    if running:
        raise KeyboardInterrupt  # recorded as such in the run's folder
    os._exit(TERMINATED)


def die_with_parent() -> None:
    """A sweep that is killed takes its processes along: they would train on, in folders that the same
    sweep, started again, wants."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)


def execute(
    task: TaskFunction, context: HydraContext, config: DictConfig, version_base: str
) -> str | None:
    """Train one run; return what it raised. All it says goes to its log."""
    global running
    setup_globals()
    version.setbase(version_base)
    running = True
    try:
        with output_to(Path(config.hydra.sweep.dir, config.hydra.sweep.subdir, "train.log")):
            result = run_job(
                hydra_context=context,
                task_function=task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
    except KeyboardInterrupt:
        os._exit(TERMINATED)
    except BaseException as error:  # sys.exit somewhere; Hydra makes a result of other exceptions
        return error_text(error)
    finally:
        running = False
    return error_text(result._return_value) if result.status == JobStatus.FAILED else None


def error_text(error: BaseException) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Everything that this process prints goes to a file, whatever prints it: Python, C++, a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
