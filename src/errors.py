"""What a user can mend, reported in lines without a traceback; and how a command begins and ends."""

import atexit
import gc
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # exit code, as shells have it
# Windows has no SIGHUP.
ENDINGS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

interrupted = False  # whether this process was asked to end: libraries may replace a KeyboardInterrupt


class UserError(Exception):
    """Names the key or file that is wrong, what it was and what would be right."""

    def __reduce__(self):  # subclasses take other arguments than Exception does
        return again, (type(self), self.args, vars(self))


def again(kind: type[UserError], args: tuple, state: dict) -> UserError:
    """Return the error that another process raised."""
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class Diverged(UserError):
    """Training produced losses, weights, embeddings or metrics that are not finite numbers."""


def in_one_line(error: OSError) -> str:
    """What the machine refused: `/data/run/metrics.csv: No space left on device`."""
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}"


@contextmanager
def os_errors_in_one_line() -> Iterator[None]:
    """An OSError of the block is the machine's fault or the user's, and becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(in_one_line(error)) from error


@contextmanager
def user_errors_in_one_line() -> Iterator[None]:
    """Within a block, end the process with one line about what the user can mend."""
    try:
        yield
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(in_one_line(error))
    except MemoryError as error:
        sys.exit(f"not enough memory: {error}")


class Pruned(UserError):
    """Somebody asked the run to stop: a search that expects nothing more of it, or a user."""


def begin_command() -> None:
    """What every command does before its imports, which take seconds: Ctrl-C or SIGTERM end it at once,
    and output that cannot be written ends nothing. Torch's threads that wait for each other soon
    sleep: where they spin on cores that others want, all of them wait (benchmarks/threads.py)."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"  # read once, when torch loads its OpenMP
    on_interrupt(end_command)
    # An interpreter that ends looks through all objects for cycles, which takes it a second after torch.
    atexit.register(gc.freeze)
    lenient_streams()


class Lenient(io.FileIO):
    """A file that writing to never fails. A full disk, a terminal or a pipe that has ended costs what is
    said there, never the work: runs and sweeps have their logs."""

    def write(self, content: bytes) -> int:
        with suppress(OSError):
            return super().write(content) or self.later(content)
        return len(content)

    def later(self, content: bytes) -> int:
        """Write once a terminal that does not block has room again; give up after a second."""
        select.select([], [self], [], 1)
        return super().write(content) or len(content)


def lenient_streams() -> None:
    """Let standard output and error take whatever is written there, also where they are closed; what a
    notebook has put in their place stays."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file is taken for one of them
        os.set_inheritable(free, True)
    os.close(free)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None and type(stream) is not io.TextIOWrapper:
            continue
        buffered = io.BufferedWriter(Lenient(number, "wb", closefd=False))
        encoding = stream.encoding if stream else "utf-8"
        at_once = number == 2 or os.isatty(number) or (stream is not None and stream.write_through)
        setattr(sys, name, io.TextIOWrapper(buffered, encoding, "replace", line_buffering=at_once))


def on_interrupt(handler: Callable) -> None:
    """What Ctrl-C does, SIGTERM, as a cluster's notice, and SIGHUP, as of a terminal that is closed; not
    where they are ignored, as of a shell's background jobs."""
    for asked in ENDINGS:
        if signal.getsignal(asked) is not signal.SIG_IGN:
            signal.signal(asked, handler)


def interrupt_once(*_) -> None:
    """Ctrl-C while there is something to put in order: pressing it again must not tear that."""
    global interrupted
    interrupted = True
    for asked in ENDINGS:
        signal.signal(asked, signal.SIG_IGN)
    sys.unraisablehook = interrupt_again
    raise KeyboardInterrupt


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C, SIGTERM and SIGHUP until a block has ended: what it begins is whole by then, and
    known to those who end it. They are not blocked: programs that it starts would never hear them."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears them
        yield
        return
    noted: list[int] = []
    heard = [asked for asked in ENDINGS if signal.getsignal(asked) is not signal.SIG_IGN]
    handlers = {asked: signal.signal(asked, lambda number, _: noted.append(number)) for asked in heard}
    try:
        yield
    finally:
        for asked, handler in handlers.items():
            signal.signal(asked, handler)
        if noted:
            signal.raise_signal(noted[0])


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt of an earlier Ctrl-C that a library has caught and dropped: loops that
    go on for long ask again."""
    if interrupted:
        raise KeyboardInterrupt


def interrupt_again(lost: object) -> None:
    """Python drops exceptions from what it calls when objects end, as imports have it do, and would drop
    the one interrupt there is: it comes again a moment later, outside of that."""
    if lost.exc_type is not KeyboardInterrupt:
        return sys.__unraisablehook__(lost)
    signal.signal(signal.SIGALRM, interrupt_once)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def end_command(*_) -> None:
    """Not as an exception: libraries that are being imported catch those."""
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
