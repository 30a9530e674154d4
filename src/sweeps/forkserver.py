"""The server that forks a process for each run of a sweep. It starts before the sweep's own slow imports
and does the same ones on another core, so this module imports nothing slow itself."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import tempfile
import threading
from multiprocessing.context import BaseContext

from ..errors import ENDINGS, UserError

MANY_FILES = 4096
# Of a folder for sockets: their paths have at most 103 letters, 32 of them for Python's own names.
MOST_LETTERS = 70
PRELOAD = ["src.train", "src.sweeps.preload"]


def allow_files(count: int) -> int:
    """Let this process, and those that it starts, open `count` files, or as many as the machine allows;
    return how many it may."""
    import resource  # which Windows lacks

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return count if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def workers_context() -> BaseContext:
    """The context to start processes in; the first call starts the server that forks them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    if len(os.fsencode(tempfile.gettempdir())) > MOST_LETTERS:
        why = "too long for the sockets of a sweep's processes; name a shorter one"
        raise UserError(f"TMPDIR={tempfile.gettempdir()}: {why}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C is for the sweep, which ends its runs itself; so is a terminal that is closed.
        ignored = [asked for asked in ENDINGS if asked != signal.SIGTERM]
        handlers = {asked: signal.signal(asked, signal.SIG_IGN) for asked in ignored}
        allow_files(MANY_FILES)
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            for asked, handler in handlers.items():
                signal.signal(asked, handler)
    return context
