"""The figures of a comparison: those for which there is something to show."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ..evaluation import Metric, metric_named
from ..foreign import array_shape, read_arrays
from ..run.folder import RunFolder
from .facts import effects_to_show, widest
from .phrases import INTERVAL
from .ranking import Comparison
from .settings import Setting, by_loss, split_shared
from .statistics import Interval

CURVES, SPHERES = 6, 12  # settings drawn
RATES = 8  # columns of learning rates
ANGLES = {
    which: [f"{which}_angle_{part}" for part in ("p05", "mean", "p95")] for which in ("target", "other")
}
FIGURES = (  # all that there can be, by file name
    *("ranking", "losses", "effects", "margins", "heat"),
    *("rates", "budgets", "curves", "angles", "spheres"),
)


class Captioned(NamedTuple):
    """A figure to be drawn, and the sentence below it in the report."""

    caption: str
    draw: Callable[[], Figure]


def comparison_figures(comparison: Comparison, spheres: list[plots.Sphere]) -> dict[str, Captioned]:
    """Return the figures of a comparison by file name; `spheres` as `plots.aligned_spheres` leaves them.
    A figure that would show the same value everywhere is left out, but for the ranking."""
    metric = metric_named(comparison.metric)
    shared, labels = split_shared([setting.label for setting in comparison.settings])
    figures = {}
    if len(comparison.settings) > 1:
        figures["ranking.png"] = Captioned(
            "Test results, in the order of the validation split; filled: the setting to use, and those "
            "of its loss that are no worse.",
            partial(ranking_figure, comparison, labels, shared),
        )
    which, matters = comparison.facts.which_loss, effects_to_show(comparison.facts)
    if which:
        draw = partial(losses_figure, comparison)
        figures["losses.png"] = Captioned(f"What each loss loses against {which.leader}.", draw)
    if matters:
        figures["effects.png"] = Captioned(
            "What matters: each factor's effect, where all else is equal.",
            partial(effects_figure, comparison),
        )
    figures |= margin_figures(comparison)
    rates = losses_by_rate(comparison)
    if rates:
        edge = losses_at_an_edge(comparison)
        caption = "Losses and learning rates: of each pair the setting that validation chooses."
        if edge:
            caption += (
                " Best at the lowest or the highest rate tried, so that a better one may lie beyond: "
                f"{', '.join(edge)}."
            )
        draw = partial(plots.plot_rates, *rates, axis_label(comparison.metric))
        figures["rates.png"] = Captioned(caption, draw)
    budgets = {
        loss: [drawn_interval(comparison.metric, found) for found in own]
        for loss, own in comparison.budgets.items()
    }
    if any(len(own) > 1 for own in budgets.values()) and vary(
        *([mean for mean, _, _ in own] for own in budgets.values())
    ):
        label = axis_label(comparison.metric)
        bounds = drawn(metric, bounds_of(metric))
        figures["budgets.png"] = Captioned(
            "Equal budgets: the test result to expect of one chosen from n settings of a loss"
            + f", with its {INTERVAL} for other seeds"
            * any(low < high for own in budgets.values() for _, low, high in own)
            + ".",
            partial(plots.plot_budgets, budgets, label, bounds),
        )
    figures |= learning_curves(comparison, labels, shared)
    runs = [run for setting in comparison.settings for run in setting.runs]
    if all(key in run.metrics for run in runs for keys in ANGLES.values() for key in keys):
        angles = (
            np.degrees([angle_range(setting, which) for setting in comparison.settings])
            for which in ANGLES
        )
        figures["angles.png"] = Captioned(
            "Angles to the own prototype and to the nearest other one.",
            partial(plots.plot_angle_ranges, labels, *angles, shared),
        )
    if spheres and comparison.best.runs[0].classes:
        short = dict(zip((s.label for s in comparison.settings), labels, strict=True))
        named = [sphere._replace(label=short.get(sphere.label, sphere.label)) for sphere in spheres]
        figures["spheres.png"] = Captioned(
            "First seeds of the best settings, turned onto each other.",
            partial(plots.plot_gallery, named, comparison.best.runs[0].classes),
        )
    return figures


def bounds_of(metric: Metric) -> tuple[float, float]:
    return metric.lowest, metric.highest


def drawn(metric: Metric, values: Iterable[float]) -> list[float]:
    """Values in the unit that is drawn."""
    return [value * metric.display_factor for value in values]


def axis_label(metric: str) -> str:
    lower = "" if metric_named(metric).higher_is_better else ", lower is better"
    return metric_named(metric).axis_label + lower


def vary(*several: Iterable[float]) -> bool:
    """Whether any two of all the values differ."""
    values = np.concatenate([np.ravel(values) for values in several])
    return bool(np.ptp(values) > 1e-9)


def ranking_figure(comparison: Comparison, labels: list[str], shared: str) -> Figure:
    settings, metric = comparison.settings, metric_named(comparison.metric)
    intervals = [drawn_interval(comparison.metric, setting.test) for setting in settings]
    lows, highs = (
        [d[end] if s.test.low is not None else None for d, s in zip(intervals, settings, strict=True)]
        for end in (1, 2)
    )
    means = [mean for mean, _, _ in intervals]
    to_use = comparison.facts.which_setting
    as_good = {to_use.setting, *to_use.no_worse} if to_use else set()
    return plots.plot_ranking(
        labels,
        means,
        lows,
        highs,
        [s.label in as_good for s in settings],
        f"{axis_label(comparison.metric)} on the test split, mean and {INTERVAL}",
        drawn(metric, bounds_of(metric)),
        shared,
    )


def losses_figure(comparison: Comparison) -> Figure:
    """The leader minus each other loss, with the widest interval that is known."""
    which, metric = comparison.facts.which_loss, metric_named(comparison.metric)
    rows = []
    for gap in which.differences:
        rows.append((gap.loss, gap.estimate, *widest(gap), gap.separable))
    return plots.plot_differences(
        scaled(rows, metric), f"{which.leader} minus the loss, {difference_unit(metric)}"
    )


def effects_figure(comparison: Comparison) -> Figure:
    metric = metric_named(comparison.metric)
    rows = [
        (
            f"{effect.factor}{f' of {effect.loss}' if effect.loss else ''}: {effect.level} rather than "
            f"{effect.other}\n{effect.where}",
            *(effect.estimate, effect.low, effect.high, effect.separable),
        )
        for effect in effects_to_show(comparison.facts)
    ]
    return plots.plot_differences(scaled(rows, metric), f"difference in {difference_unit(metric)}")


def scaled(rows: list[tuple], metric: Metric) -> list[tuple]:
    """Rows of label, estimate, ends and whether it is separable, in the unit that is drawn."""
    factor = metric.display_factor
    return [
        (label, *(None if v is None else v * factor for v in values), separable)
        for label, *values, separable in rows
    ]


def difference_unit(metric: Metric) -> str:
    unit = "points" if metric.unit == "share" else "degrees" if metric.unit == "angle" else ""
    return f"{metric.label}{f' ({unit})' if unit else ''}, {INTERVAL}"


def margin_figures(comparison: Comparison) -> dict[str, Captioned]:
    """The metric against the margin, and over margin and scale, where several were tried."""
    lines, without_margin, grids = {}, {}, {}
    for loss, own in by_loss(comparison.settings).items():
        margins = {margin_of(setting) for setting in own}
        if None in margins:
            without_margin[loss] = drawn_interval(comparison.metric, own[0].test)
            continue
        if len(margins) > 1:
            best_at = {}
            for setting in own:  # from the best down: where scales differ too, the best of each margin
                row = (margin_of(setting), *drawn_interval(comparison.metric, setting.test))
                best_at.setdefault(margin_of(setting), row)
            lines[loss] = np.array(sorted(best_at.values()))
        scales = {setting.value("scale.value") for setting in own} - {None}
        if len(margins) > 1 and len(scales) > 1:
            grids[loss] = margin_scale_grid(comparison.metric, own, sorted(margins), sorted(scales))
    metric, label, figures = metric_named(comparison.metric), axis_label(comparison.metric), {}
    if lines and vary(*(rows[:, 1:] for rows in lines.values()), *without_margin.values()):
        bounds = drawn(metric, bounds_of(metric))
        means = f"{label}, mean and {INTERVAL}"
        draw = partial(plots.plot_margins, lines, without_margin, means, bounds)
        figures["margins.png"] = Captioned("The metric against the margin.", draw)
    if grids and vary(*(grid[np.isfinite(grid)] for _, _, grid in grids.values())):
        draw = partial(plots.plot_heat, grids, label)
        figures["heat.png"] = Captioned("The metric over margin and scale.", draw)
    return figures


def margin_scale_grid(
    metric: str, settings: list[Setting], margins: list[float], scales: list[float]
) -> tuple[list[float], list[float], np.ndarray]:
    """Margins, scales, and the mean at each pair of them (scales, margins), nan where none was tried."""
    grid = np.full((len(scales), len(margins)), np.nan)
    for setting in reversed(settings):  # the best of several stays
        scale = setting.value("scale.value")
        if scale is not None:
            place = scales.index(scale), margins.index(margin_of(setting))
            grid[place] = setting.test.mean * metric_named(metric).display_factor
    return margins, scales, grid


def losses_by_rate(
    comparison: Comparison,
) -> tuple[list[str], list[str], np.ndarray, list[int]] | None:
    """Losses, learning rates, the mean on the test split of each loss's setting that is chosen at each
    rate (L, R), nan where none was tried, and the rate of each loss that is chosen of all; None if only
    one rate was tried. Of a search's many rates, those that are close share a column."""
    trained = [setting for setting in comparison.settings if setting.loss != "pixels"]
    rates = {setting.key: setting.value("optimizer.lr") for setting in trained}
    if len(set(rates.values())) < 2:
        return None
    columns, place = rate_columns(sorted(set(rates.values())))
    losses = list(dict.fromkeys(s.loss for s in comparison.settings if s.key in rates))
    values, chosen = np.full((len(losses), len(columns)), np.nan), [-1] * len(losses)
    factor = metric_named(comparison.metric).display_factor
    for setting in comparison.settings:  # from the best down: the first of each stays
        if setting.key in rates:
            row, column = losses.index(setting.loss), place(rates[setting.key])
            if np.isnan(values[row, column]):
                values[row, column] = setting.test.mean * factor
            chosen[row] = column if chosen[row] < 0 else chosen[row]
    return losses, columns, values, chosen


