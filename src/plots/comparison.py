"""Many runs side by side: metric against margin, rankings, learning curves, aligned spheres."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .projection import to_dimensions
from .sphere import add_legend, draw_globe, thin
from .style import COLOURS, EVERYWHERE, INK, MARKERS, STYLE, fit_axis, new_figure, shortened, wrapped

MOST_LINES = len(COLOURS)
MOST_ROWS = 30
MOST_SPHERES = 12
MOST_TICKS = 10
SPHERE_POINTS_PER_CLASS = 60
ADDED, MULTIPLIED = "added to the angle or taken from its cosine", "a multiple of the angle"
DASHES = ("--", ":", "-.", (0, (1, 4)))


def plot_margins(
    lines: dict[str, np.ndarray],
    without_margin: dict[str, tuple[float, float, float]],
    label: str,
    bounds: tuple[float, float] = EVERYWHERE,
) -> Figure:
    """A line per loss through rows (margin, mean, low, high), with intervals as bands, and a horizontal
    one per loss without a margin, (mean, low, high). Margins that multiply the angle, from 1 up, have
    their own axes. `label` is of the means' axis, `bounds` what the metric can reach."""
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
                name = loss if axes is panels[0] else None
                axes.axhline(mean, color="#555555", ls=DASHES[i], label=name)
            axes.set(xlabel=f"margin, {kind}")
            tried = sorted({margin for loss in losses for margin in np.asarray(lines[loss])[:, 0]})
            if len(tried) <= MOST_TICKS / len(kinds):
                axes.set_xticks(tried, [f"{margin:g}" for margin in tried])
        drawn = [rows[:, 1:].ravel() for rows in lines.values()]
        fit_axis(panels[0], "y", np.concatenate([*drawn, *without_margin.values()]), bounds)
        panels[0].set_ylabel(label)
        fig.legend(loc="outside lower center", ncols=5)
    return fig


def plot_ranking(
    labels: list[str],
    means: list[float],
    lows: list[float | None],
    highs: list[float | None],
    rivals: list[bool],
    label: str,
    bounds: tuple[float, float] = EVERYWHERE,
    shared: str = "",
) -> Figure:
    """Settings from the best down: means with intervals, None for a setting with one seed. `rivals`
    says which settings are to be used, or are no worse. `shared` is what all
    labels would begin with."""
    count = min(len(labels), MOST_ROWS)
    labels = [wrapped(label) for label in labels]
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 1.5 + row_heights(labels[:count]))
        axes = fig.subplots()
        for i in range(count):
            colour = COLOURS[0] if rivals[i] else "#8a8a8a"
            if lows[i] is not None:
                axes.plot([lows[i], highs[i]], [i, i], color=colour, lw=2.5, solid_capstyle="butt")
            axes.plot(means[i], i, "o", color=colour, mfc=colour if rivals[i] else "white", ms=7)
        axes.set_yticks(range(count), labels[:count])
        axes.set_ylim(count - 0.4, -0.6)
        drawn = [value for value in [*means[:count], *lows[:count], *highs[:count]] if value is not None]
        fit_axis(axes, "x", drawn, bounds)
        axes.set_xlabel(label)
        order = "in the order of validation; filled: to use, or no worse"
        fig.suptitle(f"{shared}: {order}" if shared else order, x=0.01, ha="left", fontsize=12)
        if len(labels) > count:
            more = f"and {len(labels) - count} more in summary.csv"
            axes.annotate(more, (1, 0), xycoords="axes fraction", ha="right", va="bottom", color=INK)
    return fig


def plot_differences(
    rows: list[tuple[str, float, float | None, float | None, bool]], label: str
) -> Figure:
    """Differences from the top down: rows (name, estimate, low, high, separable), with a line at 0. What
    is separable from 0 is filled; an estimate without an interval has None for its ends."""
    rows = rows[:MOST_ROWS]
    names = [wrapped(name) if "\n" not in name else name for name, *_ in rows]
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 1.2 + row_heights(names))
        axes = fig.subplots()
        axes.axvline(0, color="#555555", lw=1)
        for i, (_, estimate, low, high, separable) in enumerate(rows):
            colour = COLOURS[0] if separable else "#8a8a8a"
            if low is not None:
                axes.plot([low, high], [i, i], color=colour, lw=2.5, solid_capstyle="butt")
            axes.plot(estimate, i, "o", color=colour, mfc=colour if separable else "white", ms=7)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        fig.suptitle("filled: separable from 0", x=0.01, ha="left", fontsize=12)
    return fig


