"""From sweeps to an answer: `python -m src.compare <sweep folder> …`; also run when a sweep ends."""

import argparse
import os
import sys
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import plots, tracking
from .comparison import Comparison, compare, read_runs
from .comparison.answer import Setting, in_words, number, readable, settings_rows, write_tables
from .comparison.read import evaluation_of
from .comparison.report import write_report
from .errors import UserError
from .evaluation import METRICS, kind_of
from .runs import read_rows

TABLE_ROWS = 20
CURVES, SPHERES = 6, 12  # settings drawn


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
    and print the answer; with `log_to_wandb`, if the runs are there, as a run of their group; with
    `wandb_report` as a W&B Report. Raises UserError if there is nothing to compare."""
    runs, problems = read_runs(folders)
    found = compare(runs, problems, metric or runs[0].config.get("objective", "accuracy"), baseline)
    out = out or folders[0] / "comparison"
    out.mkdir(parents=True, exist_ok=True)
    write_tables(found, out)
    spheres = plots.turned_alike(embeddings(found.settings, problems))
    pictures = {}
    for name, made in figures(found, spheres).items():
        pictures[name] = plots.save(made, out / f"{name}.png")
    report = write_report(found, pictures, spheres, out)
    show(found, report)
    logger = {"project": "angular-penalty", "entity": None, "group": None} | runs[0].config["logger"]
    group = logger["group"] or tracking.sweep_group(folders[0])
    if log_to_wandb:
        header, *rows = settings_rows(found)
        tracking.track_comparison(logger, out, group, header, rows, list(pictures.values()), report)
    if wandb_report:
        keys = list(dict.fromkeys(key for setting in found.settings for key in setting.differs))
        title = f"{found.best.loss} and others: {group}"
        made = tracking.report(logger, group, title, in_words(found), found.metric, keys)
        print(tracking.publish(made, out / "wandb_report.json"))
    return found


def figures(found: Comparison, spheres: list[plots.Sphere]) -> dict:
    """Those figures for which there is something to show, by the names of their files."""
    name, factor = scaled(found.metric)
    settings = found.settings
    made = {}
    if len(settings) > 1:
        triples = [bounds(setting, factor) for setting in settings]
        rivals = [s is found.best or not (s.to_best and s.to_best.separable) for s in settings]
        labels = [setting.label for setting in settings]
        lows, highs = (
            [t[i] if s.test.n > 1 else None for t, s in zip(triples, settings, strict=True)]
            for i in (1, 2)
        )
        made["ranking"] = plots.plot_ranking(labels, [t[0] for t in triples], lows, highs, rivals, name)
    by_loss: dict[str, list[Setting]] = {}
    for setting in settings:
        by_loss.setdefault(setting.loss, []).append(setting)
    lines, flat, heat = {}, {}, {}
    for loss, own in by_loss.items():
        margins = {margin_of(setting) for setting in own}
        scales = {scale_of(setting) for setting in own}
        if None in margins:
            flat[loss] = bounds(own[0], factor)
            continue
        if len(margins) > 1:
            best_at = {}
            for setting in own:  # from the best down: where scales differ too, the best of each margin
                best_at.setdefault(margin_of(setting), (margin_of(setting), *bounds(setting, factor)))
            lines[loss] = np.array(sorted(best_at.values()))
        if len(margins) > 1 and len(scales - {None}) > 1:
            rows, columns = sorted(scales - {None}), sorted(margins)
            grid = np.full((len(rows), len(columns)), np.nan)
            for setting in reversed(own):
                if scale_of(setting) is not None:
                    at = rows.index(scale_of(setting)), columns.index(margin_of(setting))
                    grid[at] = setting.test.mean * factor
            heat[loss] = columns, rows, grid
    if lines:
        made["margins"] = plots.plot_margins(lines, flat, name)
    if heat:
        made["heat"] = plots.plot_heat(heat, name)
    if any(len(values) > 1 for values in found.budgets.values()):
        scaled_budgets = {loss: [v * factor for v in values] for loss, values in found.budgets.items()}
        made["budgets"] = plots.plot_budgets(scaled_budgets, name)
    curves = {setting.label: curve(setting, found.metric) * factor for setting in settings[:CURVES]}
    curves = {label: rows for label, rows in curves.items() if len(rows)}
    if curves:
        split = found.chosen_on.split()[0]
        for rows in curves.values():
            rows[:, 0] /= factor  # epochs are what they were
        made["curves"] = plots.plot_learning(curves, f"{split} {name}")
    if "target_angle_p50" in found.best.runs[0].metrics:
        made["angles"] = plots.plot_angle_ranges(
            [setting.label for setting in settings],
            *(
                np.degrees([angles(setting, which) for setting in settings])
                for which in ("target", "other")
            ),
        )
    if spheres and found.best.runs[0].classes:
        made["spheres"] = plots.plot_gallery(spheres, found.best.runs[0].classes)
    return made


def scaled(metric: str) -> tuple[str, float]:
    """A metric's name with the unit it is drawn in, and the factor to it."""
    name = metric.replace("_", " ")
    return {"angle": (f"{name} (degrees)", 180 / np.pi), "share": (f"{name} (%)", 100.0)}.get(
        kind_of(metric), (name, 1.0)
    )