def rate_columns(rates: list[float]) -> tuple[list[str], Callable[[float], int]]:
    """Labels of the columns for rising rates, and the column of a rate."""
    if len(rates) <= RATES:
        return [f"{rate:g}" for rate in rates], rates.index
    edges = np.geomspace(rates[0], rates[-1], RATES + 1)
    labels = [f"{low:.1g} to\n{high:.1g}" for low, high in pairwise(edges)]
    return labels, lambda rate: int(np.searchsorted(edges[1:-1], rate, side="right"))


def losses_at_an_edge(comparison: Comparison) -> list[str]:
    """The losses that do best at the lowest or the highest of the learning rates that they were tried
    at, so that a better one may lie beyond; those at one rate only are among them."""
    found = losses_by_rate(comparison)
    if found is None:
        return []
    losses, _, values, chosen = found
    tried = [np.flatnonzero(np.isfinite(row)) for row in values]
    return [
        loss
        for loss, columns, column in zip(losses, tried, chosen, strict=True)
        if column in (columns[0], columns[-1])
    ]


def learning_curves(comparison: Comparison, labels: list[str], shared: str) -> dict[str, Captioned]:
    metric = metric_named(comparison.metric)
    factor = metric.display_factor
    curves = {
        label: learning_curve(setting, comparison.metric)
        for label, setting in zip(labels[:CURVES], comparison.settings[:CURVES], strict=True)
    }
    curves = {label: rows * [1, factor, factor, factor] for label, rows in curves.items() if len(rows)}
    if not curves or not vary(*(rows[:, 1:] for rows in curves.values())):
        return {}
    label = f"{comparison.chosen_on.split()[0]} {axis_label(comparison.metric)}"
    bounds = drawn(metric, bounds_of(metric))
    draw = partial(plots.plot_learning, curves, label, bounds, shared)
    return {"curves.png": Captioned("Learning curves of the best settings.", draw)}


