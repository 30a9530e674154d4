"""The comparison as tables: `results.csv`, a row a run, and `summary.csv`, a row a setting."""

from pathlib import Path

from ..durable import write_csv
from ..evaluation import METRICS
from .phrases import INTERVAL, interval_ends, number
from .ranking import Comparison, Setting, shown_values
from .statistics import Difference, Interval


def write_tables(comparison: Comparison, out: Path) -> None:
    """`results.csv`, a row a run, and `summary.csv`, a row a setting."""
    keys = list(dict.fromkeys(key for setting in comparison.settings for key in setting.differs))
    of_run = {run.folder: setting for setting in comparison.settings for run in setting.runs}
    had = [name for name in METRICS if any(name in (run.metrics or {}) for run in comparison.runs)]
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


def settings_rows(comparison: Comparison) -> list[list]:
    """A row a setting, from the best down, after a header."""
    keys = list(dict.fromkeys(key for setting in comparison.settings for key in setting.differs))
    chosen = f"{comparison.chosen_on.split()[0]}_mean"
    header = ["rank", "setting", *keys, "metric", "seeds", "folds", chosen, *Interval._fields]
    header += [f"{which}_{name}" for which in ("to_baseline", "to_best") for name in Difference._fields]
    rows = []
    for rank, setting in enumerate(comparison.settings, 1):
        row = [rank if ranked(comparison, setting) else None, setting.label]
        row += [*(setting.differs.get(key) for key in keys), comparison.metric]
        row += [len(setting.seeds), len(setting.folds) or None, setting.chosen.mean, *setting.test]
        for difference in (setting.to_baseline, setting.to_best):
            row += list(difference) if difference else [None] * len(Difference._fields)
        rows.append(row)
    return [header, *rows]


def ranking_header(comparison: Comparison) -> list[str]:
    """The columns of the table that people read, in the terminal and in the report."""
    chosen = f"{comparison.chosen_on.split()[0]} (chosen by)"
    repeats = "folds × seeds" if comparison.best.folds else "seeds"
    return ["", "setting", repeats, chosen, "test", INTERVAL]


def ranked(comparison: Comparison, setting: Setting) -> bool:
    """Whether a setting has a rank: baselines have none, and nobody has where the metric cannot tell."""
    return comparison.undecided is None and setting not in comparison.baselines


def ranking_cells(comparison: Comparison, rank: int, setting: Setting) -> list[str]:
    """A setting's row under `ranking_header`."""
    metric, test = comparison.metric, setting.test
    spread = "" if test.low is None else " … ".join(interval_ends(metric, test))
    means = number(metric, setting.chosen.mean), number(metric, test.mean)
    label = setting.label + f" ({len(setting.collapsed)} collapsed)" * bool(setting.collapsed)
    label += " (baseline)" * (setting in comparison.baselines)
    folds = f"{len(setting.folds)} × " if setting.folds else ""
    place = str(rank) if ranked(comparison, setting) else ""
    return [place, label, f"{folds}{len(setting.seeds)}", *means, spread]
