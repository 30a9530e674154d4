"""What the terminal shows of a sweep: results as they come, how far it is, and what failed."""

import os
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn, track
from rich.table import Table

from ..errors import raise_if_interrupted
from ..words import counted
from .plan import Outcome, Planned

# Anything but a terminal (a log file, CI) gets whole lines of any length.
console = Console(highlight=False, soft_wrap=True)


MANY = 20  # runs take a moment to plan


def planning(jobs: list[list[str]]) -> Iterator[list[str]]:
    """The same jobs one by one, while the terminal shows how many of them are planned."""
    shown = f"planning {counted(len(jobs), 'run')}"
    several = jobs
    if len(jobs) >= MANY and console.is_terminal:
        several = track(jobs, shown, console=console, transient=True)
    elif len(jobs) >= MANY:
        console.print(shown)
    for job in several:
        raise_if_interrupted()
        yield job


class Board:
    """A line for every run that ends, and on a terminal one below them that says how far things are."""

    def __init__(self, total: int = 0):
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
        self.total += more

    def started(self) -> None:
        self.running += 1
        self._refresh()

    def ended(self, run: Planned, outcome: Outcome) -> None:
        self.running -= 1
        self.done += 1
        self.failed += outcome.failed
        if outcome.objective is not None:
            said = f"{run.config.objective} {outcome.objective:.4f}"
            said += "  [bold]collapsed[/bold]" * (outcome.state == "collapsed")
        else:
            said = f"[bold]{outcome.state}[/bold]: {escape(first_line(outcome))}"
        summary = run.folder.summary()
        took = f"  {summary.seconds:.1f} s" if summary and summary.seconds is not None else ""
        width = len(str(self.total))
        self._refresh()
        console.print(f"{self.done:>{width}}/{self.total}  {escape(run.name)}  {said}{took}")

    def _refresh(self) -> None:
        to_go = self.total - self.done - self.running
        counts = f"{self.done - self.failed} done, {self.running} running, {self.failed} failed, "
        counts += f"{to_go} waiting"
        self.bar.update(self.task, total=self.total, completed=self.done, counts=counts)


def first_line(outcome: Outcome) -> str:
    return (outcome.error or outcome.state).split("\n")[0]


def count_states(outcomes: list[Outcome], total: int) -> str:
    """`1 of 8 runs failed, 2 interrupted, 5 not started`; `outcomes` are those without a result."""
    counts = Counter(outcome.state for outcome in outcomes if not outcome.failed)
    others = [f"{count} {state}" for state, count in counts.items()]
    failed = sum(outcome.failed for outcome in outcomes)
    return ", ".join([f"{failed} of {counted(total, 'run')} failed", *others])


def show_failures(failures: list[tuple[Planned, Outcome]]) -> None:
    table = Table(title=f"{counted(len(failures), 'run')} without a result", title_justify="left")
    for column in ("run", "state", "why", "log"):
        table.add_column(column, overflow="fold")
    for run, outcome in failures:
        log = os.path.relpath(run.folder.path / "train.log")
        table.add_row(*map(escape, (run.name, outcome.state, first_line(outcome), log)))
    Console(width=None if console.is_terminal else 250).print(table)
