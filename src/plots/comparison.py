"""Many runs side by side: metric against margin, rankings, learning curves, aligned spheres."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .projection import to_dimensions
from .sphere import add_legend, draw_globe, thin
from .style import COLOURS, INK, MARKERS, STYLE, new_figure

MOST_LINES = len(COLOURS)
MOST_ROWS = 30
MOST_SPHERES = 12
MOST_GRIDS = 6
MOST_GRID_NUMBERS = 36  # cells; numbers in smaller ones cannot be read
SPHERE_POINTS_PER_CLASS = 60
ADDED, MULTIPLIED = "added to the angle or taken from its cosine", "a multiple of the angle"
DASHES = ("--", ":", "-.", (0, (1, 4)))


def plot_margins(
    lines: dict[str, np.ndarray],
    without_margin: dict[str, tuple[float, float, float]],
    metric_label: str,
) -> Figure:
    """A line per loss through rows (margin, mean, low, high), with intervals as bands, and a horizontal
    one per loss without a margin, (mean, low, high). Margins that multiply the angle, from 1 up, have
    their own axes. `metric_label` is the metric's name with its unit."""
    lines = dict(list(lines.items())[:MOST_LINES])
    kinds = {ADDED: [], MULTIPLIED: []}
    for loss, rows in lines.items():
        kinds[MULTIPLIED if min(rows[:, 0]) >= 1 else ADDED].append(loss)
    kinds = {kind: losses for kind, losses in kinds.items() if losses}
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.8)
        panels = fig.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, (kind, losses) in zip(panels, kinds.items(), strict=True):
            for loss in losses:
                i = list(lines).index(loss)
                margin, mean, low, high = np.asarray(lines[loss], float).T
                axes.fill_between(margin, low, high, color=COLOURS[i], alpha=0.15, lw=0)
                marker = MARKERS[i % len(MARKERS)]
                axes.plot(margin, mean, marker=marker, color=COLOURS[i], label=loss, ms=6)
            baselines = list(without_margin.items())[: len(DASHES)]
            for i, (loss, (mean, low, high)) in enumerate(baselines):
                axes.axhspan(low, high, color="#888888", alpha=0.08 + 0.03 * i, lw=0)
                label = loss if axes is panels[0] else None
                axes.axhline(mean, color="#555555", ls=DASHES[i], label=label)
            axes.set(xlabel=f"margin, {kind}")
        panels[0].set_ylabel(f"{metric_label}, mean and 95% interval over seeds")
        fig.legend(loc="outside lower center", ncols=5)
    return fig


