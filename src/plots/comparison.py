"""Many runs side by side: metric against margin, rankings, learning curves, spheres turned alike."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .projection import to_dimensions
from .sphere import draw_globe, legend, thin
from .style import COLOURS, INK, MARKERS, STYLE, figure

MOST_LINES = 10  # of one figure; as many as there are colours
MOST_ROWS = 30
MOST_SPHERES = 12


def plot_margins(
    lines: dict[str, np.ndarray], flat: dict[str, tuple[float, float, float]], name: str
) -> Figure:
    """A line a loss through rows (margin, mean, low, high), the intervals as bands; `flat` are losses
    without a margin: (mean, low, high). Margins that multiply the angle, from 1 up, get axes of their
    own. `name` is the metric's, with its unit."""
    lines = dict(list(lines.items())[:MOST_LINES])
    kinds = {"added to the angle or taken from its cosine": [], "a multiple of the angle": []}
    for loss, rows in lines.items():
        kinds["a multiple of the angle" if min(rows[:, 0]) >= 1 else next(iter(kinds))].append(loss)
    kinds = {kind: losses for kind, losses in kinds.items() if losses}
    with matplotlib.rc_context(STYLE):
        made = figure(8, 4.8)
        every = made.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, (kind, losses) in zip(every, kinds.items(), strict=True):
            for loss in losses:
                i = list(lines).index(loss)
                margin, mean, low, high = np.asarray(lines[loss], float).T
                axes.fill_between(margin, low, high, color=COLOURS[i], alpha=0.15, lw=0)
                marker = MARKERS[i % len(MARKERS)]
                axes.plot(margin, mean, marker=marker, color=COLOURS[i], label=loss, ms=6)
            for i, (loss, (mean, low, high)) in enumerate(list(flat.items())[:4]):
                axes.axhspan(low, high, color="#888888", alpha=0.08 + 0.03 * i, lw=0)
                dashes = ("--", ":", "-.", (0, (1, 4)))[i]
                axes.axhline(mean, color="#555555", ls=dashes, label=loss if axes is every[0] else None)
            axes.set(xlabel=f"margin, {kind}")
        every[0].set_ylabel(f"{name}, mean and 95% interval over seeds")
        made.legend(loc="outside lower center", ncols=5)
    return made


