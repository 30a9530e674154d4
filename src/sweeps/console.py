"""What the terminal shows of a sweep: results as they come, how far it is, and what failed."""

import os
import threading
from collections import Counter
from collections.abc import Iterable

from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn, track
from rich.table import Table

from ..errors import Interrupted
from ..words import counted
from .plan import Planned

# Anything but a terminal (a log file, CI) gets whole lines of any length.
console = Console(highlight=False, soft_wrap=True)


MANY = 20  # runs take a moment to plan


def planning(jobs: list[list[str]]) -> Iterable[list[str]]:
    """The same jobs one by one, while the terminal shows how many of them are planned."""
    if len(jobs) < MANY:
        return jobs
    if not console.is_terminal:
        console.print(f"planning {counted(len(jobs), 'run')}")
        return jobs
    return track(jobs, f"planning {counted(len(jobs), 'run')}", console=console, transient=True)


class Board:
    """A line for every run that ends, and on a terminal one below them that says how far things are."""

    def __init__(self, total: int = 0):
        self.lock = threading.Lock()  # runs end in several threads
        self.total, self.done, self.failed, self.running = total, 0, 0, 0
        self.bar = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None, counts="")

    def __enter__(self) -> "Board":
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()

    def expect(self, more: int) -> None:
        with self.lock:
            self.total += more

    def started(self) -> None:
        with self.lock:
            self.running += 1
            self._refresh()

    def ended(self, run: Planned, result: JobReturn) -> None:
        with self.lock:
            self.running -= 1
            self.done += 1
            summary = run.folder.summary()
            state = state_of(run, result)
            if result.status == JobStatus.COMPLETED:
                said = f"{run.config.objective} {result.return_value:.4f}"
                said += "  [bold]collapsed[/bold]" * (state == "collapsed")
            else:
                self.failed += state in FAILURES
                why = str(result._return_value)
                said = f"[bold]{state}[/bold]: {escape(why.splitlines()[0] if why else state)}"
            took = f"  {summary.seconds:.1f} s" if summary and summary.seconds is not None else ""
            width = len(str(self.total))
            self._refresh()
            console.print(f"{self.done:>{width}}/{self.total}  {escape(run.name)}  {said}{took}")

    def _refresh(self) -> None:
        to_go = self.total - self.done - self.running
        counts = f"{self.done - self.failed} done, {self.running} running, {self.failed} failed, "
        counts += f"{to_go} waiting"
        self.bar.update(self.task, total=self.total, completed=self.done, counts=counts)


FAILURES = ("failed", "diverged")


def state_of(run: Planned, result: JobReturn) -> str:
    """How a run ended: as its summary says, unless the sweep knows of an end that no summary tells."""
    if isinstance(result._return_value, Interrupted):
        return result._return_value.state
    summary = run.folder.summary()
    return summary.state if summary else "failed"


def count_states(ended: list[tuple[Planned, JobReturn]], total: int) -> str:
    """`1 of 8 runs failed, 2 interrupted, 5 not started`; `ended` are those without a result."""
    counts = Counter(state_of(run, result) for run, result in ended)
    failed = sum(counts.pop(state, 0) for state in FAILURES)
    others = [f"{count} {state}" for state, count in counts.items()]
    return ", ".join([f"{failed} of {counted(total, 'run')} failed", *others])


def show_failures(failures: list[tuple[Planned, JobReturn]]) -> None:
    table = Table(title=f"{counted(len(failures), 'run')} without a result", title_justify="left")
    for column in ("run", "state", "why", "log"):
        table.add_column(column, overflow="fold")
    for run, result in failures:
        why, log = str(result._return_value), os.path.relpath(run.folder.path / "train.log")
        row = run.name, state_of(run, result), why.split("\n")[0], log
        table.add_row(*map(escape, row))
    Console(width=None if console.is_terminal else 250).print(table)
