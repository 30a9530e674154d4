"""From sweeps' folders to the answer: read, ranked, drawn, written and printed."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import plots, tracking
from ..durable import TEXT, write_text
from ..foreign import own_folder
from .figures import comparison_figures, read_spheres
from .phrases import SURE, number
from .ranking import Comparison, rank_runs
from .read import read_runs
from .report import write_report
from .tables import ranking_cells, ranking_header, write_tables
from .winner import point_to_winner
from .wording import answer_sentences

TABLE_ROWS = 20


def compare_sweeps(
    folders: list[Path],
    metric: str | None = None,
    baseline: str | None = None,
    out: Path | None = None,
    *,
    log_to_wandb: bool = False,
    wandb_report: bool = False,
) -> Comparison:
    """Compare the runs in `folders`, write everything into `out` (default: `comparison` in the first),
    and print the answer. With `log_to_wandb` it becomes a run of their W&B group, if the runs are there;
    with `wandb_report` a W&B Report. Raises UserError if there is nothing to compare."""
    runs, problems = read_runs(folders)
    comparison = rank_runs(runs, problems, metric or runs[0].config.objective, baseline)
    out = out or own_folder(folders[0] / "comparison")
    out.mkdir(parents=True, exist_ok=True)
    comparison.folder = out
    write_tables(comparison, out)
    point_to_winner(comparison)
    spheres = plots.aligned_spheres(read_spheres(comparison.settings, problems))
    figures = comparison_figures(comparison, spheres)
    drawn = plots.draw({name: figure.draw for name, figure in figures.items()}, out)
    captions = {out / name: figures[name].caption for name in figures if Path(name).stem in drawn}
    if (out / "report.html").exists():
        for path in set(out.glob("*.png")) - set(captions):  # of the comparison before this one
            path.unlink()
    answer = answer_sentences(comparison)
    page = write_report(comparison, answer, captions, spheres, out)
    write_text(out / "answer.txt", "\n".join(answer) + "\n", **TEXT)
    print_comparison(comparison, answer, page)
    logger = runs[0].config.logger
    group = logger.group or tracking.sweep_group(folders[0])
    if log_to_wandb:
        tracking.track_comparison(logger, out, group)
    if wandb_report:
        keys = list(dict.fromkeys(key for setting in comparison.settings for key in setting.differs))
        title = f"{comparison.best.loss} and others: {group}"
        report = tracking.report(logger, group, title, answer, comparison.metric, keys)
        print(tracking.publish(report, out / "wandb_report.json"))
    return comparison


def print_comparison(comparison: Comparison, answer: list[str], page: Path) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    table = Table(
        title=f"{comparison.metric}, in the order of the {comparison.chosen_on}", title_justify="left"
    )
    for column in (*ranking_header(comparison), "to the first"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for rank, setting in enumerate(comparison.settings, 1):
        if rank > TABLE_ROWS and setting not in comparison.baselines:
            continue
        gap = setting.to_best
        behind = number(comparison.metric, gap.mean, signed=True) if gap else ""
        behind += " *" if gap and gap.separable else ""
        table.add_row(*map(escape, ranking_cells(comparison, rank, setting)), behind)
    console.print(table)
    more = len(comparison.candidates) - TABLE_ROWS
    if more > 0:
        console.print(f"and {more} more; ", end="")
    console.print(f"* separable from the first, {SURE} for all of them together")
    for line in [*answer, *comparison.problems]:
        console.print(line, markup=False)
    for run in comparison.failures:
        console.print(f"{run.state}: {run.folder}: {run.error or ''}".splitlines()[0], markup=False)
    console.print(f"-> {os.path.relpath(page)}", markup=False)
