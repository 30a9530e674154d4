"""The comparison as tables: of runs, of settings and of losses."""

from pathlib import Path

from ..durable import TEXT, write_csv, write_text
from ..evaluation import metric_named, metrics_among
from .facts import widest
from .phrases import INTERVAL, clipped, difference_text, interval_text, number
from .ranking import Comparison
from .settings import Setting, shown_values
from .statistics import Interval


def write_tables(comparison: Comparison, out: Path) -> None:
    """`results.csv`, a row a run; `summary.csv`, a row a setting; and `facts.json`, the answer."""
    keys = comparison.keys
    of_run = {run.folder: setting for setting in comparison.settings for run in setting.runs}
    had = metrics_among(name for run in comparison.runs for name in run.metrics or ())
    validated = [f"validation_{name}" for name in had]
    fold = ["fold"] * any(run.repeat.fold is not None for run in comparison.runs)
    rows = [["run", "state", "setting", *keys, "seed", *fold, *had, *validated, "seconds", "error"]]
    rows += [
        [str(run.folder), run.state, of_run[run.folder].label if run.folder in of_run else ""]
        + [shown_values(run.config).get(key) for key in keys]
        + list(run.repeat[: 1 + len(fold)])
        + [(values or {}).get(name) for values in (run.metrics, run.validation) for name in had]
        + [run.seconds, run.error]
        for run in comparison.runs
    ]
    write_csv(out / "results.csv", rows)
    write_csv(out / "summary.csv", settings_rows(comparison))
    write_text(out / "facts.json", comparison.facts.to_json() + "\n", **TEXT)


def settings_rows(comparison: Comparison) -> list[list]:
    """A row a setting, from the best down, after a header. `no_worse` tells of the settings of the loss
    to use whether they are as good as the one to use, as far as the runs tell."""
    keys = comparison.keys
    chosen = f"{comparison.chosen_on.split()[0]}_mean"
    header = ["rank", "setting", *keys, "metric", "seeds", "folds", chosen]
    header += [*Interval._fields, "no_worse"]
    rows, to_use = [], comparison.facts.which_setting
    for rank, setting in enumerate(comparison.settings, 1):
        row = [rank if setting not in comparison.pixels else None, setting.label]
        row += [*(setting.differs.get(key) for key in keys), comparison.metric]
        row += [len(setting.seeds), len(setting.folds) or None, setting.chosen, *setting.test]
        known = to_use and setting.label in (to_use.setting, *to_use.no_worse, *to_use.worse)
        rows.append([*row, setting.label not in to_use.worse if known else None])
    return [header, *rows]


def loss_rows(comparison: Comparison) -> list[list[str]]:
    """The losses as people read them, the leader first, after a header; nothing with one loss."""
    which, metric = comparison.facts.which_loss, comparison.metric
    if not which:
        return []
    title = metric_named(metric).label
    rows = [["loss", "settings", "folds" if comparison.facts.folds else "seeds", f"test {title}"]]
    rows[0] += [INTERVAL, f"{which.leader} minus it"]
    gaps = {gap.loss: gap for gap in which.differences}
    for result in which.losses:
        ends = interval_text(metric, result.low, result.high)
        lost = f" ({result.collapsed} of {result.runs} runs collapsed)" * bool(result.collapsed)
        row = [result.loss + lost, f"{result.settings}", f"{result.repeats}"]
        gap = gaps.get(result.loss)
        row += [number(metric, result.mean), ends]
        row += [difference_text(metric, gap.estimate, *widest(gap), gap.separable) if gap else ""]
        rows.append(row)
    return rows


def ranking_header(comparison: Comparison) -> list[str]:
    """The columns of the table of settings, in the terminal and in the report."""
    chosen = f"{comparison.chosen_on.split()[0]} (chosen by)"
    repeats = "folds × seeds" if comparison.best.folds else "seeds"
    lower = "" if comparison.higher_is_better else " (lower is better)"
    return ["", "setting", repeats, chosen, f"test{lower}", INTERVAL]


def ranking_cells(comparison: Comparison, rank: int, setting: Setting) -> list[str]:
    """A setting's row under `ranking_header`."""
    metric, test = comparison.metric, setting.test
    spread = interval_text(metric, *clipped(metric, test))
    means = number(metric, setting.chosen), number(metric, test.mean)
    label = setting.label + f" ({len(setting.collapsed)} collapsed)" * bool(setting.collapsed)
    label += " (to use)" * (setting is comparison.winner)
    folds = f"{len(setting.folds)} × " if setting.folds else ""
    place = str(rank) if setting not in comparison.pixels else ""
    return [place, label, f"{folds}{len(setting.seeds)}", *means, spread]
