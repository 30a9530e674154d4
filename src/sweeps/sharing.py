"""What runs beside each other share: the memory of the machine, and GPUs."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Of 16 short runs on one H200: 39.7 s one by one, 18.4 s with four at a time, 17.2 s with eight.
MOST_ON_A_GPU = 8
CONTEXT = 0.7 * 2**30  # bytes that a process has on a GPU besides torch's own
FILLED = 0.85  # of a GPU's memory: settings differ in what they take
NO_ROOM = re.compile(r"OutOfMemoryError|out of memory|can't allocate memory|MemoryError")
BROKEN_GPU = re.compile(r"CUDA error|cuDNN error|CUBLAS_STATUS")  # perhaps by a neighbour's fault


@dataclass(eq=False)
class Turn:
    """A run's; `beside` says whether others ran at any time of it."""

    beside: bool


class Turns:
    """Runs take turns beside each other, and one alone."""

    def __init__(self):
        self.changed = threading.Condition()
        self.running: set[Turn] = set()
        self.taken = False  # by the one that is alone

    @contextmanager
    def shared(self) -> Iterator[Turn]:
        with self.changed:
            self.changed.wait_for(lambda: not self.taken)
            mine = Turn(bool(self.running))
            for other in self.running:
                other.beside = True
            self.running.add(mine)
        try:
            yield mine
        finally:
            with self.changed:
                self.running.remove(mine)
                self.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.taken)
            self.taken = True  # nothing else begins, and
            self.changed.wait_for(lambda: not self.running)
        try:
            yield
        finally:
            with self.changed:
                self.taken = False
                self.changed.notify_all()


def may_work_alone(error: str, killed_for_memory: bool) -> bool:
    """Whether a run may have failed because of those beside it: by its error, or because the machine
    `killed` processes `for memory` while it ran."""
    killed = killed_for_memory and "SIGKILL" in error
    return bool(killed or NO_ROOM.search(error) or BROKEN_GPU.search(error))


def kills_for_memory(counters: Path = Path("/proc/vmstat")) -> int:
    """Processes that this machine has killed because its memory ran out; 0 where it does not say."""
    try:
        counts = counters.read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found.group(1)) if found else 0


def workers_that_fit(memory: dict[str, int], most: int) -> int:
    """How many runs a GPU has room for, at `most`, after one has told of its `memory`: bytes in all
    (`total`), and of its own at the most (`peak`). Beside each, the process of the last one may still be
    drawing."""
    room = FILLED * memory["total"] / (memory["peak"] + 2 * CONTEXT)
    return max(1, min(most, int(room)))
