"""What a user can mend, reported in lines without a traceback; and how a command begins and ends."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable

INTERRUPTED = 130  # exit code, as shells have it

interrupted = False  # whether this process was asked to end: libraries may replace a KeyboardInterrupt


class UserError(Exception):
    """Names the key or file that is wrong, what it was and what would be right."""


class Diverged(UserError):
    """Training produced losses, weights, embeddings or metrics that are not finite numbers."""


def in_one_line(error: OSError) -> str:
    """What the machine refused: `/data/run/metrics.csv: No space left on device`."""
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}"


class Pruned(UserError):
    """Somebody asked the run to stop: a search that expects nothing more of it, or a user."""


def begin_command() -> None:
    """What every command does before its imports, which take seconds: Ctrl-C or SIGTERM end it at once,
    and characters that the terminal lacks are replaced. Torch's threads that wait for each other soon
    sleep: where they spin on cores that others want, all of them wait (benchmarks/threads.py)."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"  # read once, when torch loads its OpenMP
    on_interrupt(end_command)
    # An interpreter that ends looks through all objects for cycles, which takes it a second after torch.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")


def on_interrupt(handler: Callable) -> None:
    """What Ctrl-C does, and SIGTERM, as a cluster's notice; not where they are ignored, as of a shell's
    background jobs."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(asked) is not signal.SIG_IGN:
            signal.signal(asked, handler)


def interrupt_once(*_) -> None:
    """Ctrl-C while there is something to put in order: pressing it again must not tear that."""
    global interrupted
    interrupted = True
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)
    sys.unraisablehook = interrupt_again
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
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
