"""In a worker process: how it begins, runs one thing after another, and ends."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import version
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ..errors import UserError
from ..training import give_memory_back

TERMINATED = 128 + signal.SIGTERM  # exit code of a worker that was asked to end

running = False  # whether this process, a worker, is in the middle of a run


def begin_worker(environment: dict[str, str]) -> None:
    """In a new worker: its device, and how it ends."""
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, end_run)
    faulthandler.enable()  # a crash writes to stderr, which is the run's log, where it was
    for stream in (sys.stdout, sys.stderr):  # the log's, whatever the terminal's characters are
        stream.reconfigure(encoding="utf-8", line_buffering=True)
    threading.Thread(target=die_with_parent, daemon=True).start()


def end_run(*_) -> None:
    if running:
        raise KeyboardInterrupt  # recorded as such in the run's folder
    os._exit(TERMINATED)


def die_with_parent() -> None:
    """A sweep that is killed takes its workers along: they would train on, in folders that the same
    sweep, started again, wants."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)


def execute(
    task: TaskFunction, context: HydraContext, config: DictConfig, version_base: str
) -> tuple[float | None, str | None]:
    """One run, in a worker: its objective, or why there is none. All it says goes to its log."""
    outcome = execute_logged(task, context, config, version_base)
    give_memory_back()  # now that no traceback holds the run
    return outcome


def execute_logged(
    task: TaskFunction, context: HydraContext, config: DictConfig, version_base: str
) -> tuple[float | None, str | None]:
    global running
    setup_globals()
    version.setbase(version_base)
    with output_to(Path(config.hydra.sweep.dir, config.hydra.sweep.subdir, "train.log")):
        running = True
        try:
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
            return None, error_text(error)
        finally:
            running = False
    if result.status == JobStatus.FAILED:
        return None, error_text(result._return_value)
    return result.return_value, None


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
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
