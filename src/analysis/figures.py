"""The figures of a comparison: those for which there is something to show."""

import csv

import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ..datasets.limits import regular_file
from ..evaluation import METRICS
from ..run.folder import read_rows
from .foreign import array_shape, read_arrays
from .ranking import Comparison, Setting
from .read import evaluation_of

CURVES, SPHERES = 6, 12  # settings drawn
ANGLES = {
    which: [f"{which}_angle_{part}" for part in ("p05", "p50", "p95")] for which in ("target", "other")
}


def comparison_figures(comparison: Comparison, spheres: list[plots.Sphere]) -> dict[str, Figure]:
    """Figures by the names of their files; `spheres` as `plots.aligned_spheres` leaves them."""
    metric = METRICS[comparison.metric]
    figures = {}
    if len(comparison.settings) > 1:
        figures["ranking"] = ranking_figure(comparison)
    figures |= margin_figures(comparison)
    if any(len(values) > 1 for values in comparison.budgets.values()):
        factor = metric.display_factor
        budgets = {loss: [v * factor for v in values] for loss, values in comparison.budgets.items()}
        figures["budgets"] = plots.plot_budgets(budgets, metric.axis_label)
    figures |= learning_curves(comparison)
    runs = [run for setting in comparison.settings for run in setting.runs]
    if all(key in run.metrics for run in runs for keys in ANGLES.values() for key in keys):
        figures["angles"] = plots.plot_angle_ranges(
            [setting.label for setting in comparison.settings],
            *(
                np.degrees([angle_percentiles(setting, which) for setting in comparison.settings])
                for which in ("target", "other")
            ),
        )
    if spheres and comparison.best.runs[0].classes:
        figures["spheres"] = plots.plot_gallery(spheres, comparison.best.runs[0].classes)
    return figures


def ranking_figure(comparison: Comparison) -> Figure:
    settings = comparison.settings
    drawn = [drawn_interval(comparison.metric, setting) for setting in settings]
    lows, highs = (
        [d[end] if s.test.n > 1 else None for d, s in zip(drawn, settings, strict=True)]
        for end in (1, 2)
    )
    return plots.plot_ranking(
        [setting.label for setting in settings],
        [mean for mean, _, _ in drawn],
        lows,
        highs,
        [s is comparison.best or not (s.to_best and s.to_best.separable) for s in settings],
        METRICS[comparison.metric].axis_label,
    )


def margin_figures(comparison: Comparison) -> dict[str, Figure]:
    """The metric against the margin, and over margin and scale, where several were tried."""
    by_loss: dict[str, list[Setting]] = {}
    for setting in comparison.settings:
        by_loss.setdefault(setting.loss, []).append(setting)
    lines, without_margin, grids = {}, {}, {}
    for loss, own in by_loss.items():
        margins = {margin_of(setting) for setting in own}
        if None in margins:
            without_margin[loss] = drawn_interval(comparison.metric, own[0])
            continue
        if len(margins) > 1:
            best_at = {}
            for setting in own:  # from the best down: where scales differ too, the best of each margin
                row = (margin_of(setting), *drawn_interval(comparison.metric, setting))
                best_at.setdefault(margin_of(setting), row)
            lines[loss] = np.array(sorted(best_at.values()))
        scales = {scale_of(setting) for setting in own} - {None}
        if len(margins) > 1 and len(scales) > 1:
            grids[loss] = margin_scale_grid(comparison.metric, own, sorted(margins), sorted(scales))
    label, figures = METRICS[comparison.metric].axis_label, {}
    if lines:
        figures["margins"] = plots.plot_margins(lines, without_margin, label)
    if grids:
        figures["heat"] = plots.plot_heat(grids, label)
    return figures


def margin_scale_grid(
    metric: str, settings: list[Setting], margins: list[float], scales: list[float]
) -> tuple[list[float], list[float], np.ndarray]:
    """Margins, scales, and the mean at each pair of them (scales, margins), nan where none was tried."""
    grid = np.full((len(scales), len(margins)), np.nan)
    for setting in reversed(settings):  # the best of several stays
        if scale_of(setting) is not None:
            place = scales.index(scale_of(setting)), margins.index(margin_of(setting))
            grid[place] = setting.test.mean * METRICS[metric].display_factor
    return margins, scales, grid


def learning_curves(comparison: Comparison) -> dict[str, Figure]:
    factor = METRICS[comparison.metric].display_factor
    curves = {
        setting.label: learning_curve(setting, comparison.metric)
        for setting in comparison.settings[:CURVES]
    }
    curves = {label: rows * [1, factor, factor, factor] for label, rows in curves.items() if len(rows)}
    if not curves:
        return {}
    split = comparison.chosen_on.split()[0]
    return {"curves": plots.plot_learning(curves, f"{split} {METRICS[comparison.metric].axis_label}")}


def learning_curve(setting: Setting, metric: str) -> np.ndarray:
    """Rows (epoch, mean, lowest, highest over the seeds), as far as all seeds have come."""
    values = []
    for run in setting.runs:
        path = run.folder / "metrics.csv"
        try:
            regular_file(path)
            values.append([float(row[metric]) for row in read_rows(path)])
        except (OSError, ValueError, KeyError, TypeError, csv.Error):  # missing, or damaged
            return np.empty((0, 4))
    epochs = min(map(len, values))
    if not epochs:
        return np.empty((0, 4))
    table = np.array([row[:epochs] for row in values])
    return np.column_stack([np.arange(1, epochs + 1), table.mean(0), table.min(0), table.max(0)])


def drawn_interval(metric: str, setting: Setting) -> tuple[float, float, float]:
    """Mean, low and high end in the unit that is drawn, cut at the metric's bounds."""
    test, factor = setting.test, METRICS[metric].display_factor
    low, high = (test.mean if end is None else end for end in (test.low, test.high))
    low, high = METRICS[metric].clip(low, high)
    return test.mean * factor, low * factor, high * factor


def margin_of(setting: Setting) -> float | None:
    """The margin as one number: of several, the second, which `combined` adds to the angle."""
    value = setting.runs[0].config["margin"].get("value")
    if isinstance(value, list):
        value = value[1] if len(value) > 1 else None
    return None if value is None or isinstance(value, str) else float(value)


def scale_of(setting: Setting) -> float | None:
    value = setting.runs[0].config["scale"].get("value")
    return float(value) if isinstance(value, int | float) else None


def angle_percentiles(setting: Setting, which: str) -> list[float]:
    """5%, median and 95% of the `target` or `other` angles in radians, means over the seeds."""
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
    points, labels, prototypes = (kept[key] for key in ("embeddings", "labels", "prototypes"))
    known = len(setting.runs[0].classes) or len(prototypes)
    whole = labels.shape == points.shape[:1] and labels.dtype.kind in "iu"
    if not whole or not set(labels.tolist()) <= set(range(known)):
        raise ValueError("embeddings, labels and classes do not fit")
    if evaluation_of(setting.runs[0].config) != "closed_set":
        # The prototypes are of the classes that were trained on, not of these.
        prototypes = plots.class_means(points, labels)
    sphere = plots.Sphere(setting.label, points, labels, prototypes)
    if "thumbnails" in kept:
        rows, images = kept["shown"], kept["thumbnails"]
        if not ((rows >= 0) & (rows < len(points))).all() or images.shape[0] != len(rows):
            raise ValueError("thumbnails are of other images")
        sphere = sphere._replace(thumbnail_rows=rows, thumbnails=images)
    return sphere