def learning_curve(setting: Setting, metric: str) -> np.ndarray:
    """Rows (epoch, mean, lowest, highest over the seeds), as far as all seeds have come."""
    values = []
    for run in setting.runs:
        try:
            values.append([float(row[metric]) for row in RunFolder(run.folder).rows()])
        except (OSError, ValueError, KeyError, TypeError):  # missing, or damaged
            return np.empty((0, 4))
    epochs = min(map(len, values))
    if not epochs:
        return np.empty((0, 4))
    table = np.array([row[:epochs] for row in values])
    return np.column_stack([np.arange(1, epochs + 1), table.mean(0), table.min(0), table.max(0)])


def drawn_interval(metric: str, found: Interval) -> tuple[float, float, float]:
    """Mean, low and high end in the unit that is drawn, cut at the metric's bounds."""
    factor = metric_named(metric).display_factor
    low, high = (found.mean if end is None else end for end in (found.low, found.high))
    low, high = metric_named(metric).clip(low, high)
    return found.mean * factor, low * factor, high * factor


def margin_of(setting: Setting) -> float | None:
    """The margin as one number: of several, the second, which `combined` adds to the angle."""
    value = setting.value("margin.value")
    if isinstance(value, list):
        return value[1] if len(value) > 1 else None
    return value


