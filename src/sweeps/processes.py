"""Worker processes as the sweep sees them: a run is given to one, waited for, and its end understood.

A run that takes its process down takes down nothing else: every worker is a Pebble pool of one process,
which Pebble replaces when it dies or when its time is up.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool

import pebble

from .forkserver import workers_context
from .worker import TERMINATED, begin_worker

pebble.CONSTS.term_timeout = 10  # seconds from SIGTERM to SIGKILL: W&B wants some to mark a run's end
LOOK_SECONDS = 0.2  # between looks at how a run is doing
LAST_WORD = 2  # seconds for the result of a process that has ended to arrive
FRESH_WORKERS = 3  # attempts at giving a run a worker that lives until it has the run


def nothing() -> None:
    pass


class Worker:
    """A process that runs one thing at a time, and another process when that one has died."""

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.pool, self.future, self.ended = None, None, False

    def call(
        self, function: Callable, arguments: tuple, timeout: float | None, look: Callable = nothing
    ):
        """What `function(*arguments)` returns in the process; `look` is called now and then meanwhile.
        Raises TimeoutError, pebble.ProcessExpired if the process died, or CancelledError after
        `interrupt`."""
        for _ in range(FRESH_WORKERS):
            self.pool = self.pool or pebble.ProcessPool(
                1, initializer=begin_worker, initargs=(self.environment,), context=workers_context()
            )
            try:
                process = self.schedule(os.getpid).result()
                task = self.schedule(function, arguments)
            except RuntimeError:  # it died while it had nothing to do
                self.pool = None
                continue
            try:
                return wait_for(task, process, timeout, look)
            except (BrokenProcessPool, pebble.ProcessExpired) as death:
                if self.ended:  # from here
                    raise CancelledError from None
                if isinstance(death, pebble.ProcessExpired):
                    raise
                self.pool = None  # it died before it began
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


class Slot:
    """Room for one run at a time, and two processes: one may draw while the next run is in the other."""

    def __init__(self, environment: dict[str, str]):
        self.workers = Worker(environment), Worker(environment)
        self.idle = list(self.workers)


def wait_for(
    future: pebble.ProcessFuture, process: int, timeout: float | None, look: Callable = nothing
):
    """The future's result; `look` is called every LOOK_SECONDS until it is there. Raises TimeoutError
    after `timeout` seconds, and CancelledError if somebody cancels it, both once its process has ended
    and left its folder.

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
        if not lives(process) and not ended(LAST_WORD):
            future.cancel()
            raise pebble.ProcessExpired("ended", code=0, pid=process)
        look()
    if future.cancelled():
        wait_for_end(process)
    return future.result()


def wait_for_all(futures: Iterable[Future]) -> None:
    """Until all are done, or one has raised, which is raised here. Awake now and then: Python acts on a
    signal when the main thread is awake, and one that comes just as it begins to wait, or that another
    thread takes, does not wake it."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


def wait_for_end(process: int) -> None:
    """Pebble ends a process whose task is cancelled; here until it has."""
    deadline = time.monotonic() + pebble.CONSTS.term_timeout + 2 * LAST_WORD
    while lives(process) and time.monotonic() < deadline:
        time.sleep(0.05)


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:  # none, or somebody else's by now
        return False
    return True


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