def row_heights(labels: list[str]) -> float:
    """The inches that rows with these labels need, of one line or several."""
    return max(0.27, 0.19 * max(label.count("\n") + 1 for label in labels)) * len(labels)


def plot_learning(
    curves: dict[str, np.ndarray],
    metric_label: str,
    bounds: tuple[float, float] = EVERYWHERE,
    shared: str = "",
) -> Figure:
    """A line per setting through rows (epoch, mean, lowest, highest over seeds); `shared` is what all
    settings' names would begin with."""
    curves = dict(list(curves.items())[:MOST_LINES])
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.6)
        axes = fig.subplots()
        for i, (label, rows) in enumerate(curves.items()):
            epoch, mean, low, high = np.asarray(rows, float).T
            axes.fill_between(epoch, low, high, color=COLOURS[i], alpha=0.12, lw=0)
            every = max(1, len(epoch) // 8)
            marker = MARKERS[i % len(MARKERS)]
            look = {"marker": marker, "markevery": every, "ms": 5}
            axes.plot(epoch, mean, color=COLOURS[i], label=shortened(label, 90), **look)
        axes.set(xlabel="epoch", ylabel=metric_label)
        fit_axis(axes, "y", np.concatenate([rows[:, 1:].ravel() for rows in curves.values()]), bounds)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(f"{shared}; bands: all seeds" if shared else "bands: all seeds")
        columns = 2 if max(map(len, curves)) < 45 else 1
        fig.legend(loc="outside lower center", ncols=columns, fontsize=9)
    return fig


def plot_angle_ranges(
    labels: list[str], target: np.ndarray, other: np.ndarray, shared: str = ""
) -> Figure:
    """Angles in degrees to the own prototype (target) and to the nearest other one, a row
    (5%, mean, 95%) per setting; `shared` is what all labels would begin with."""
    count = min(len(labels), MOST_ROWS)
    labels = [wrapped(label) for label in labels]
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 1.7 + 1.1 * row_heights(labels[:count]))
        axes = fig.subplots()
        for rows, name, colour, marker, offset in (
            (target, "to the own prototype", COLOURS[0], "o", -0.13),
            (other, "to the nearest other prototype", COLOURS[1], "D", 0.13),
        ):
            low, mean, high = np.asarray(rows, float)[:count].T
            y = np.arange(count) + offset
            axes.hlines(y, low, high, color=colour, lw=2.5, alpha=0.6)
            axes.plot(mean, y, marker, color=colour, ms=6, label=name)
        axes.set_yticks(range(count), labels[:count])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set(xlabel="angle (degrees): mean, and 5% to 95%\nof the test samples", xlim=(0, None))
        better = "the less the two overlap the better"
        fig.suptitle(f"{shared}: {better}" if shared else better, x=0.01, ha="left", fontsize=12)
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
            axes.set_title(wrapped(sphere.label, 26), fontsize=9, loc="center")
        for axes in panels[len(spheres) :]:
            axes.set_visible(False)
        add_legend(fig, np.unique(spheres[0].labels), classes)
    return fig


def plot_budgets(
    expected: dict[str, list[tuple[float, float, float]]],
    metric_label: str,
    bounds: tuple[float, float] = EVERYWHERE,
) -> Figure:
    """A line per loss: the expected value of the best of 1, 2, … settings tried, each with the low and
    the high end of its interval. Losses with different numbers of settings compare fairly at the same
    number."""
    expected = dict(list(expected.items())[:MOST_LINES])
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.4)
        axes = fig.subplots()
        for i, (loss, curve) in enumerate(expected.items()):
            tried, (values, low, high) = range(1, len(curve) + 1), np.transpose(curve)
            axes.fill_between(tried, low, high, color=COLOURS[i], alpha=0.15, linewidth=0)
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(tried, values, marker=marker, color=COLOURS[i], label=loss)
        fit_axis(axes, "y", np.concatenate([np.ravel(curve) for curve in expected.values()]), bounds)
        axes.set_xlabel("settings of the loss tried")
        axes.set_ylabel(f"expected {metric_label} on the test split")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("equal budgets: one chosen of n settings tried at random")
        fig.legend(loc="outside right center")
    return fig
