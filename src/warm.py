"""The process that a sweep's workers are forked from, begun before the sweep's own slow imports: it has
the same ones to do, on another core. Imports nothing slow itself."""

import multiprocessing
import multiprocessing.forkserver
from multiprocessing.context import BaseContext

# What a run needs, with what its libraries import late; workers find it all there.
MODULES = ("src.train", "torch._dynamo", "sklearn.datasets", "sklearn.model_selection")


def workers_context() -> BaseContext:
    """Where to start workers; the first call starts the process they come from."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(MODULES))
    multiprocessing.forkserver.ensure_running()
    return context