def plot_heat(
    grids: dict[str, tuple[list[float], list[float], np.ndarray]], metric_label: str
) -> Figure:
    """A heat map per loss, (margins (M,), scales (S,), values (S, M)), on one colour scale; nan leaves a
    cell empty."""
    grids = dict(list(grids.items())[:MOST_GRIDS])
    columns = min(3, len(grids))
    rows = -(-len(grids) // columns)
    values = np.concatenate([grid[2].ravel() for grid in grids.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(8, 0.8 + 2.9 * rows)
        panels = fig.subplots(rows, columns, squeeze=False).ravel()
        for axes, (loss, (margins, scales, grid)) in zip(panels, grids.items(), strict=False):
            image = axes.imshow(grid, cmap="viridis", vmin=low, vmax=high, origin="lower", aspect="auto")
            axes.set_xticks(range(len(margins)), [f"{m:g}" for m in margins])
            axes.set_yticks(range(len(scales)), [f"{s:g}" for s in scales])
            axes.set(title=loss, xlabel="margin", ylabel="scale")
            for (row, column), value in np.ndenumerate(grid):
                if np.isfinite(value) and grid.size <= MOST_GRID_NUMBERS:
                    colour = "w" if value < (low + high) / 2 else "k"  # on dark and on bright cells
                    axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
        for axes in panels[len(grids) :]:
            axes.set_visible(False)
        fig.colorbar(image, ax=list(panels), label=metric_label)
    return fig


def plot_ranking(
    labels: list[str],
    means: list[float],
    lows: list[float | None],
    highs: list[float | None],
    rivals: list[bool],
    metric_label: str,
) -> Figure:
    """Settings from the best down: means with 95% intervals, None for a setting with one seed. `rivals`
    says which settings are not separable from the best; the best is one of them."""
    count = min(len(labels), MOST_ROWS)
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 1.5 + 0.27 * count)
        axes = fig.subplots()
        for i in range(count):
            colour = COLOURS[0] if rivals[i] else "#8a8a8a"
            if lows[i] is not None:
                axes.plot([lows[i], highs[i]], [i, i], color=colour, lw=2.5, solid_capstyle="butt")
            axes.plot(means[i], i, "o", color=colour, mfc=colour if rivals[i] else "white", ms=7)
        axes.set_yticks(range(count), labels[:count])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set_xlabel(f"{metric_label} on the test split, mean and 95% interval over seeds")
        axes.set_title("in the order chosen; filled: the first, and what is not separable from it")
        if len(labels) > count:
            more = f"and {len(labels) - count} more in summary.csv"
            axes.annotate(more, (1, 0), xycoords="axes fraction", ha="right", va="bottom", color=INK)
    return fig


def plot_learning(curves: dict[str, np.ndarray], metric_label: str) -> Figure:
    """A line per setting through rows (epoch, mean, lowest, highest over seeds)."""
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.6)
        axes = fig.subplots()
        for i, (label, rows) in enumerate(list(curves.items())[:MOST_LINES]):
            epoch, mean, low, high = np.asarray(rows, float).T
            axes.fill_between(epoch, low, high, color=COLOURS[i], alpha=0.12, lw=0)
            every = max(1, len(epoch) // 8)
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(epoch, mean, color=COLOURS[i], label=label, marker=marker, markevery=every, ms=5)
        axes.set(xlabel="epoch", ylabel=metric_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(f"{metric_label} over the epochs; bands are all seeds")
        fig.legend(loc="outside lower center", ncols=2, fontsize=9)
    return fig


def plot_angle_ranges(labels: list[str], target: np.ndarray, other: np.ndarray) -> Figure:
    """Angles in degrees to the own prototype (target) and to the nearest other one, a row
    (5%, median, 95%) per setting."""
    count = min(len(labels), MOST_ROWS)
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 1.7 + 0.3 * count)
        axes = fig.subplots()
        for rows, name, colour, marker, offset in (
            (target, "to the own prototype", COLOURS[0], "o", -0.13),
            (other, "to the nearest other prototype", COLOURS[1], "D", 0.13),
        ):
            low, median, high = np.asarray(rows, float)[:count].T
            y = np.arange(count) + offset
            axes.hlines(y, low, high, color=colour, lw=2.5, alpha=0.6)
            axes.plot(median, y, marker, color=colour, ms=6, label=name)
        axes.set_yticks(range(count), labels[:count])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set(xlabel="angle (degrees): 5% to 95% of the test samples, median marked", xlim=(0, None))
        axes.set_title("the less the two overlap the better")
        fig.legend(loc="outside lower center", ncols=2)
    return fig


class Sphere(NamedTuple):
    """Embeddings of a run in three dimensions: points (N, 3), labels (N,), prototypes (C, 3); and, if
    they were saved, `thumbnails` (n, height, width, channels) uint8 of the samples `thumbnail_rows`
    (n,)."""

    label: str
    points: np.ndarray
    labels: np.ndarray
    prototypes: np.ndarray
    thumbnail_rows: np.ndarray | None = None
    thumbnails: np.ndarray | None = None


def aligned_spheres(spheres: list[Sphere]) -> list[Sphere]:
    """The spheres with all vectors scaled to length 1, each rotated or mirrored so that its prototypes
    come closest to the first one's (orthogonal Procrustes): angles stay as they are."""
    aligned, reference = [], None
    for sphere in spheres:
        points, prototypes = to_dimensions(sphere.points, sphere.prototypes, 3)
        reference = prototypes if reference is None else reference
        u, _, vt = np.linalg.svd(prototypes.T @ reference)
        aligned.append(sphere._replace(points=points @ u @ vt, prototypes=prototypes @ u @ vt))
    return aligned


def plot_gallery(spheres: list[Sphere], classes: tuple[str, ...]) -> Figure:
    """The front of each sphere; `aligned_spheres` makes them comparable."""
    spheres = spheres[:MOST_SPHERES]
    columns = min(4, len(spheres))
    rows = -(-len(spheres) // columns)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(8, 1.1 + 8 / columns * 1.08 * rows)
        panels = fig.subplots(rows, columns, squeeze=False).ravel()
        for axes, sphere in zip(panels, spheres, strict=False):
            points, labels = thin(sphere.points, sphere.labels, SPHERE_POINTS_PER_CLASS)
            draw_globe(axes, points, labels, sphere.prototypes, ())
            axes.set_title(sphere.label, fontsize=9, loc="center")
        for axes in panels[len(spheres) :]:
            axes.set_visible(False)
        add_legend(fig, np.unique(spheres[0].labels), classes)
    return fig


def plot_budgets(expected: dict[str, list[float]], metric_label: str) -> Figure:
    """A line per loss: the expected value of the best of 1, 2, … settings tried. Losses with different
    numbers of settings compare fairly at the same number."""
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.4)
        axes = fig.subplots()
        for i, (loss, values) in enumerate(list(expected.items())[:MOST_LINES]):
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(range(1, len(values) + 1), values, marker=marker, color=COLOURS[i], label=loss)
        axes.set_xlabel("settings of the loss tried")
        axes.set_ylabel(f"expected {metric_label} on the test split")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("equal budgets: one chosen of n settings tried at random")
        fig.legend(loc="outside right center")
    return fig
