"""From sweeps' folders to the answer: read, ranked, drawn, written and printed."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import plots, tracking
from ..commands import is_command
from ..config.tree import Logger
from ..durable import TEXT, write_text
from ..foreign import own_folder
from .across import Across, by_data_set
from .figures import FIGURES, comparison_figures, read_spheres
from .ranking import Comparison, rank_runs
from .read import RunRecord, read_runs
from .report import write_report
from .tables import loss_rows, ranking_cells, ranking_header, write_tables
from .winner import point_to_winner
from .wording import answer_sentences

TABLE_ROWS = 20


def compare_sweeps(
    folders: list[Path],
    metric: str | None = None,
    baseline: str | None = None,
    out: Path | None = None,
    *,
    detect: float | None = None,
    log_to_wandb: bool = False,
    wandb_report: bool = False,
) -> Comparison | Across:
    """Compare the runs in `folders`, write everything into `out` (default: `comparison` in the first),
    and print the answer. Runs on several data sets are compared on each, in a folder of its name, and
    what holds on all of them is said. With `log_to_wandb` a comparison becomes a run of their W&B group,
    if the runs are there; with `wandb_report` a W&B Report. `detect` is a difference of which the answer
    says how many seeds find it. Raises UserError if there is nothing to compare."""
    runs, unread = read_runs(folders)
    out = out or own_folder(folders[0] / "comparison")
    group = runs[0].config.logger.group or tracking.sweep_group(folders[0])

    def answer(own: list[RunRecord], place: Path) -> Comparison:
        name = metric or own[0].config.objective
        found = compare_runs(rank_runs(own, [*unread], name, baseline, detect), place)
        if log_to_wandb:
            tracking.track_comparison(own[0].config.logger, place, group)
        if wandb_report:
            publish_report(found, own[0].config.logger, group)
        return found

    by_data = by_data_set(runs)
    if len(by_data) == 1:
        return answer(runs, out)
    across = {}
    for name, own in by_data.items():
        print(f"{name}:")
        across[name] = answer(own, out / name)
        print()
    found = Across(across)
    found.write(out)
    console = console_for_tables()
    for line in found.sentences():
        console.print(line, markup=False)
    header, *rows = found.rows()
    console.print(table_of(header, rows, 1))
    return found


def compare_runs(comparison: Comparison, out: Path) -> Comparison:
    """Write a comparison's tables, figures, page and answer into `out`, and print it."""
    out.mkdir(parents=True, exist_ok=True)
    comparison.folder = out
    write_tables(comparison, out)
    point_to_winner(comparison)
    spheres = plots.aligned_spheres(read_spheres(comparison.settings, comparison.problems))
    figures = comparison_figures(comparison, spheres)
    drawn = plots.draw({name: figure.draw for name, figure in figures.items()}, out)
    captions = {out / name: figures[name].caption for name in figures if Path(name).stem in drawn}
    if (out / "report.html").exists():  # of an earlier comparison, whose figures may not be this one's
        for path in {out / f"{name}.png" for name in FIGURES} - set(captions):
            path.unlink(missing_ok=True)
    answer = answer_sentences(comparison)
    page = write_report(comparison, answer, captions, spheres, out)
    write_text(out / "answer.txt", "\n".join(answer) + "\n", **TEXT)
    print_comparison(comparison, answer, page)
    return comparison


def publish_report(comparison: Comparison, logger: Logger, group: str) -> None:
    """Make a W&B Report of a comparison, and print its address."""
    title = f"{comparison.best.loss} and others: {group}"
    answer = answer_sentences(comparison)
    report = tracking.report(logger, group, title, answer, comparison.metric, comparison.keys)
    print(tracking.publish(report, comparison.folder / "wandb_report.json"))


def console_for_tables() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def print_comparison(comparison: Comparison, answer: list[str], page: Path) -> None:
    """The answer first; the tables, what was skipped and what failed below it."""
    console = console_for_tables()
    split = answer.index("")
    for line in answer[: split + 1]:
        console.print(line, markup=False, soft_wrap=is_command(line))
    losses = loss_rows(comparison)
    if losses:
        console.print(table_of(losses[0], losses[1:], 1))
    ranked = [
        ranking_cells(comparison, rank, setting)
        for rank, setting in enumerate(comparison.settings, 1)
        if rank <= TABLE_ROWS or setting in comparison.pixels
    ]
    console.print(table_of(ranking_header(comparison), ranked, 2))
    more = len(comparison.candidates) - TABLE_ROWS
    if more > 0:
        console.print(f"and {more} more in summary.csv")
    for line in [*answer[split + 1 :], *comparison.problems]:
        console.print(line, markup=False, soft_wrap=is_command(line))
    for run in comparison.failures:
        console.print(f"{run.state}: {run.folder}: {run.error or ''}".splitlines()[0], markup=False)
    console.print(f"-> {os.path.relpath(page)}", markup=False)


def table_of(header: list[str], rows: list[list[str]], names: int) -> Table:
    """A table for the terminal; its first `names` columns are text, the others numbers."""
    table = Table()
    for place, column in enumerate(header):
        table.add_column(column, justify="left" if place < names else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
