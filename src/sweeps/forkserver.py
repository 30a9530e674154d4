"""The server that forks a process for each run of a sweep. It starts before the sweep's own slow imports
and does the same ones on another core, so this module imports nothing slow itself."""

import multiprocessing
import multiprocessing.forkserver
import signal
import threading
from multiprocessing.context import BaseContext

PRELOAD = ["src.train", "src.sweeps.preload"]


def workers_context() -> BaseContext:
    """The context to start processes in; the first call starts the server that forks them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C is for the sweep, which ends its runs itself.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        multiprocessing.forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)
    return context