def plot_heat(grids: dict[str, tuple[list[float], list[float], np.ndarray]], name: str) -> Figure:
    """A map a loss, with one colour scale: (margins, scales, values (scales, margins) or nan)."""
    grids = dict(list(grids.items())[:6])
    columns = min(3, len(grids))
    rows = -(-len(grids) // columns)
    values = np.concatenate([grid[2].ravel() for grid in grids.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        made = figure(8, 0.8 + 2.9 * rows)
        every = made.subplots(rows, columns, squeeze=False).ravel()
        for axes, (loss, (margins, scales, grid)) in zip(every, grids.items(), strict=False):
            shown = axes.imshow(grid, cmap="viridis", vmin=low, vmax=high, origin="lower", aspect="auto")
            axes.set_xticks(range(len(margins)), [f"{m:g}" for m in margins])
            axes.set_yticks(range(len(scales)), [f"{s:g}" for s in scales])
            axes.set(title=loss, xlabel="margin", ylabel="scale")
            for (row, column), value in np.ndenumerate(grid):
                if np.isfinite(value) and grid.size <= 36:
                    dark = value < (low + high) / 2
                    text = f"{value:.1f}"
                    axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
        for axes in every[len(grids) :]:
            axes.set_visible(False)
        made.colorbar(shown, ax=list(every), label=name)
    return made


def plot_ranking(
    labels: list[str], means: list[float], lows: list, highs: list, rivals: list[bool], name: str
) -> Figure:
    """Settings from the best down, means with 95% intervals (None where a setting has one seed);
    `rivals` are those that are not separable from the best, the best among them."""
    count = min(len(labels), MOST_ROWS)
    with matplotlib.rc_context(STYLE):
        made = figure(8, 1.5 + 0.27 * count)
        axes = made.subplots()
        for i in range(count):
            shade = COLOURS[0] if rivals[i] else "#8a8a8a"
            if lows[i] is not None:
                axes.plot([lows[i], highs[i]], [i, i], color=shade, lw=2.5, solid_capstyle="butt")
            filled = shade if rivals[i] else "white"
            axes.plot(means[i], i, "o", color=shade, mfc=filled, ms=7)
        axes.set_yticks(range(count), labels[:count])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set_xlabel(f"{name} on the test split, mean and 95% interval over seeds")
        axes.set_title("in the order chosen; filled: the first, and what is not separable from it")
        if len(labels) > count:
            more = f"and {len(labels) - count} more in summary.csv"
            axes.annotate(more, (1, 0), xycoords="axes fraction", ha="right", va="bottom", color=INK)
    return made


def plot_learning(curves: dict[str, np.ndarray], name: str) -> Figure:
    """A line a setting through rows (epoch, mean, lowest, highest over seeds)."""
    with matplotlib.rc_context(STYLE):
        made = figure(8, 4.6)
        axes = made.subplots()
        for i, (label, rows) in enumerate(list(curves.items())[:MOST_LINES]):
            epoch, mean, low, high = np.asarray(rows, float).T
            axes.fill_between(epoch, low, high, color=COLOURS[i], alpha=0.12, lw=0)
            every = max(1, len(epoch) // 8)
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(epoch, mean, color=COLOURS[i], label=label, marker=marker, markevery=every, ms=5)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(f"{name} over the epochs; bands are all seeds")
        made.legend(loc="outside lower center", ncols=2, fontsize=9)
    return made


def plot_angle_ranges(labels: list[str], target: np.ndarray, other: np.ndarray) -> Figure:
    """Degrees to the own prototype and to the nearest other, rows (5%, median, 95%) a setting."""
    count = min(len(labels), MOST_ROWS)
    with matplotlib.rc_context(STYLE):
        made = figure(8, 1.7 + 0.3 * count)
        axes = made.subplots()
        for rows, name, shade, marker, lift in (
            (target, "to the own prototype", COLOURS[0], "o", -0.13),
            (other, "to the nearest other prototype", COLOURS[1], "D", 0.13),
        ):
            low, median, high = np.asarray(rows, float)[:count].T
            y = np.arange(count) + lift
            axes.hlines(y, low, high, color=shade, lw=2.5, alpha=0.6)
            axes.plot(median, y, marker, color=shade, ms=6, label=name)
        axes.set_yticks(range(count), labels[:count])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set(xlabel="angle (degrees): 5% to 95% of the test samples, median marked", xlim=(0, None))
        axes.set_title("the less the two overlap the better")
        made.legend(loc="outside lower center", ncols=2)
    return made


class Sphere(NamedTuple):
    """Embeddings of a run in three dimensions: points (N, 3), labels (N,), prototypes (C, 3), and
    `thumbnails` (n, height, width, channels) uint8 of the samples `shown` (n,), where they were kept."""

    label: str
    points: np.ndarray
    labels: np.ndarray
    prototypes: np.ndarray
    shown: np.ndarray | None = None
    thumbnails: np.ndarray | None = None


def turned_alike(spheres: list[Sphere]) -> list[Sphere]:
    """The same with directions instead of embeddings, and all turned (or mirrored: a sphere is as good
    as its mirror image) onto the first's prototypes, as near as they come (Procrustes)."""
    found, first = [], None
    for sphere in spheres:
        points, ends = to_dimensions(sphere.points, sphere.prototypes, 3)
        first = ends if first is None else first
        u, _, vt = np.linalg.svd(ends.T @ first)
        found.append(sphere._replace(points=points @ u @ vt, prototypes=ends @ u @ vt))
    return found


def plot_gallery(spheres: list[Sphere], classes: tuple[str, ...]) -> Figure:
    """Spheres seen from one side, as `turned_alike` leaves them."""
    spheres = spheres[:MOST_SPHERES]
    columns = min(4, len(spheres))
    rows = -(-len(spheres) // columns)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        made = figure(8, 1.1 + 8 / columns * 1.08 * rows)
        every = made.subplots(rows, columns, squeeze=False).ravel()
        for axes, sphere in zip(every, spheres, strict=False):
            points, labels = thin(sphere.points, sphere.labels, 60)
            draw_globe(axes, points, labels, sphere.prototypes, ())
            axes.set_title(sphere.label, fontsize=9, loc="center")
        for axes in every[len(spheres) :]:
            axes.set_visible(False)
        legend(made, np.unique(spheres[0].labels), classes)
    return made


def plot_budgets(expected: dict[str, list[float]], name: str) -> Figure:
    """What the best of 1, 2, … settings of each loss is expected to reach; losses with different numbers
    of settings compare fairly where both have a value."""
    with matplotlib.rc_context(STYLE):
        made = figure(8, 4.4)
        axes = made.subplots()
        for i, (loss, values) in enumerate(list(expected.items())[:MOST_LINES]):
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(range(1, len(values) + 1), values, marker=marker, color=COLOURS[i], label=loss)
        axes.set(xlabel="settings of the loss tried", ylabel=f"expected {name} on the test split")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("equal budgets: one chosen of n settings tried at random")
        made.legend(loc="outside right center")
    return made
