"""Record how a run ends, whatever ends it."""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from .. import durable
from ..errors import Diverged, Pruned, UserError, in_one_line, os_errors_in_one_line
from .folder import RunFolder
from .summary import Summary

log = logging.getLogger(__name__)

# The state a run ended in, by what ended it; anything else is a failure.
STATES = {Diverged: "diverged", Pruned: "pruned"} | dict.fromkeys(
    (KeyboardInterrupt, SystemExit),
    "interrupted",  # by somebody, or by a cluster that queues it again
)


@contextmanager
def recorded(folder: RunFolder, summary: Summary) -> Iterator[None]:
    """Write `summary` to summary.json when the block ends, with the state it ended in (finished unless
    the block says collapsed; by an exception failed, diverged, pruned or interrupted), why, and the
    seconds it took. Exceptions go on. An OSError, of which a full disk is the commonest, becomes a
    UserError."""
    began = time.perf_counter()
    summary.state = "finished"
    try:
        with os_errors_in_one_line():
            yield
    except BaseException as error:
        summary.state = STATES.get(type(error), "failed")
        summary.error = str(error) or type(error).__name__
        summary.cause = cause_of(error)
        expected = isinstance(error, UserError | KeyboardInterrupt)
        # To the log file alone: the console gets what main makes of it.
        log.debug(f"{summary.state}: {summary.error}" if expected else traceback.format_exc())
        try:
            _finish(folder, summary, began)
        except OSError as another:  # the first error says more
            log.error(f"that could not be recorded: {in_one_line(another)}")
        raise
    with os_errors_in_one_line():
        _finish(folder, summary, began)


def cause_of(error: BaseException) -> Literal["memory", "gpu"] | None:
    """Return "memory" if the machine or a GPU ran out of it, "gpu" if a GPU failed."""
    import torch  # it takes a second, which a refusal should not

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, torch.AcceleratorError):
        return "gpu"
    # Torch has no exception of its own for a CPU without memory, nor for cuDNN and cuBLAS.
    said = str(error) if type(error) is RuntimeError else ""
    if "DefaultCPUAllocator" in said:
        return "memory"
    return "gpu" if said.startswith(("cuDNN error", "CUDA error")) else None


def _finish(folder: RunFolder, summary: Summary, began: float) -> None:
    summary.seconds = round(time.perf_counter() - began, 2)
    if (folder.path / "train.log").exists():
        durable.sync(folder.path / "train.log")
    folder.write_summary(summary)