def angle_range(setting: Setting, which: str) -> list[float]:
    """5%, mean and 95% of the `target` or `other` angles in radians, means over the seeds."""
    return [float(np.mean([run.metrics[key] for run in setting.runs])) for key in ANGLES[which]]


def read_spheres(settings: list[Setting], problems: list[str]) -> list[plots.Sphere]:
    """Embeddings of the best settings' first seeds, if three-dimensional and of the best's data."""
    spheres = []
    for setting in settings:
        path = setting.runs[0].folder / "embeddings.npz"
        if len(spheres) == SPHERES or not path.exists():
            continue
        try:
            if array_shape(path, "embeddings")[1:] != (3,):
                continue
            sphere = read_sphere(setting, path)
        except Exception:  # numpy and zlib raise anything, given a hostile file
            problems.append(f"{path}: cannot be read, so its sphere is left out")
            continue
        if not (np.isfinite(sphere.points).all() and np.isfinite(sphere.prototypes).all()):
            continue
        alike = not spheres or sphere.prototypes.shape == spheres[0].prototypes.shape
        if alike and len(sphere.labels):
            spheres.append(sphere)
    return spheres


def read_sphere(setting: Setting, path) -> plots.Sphere:
    kept = read_arrays(path, "embeddings", "labels", "prototypes", "shown", "thumbnails")
    points, labels = kept["embeddings"], kept["labels"]
    known = len(setting.runs[0].classes)
    whole = labels.shape == points.shape[:1] and labels.dtype.kind in "iu"
    if not whole or not set(labels.tolist()) <= set(range(known)):
        raise ValueError("embeddings, labels and classes do not fit")
    closed = setting.runs[0].config.evaluation.protocol == "closed_set"
    prototypes = kept["prototypes"] if closed else plots.class_means(points, labels)
    sphere = plots.Sphere(setting.label, points, labels, prototypes)
    if "thumbnails" in kept:
        rows, images = kept["shown"], kept["thumbnails"]
        if not ((rows >= 0) & (rows < len(points))).all() or images.shape[0] != len(rows):
            raise ValueError("thumbnails are of other images")
        sphere = sphere._replace(thumbnail_rows=rows, thumbnails=images)
    return sphere