def bounds(setting: Setting, factor: float) -> tuple[float, float, float]:
    test = setting.test
    low, high = (test.mean if bound is None else bound for bound in (test.low, test.high))
    low = max(low, 0) if factor != 1 else low
    return test.mean * factor, low * factor, (min(high, 1.0) if factor == 100 else high) * factor


def margin_of(setting: Setting) -> float | None:
    """The margin as one number: of several, the second, which `combined` adds to the angle."""
    value = setting.runs[0].config["margin"].get("value")
    if isinstance(value, list):
        value = value[1] if len(value) > 1 else None
    return None if value is None or isinstance(value, str) else float(value)


def scale_of(setting: Setting) -> float | None:
    value = setting.runs[0].config["scale"].get("value")
    return float(value) if isinstance(value, int | float) else None


def curve(setting: Setting, metric: str) -> np.ndarray:
    """Rows (epoch, mean, lowest, highest over the seeds), as far as all seeds have come."""
    values = []
    for run in setting.runs:
        try:
            values.append([float(row[metric]) for row in read_rows(run.folder / "metrics.csv")])
        except (OSError, ValueError, KeyError, TypeError):  # none, or not a run's any more
            return np.empty((0, 4))
    epochs = min(map(len, values))
    if not epochs:
        return np.empty((0, 4))
    table = np.array([row[:epochs] for row in values])
    return np.column_stack([np.arange(1, epochs + 1), table.mean(0), table.min(0), table.max(0)])


def angles(setting: Setting, which: str) -> list[float]:
    """5%, median and 95% of the angles in radians, means over the seeds."""
    keys = [f"{which}_angle_{part}" for part in ("p05", "p50", "p95")]
    return [float(np.mean([run.metrics[key] for run in setting.runs])) for key in keys]


def embeddings(settings: list[Setting], problems: list[str]) -> list[plots.Sphere]:
    """Those of the best settings' first seeds, if in three dimensions and of the best's data."""
    spheres = []
    for setting in settings:
        path = setting.runs[0].folder / "embeddings.npz"
        if len(spheres) == SPHERES or not path.exists():
            continue
        try:
            with np.load(path) as kept:
                parts = [kept[key] for key in ("embeddings", "labels", "prototypes")]
                if evaluation_of(setting.runs[0].config) != "closed_set":
                    # The prototypes are of the classes that were trained on, not of these.
                    parts[2] = plots.class_means(parts[0], parts[1])
                sphere = plots.Sphere(setting.label, *parts)
                if "thumbnails" in kept:
                    sphere = sphere._replace(shown=kept["shown"], thumbnails=kept["thumbnails"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            problems.append(f"{path}: cannot be read, so its sphere is left out")
            continue
        if not (np.isfinite(sphere.points).all() and np.isfinite(sphere.prototypes).all()):
            continue
        alike = not spheres or sphere.prototypes.shape == spheres[0].prototypes.shape
        if sphere.points.shape[1] == 3 and alike and len(sphere.labels):
            spheres.append(sphere)
    return spheres


def show(found: Comparison, report: Path) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    metric = found.metric
    table = Table(title=f"{metric}, in the order of the {found.chosen_on}", title_justify="left")
    for column in (
        "",
        "setting",
        "seeds",
        found.chosen_on.split()[0],
        "test",
        "95% interval",
        "to the best",
    ):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for rank, setting in enumerate(found.settings[:TABLE_ROWS], 1):
        test, gap = setting.test, setting.to_best
        spread = "" if test.low is None else " … ".join(readable(metric, test))
        behind = number(metric, gap.mean, sign=True) if gap else ""
        behind += " *" if gap and gap.separable else ""
        values = (number(metric, setting.chosen.mean), number(metric, test.mean))
        table.add_row(str(rank), escape(setting.label), str(test.n), *values, spread, behind)
    console.print(table)
    more = len(found.settings) - TABLE_ROWS
    if more > 0:
        console.print(f"and {more} more; ", end="")
    console.print("* separable from the first, 95% for all of them together")
    for line in [*in_words(found), *found.problems]:
        console.print(line, markup=False)
    for run in found.failures:
        console.print(f"{run.state}: {run.folder}: {run.error or ''}".splitlines()[0], markup=False)
    console.print(f"-> {os.path.relpath(report)}", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.compare", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps' folders, or single runs'")
    parser.add_argument("--metric", help=f"one of {', '.join(METRICS)}; default: the runs' objective")
    parser.add_argument(
        "--baseline", help="a loss or a setting's label; default: softmax, else normface"
    )
    parser.add_argument("--out", type=Path, help="default: comparison/ in the first folder")
    parser.add_argument("--wandb", action="store_true", help="log it as a run in the sweep's W&B group")
    parser.add_argument("--wandb-report", action="store_true", help="make a W&B Report of it")
    given = parser.parse_args()
    try:
        compare_sweeps(
            *(given.folders, given.metric, given.baseline, given.out),
            log_to_wandb=given.wandb,
            wandb_report=given.wandb_report,
        )
    except (UserError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
