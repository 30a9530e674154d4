"""What the terminal shows of a sweep: results as they come, how far it is, and what failed."""

import os
import threading

from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..run.folder import read_summary
from .plan import Planned

# Anything but a terminal (a log file, CI) gets whole lines of any length.
console = Console(highlight=False, soft_wrap=True)


class Board:
    """A line for every run that ends, and on a terminal one below them that says how far things are."""

    def __init__(self, total: int = 0):
        self.lock = threading.Lock()  # runs end in several threads
        self.total, self.done, self.failed, self.running = total, 0, 0, 0
        self.bar = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("gone,"),
            TimeRemainingColumn(),
            TextColumn("to go"),
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
            summary = read_summary(run.folder) or {}
            state = summary.get("state", "failed")
            if result.status == JobStatus.COMPLETED:
                said = f"{run.values['objective']} {result.return_value:.4f}"
            else:
                self.failed += state != "pruned"
                why = str(result._return_value)
                said = f"[bold]{state}[/bold]: {escape(why.splitlines()[0] if why else state)}"
            took = f"  {summary['seconds']:.1f} s" if "seconds" in summary else ""
            width = len(str(self.total))
            self._refresh()
            console.print(f"{self.done:>{width}}/{self.total}  {escape(run.name)}  {said}{took}")

    def _refresh(self) -> None:
        to_go = self.total - self.done - self.running
        counts = f"{self.done - self.failed} done, {self.running} running, {self.failed} failed, "
        counts += f"{to_go} waiting"
        self.bar.update(self.task, total=self.total, completed=self.done, counts=counts)


def show_failures(failures: list[tuple[Planned, Exception]]) -> None:
    table = Table(title=f"{len(failures)} runs without a result", title_justify="left")
    for column in ("run", "state", "why", "log"):
        table.add_column(column, overflow="fold")
    for run, error in failures:
        state = (read_summary(run.folder) or {}).get("state", "not run")
        log = os.path.relpath(run.folder / "train.log")
        table.add_row(*(escape(text) for text in (run.name, state, str(error).split("\n")[0], log)))
    Console(width=None if console.is_terminal else 160).print(table)
