"""The process that a sweep's workers are forked from, begun before the sweep's own slow imports: it has
the same ones to do, on another core. Imports nothing slow itself."""

import multiprocessing
import multiprocessing.forkserver
import signal
import threading
from multiprocessing.context import BaseContext

# What a run needs, with what its libraries import late; workers find it all there.
MODULES = ("src.train", "torch._dynamo", "sklearn.datasets", "sklearn.model_selection")


def workers_context() -> BaseContext:
    """Where to start workers; the first call starts the process they come from."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(MODULES))
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C is for the sweep, which ends its workers itself: what they come from does not hear it.
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
        multiprocessing.forkserver.ensure_running()
        signal.signal(signal.SIGINT, heard)
    return context
