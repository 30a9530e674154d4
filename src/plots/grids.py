"""A metric over two things at once: margin and scale, or loss and learning rate."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from .style import INK, STYLE, new_figure, shortened

MOST_GRIDS = 6
MOST_NUMBERS = 36  # cells of a small grid; numbers in smaller cells cannot be read
MOST_ROWS = 30
DARK = 0.5  # luminance below which text is white


def plot_heat(
    grids: dict[str, tuple[list[float], list[float], np.ndarray]], metric_label: str
) -> Figure:
    """A heat map per loss, (margins (M,), scales (S,), values (S, M)), on one colour scale; nan leaves a
    cell empty."""
    grids = dict(list(grids.items())[:MOST_GRIDS])
    columns = min(3, len(grids))
    rows = -(-len(grids) // columns)
    limits = _limits(np.concatenate([grid[2].ravel() for grid in grids.values()]))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(8, 0.8 + 2.9 * rows)
        panels = fig.subplots(rows, columns, squeeze=False).ravel()
        for axes, (loss, (margins, scales, grid)) in zip(panels, grids.items(), strict=False):
            image = _draw(axes, grid, limits, numbers=grid.size <= MOST_NUMBERS, origin="lower")
            axes.set_xticks(range(len(margins)), [f"{m:g}" for m in margins])
            axes.set_yticks(range(len(scales)), [f"{s:g}" for s in scales])
            axes.set(title=shortened(loss, 24), xlabel="margin", ylabel="scale")
        for axes in panels[len(grids) :]:
            axes.set_visible(False)
        fig.colorbar(image, ax=list(panels), label=metric_label)
    return fig


def plot_rates(
    losses: list[str], rates: list[str], values: np.ndarray, chosen: list[int], metric_label: str
) -> Figure:
    """A heat map with a row per loss and a column per learning rate, values (L, R), nan where none was
    tried; a frame marks the column that is `chosen` (L,) for each loss."""
    losses, values = losses[:MOST_ROWS], np.asarray(values, float)[:MOST_ROWS]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(8, 1.7 + 0.36 * len(losses))
        axes = fig.subplots()
        _draw(axes, values, _limits(values), numbers=True)
        for row, column in enumerate(chosen[: len(losses)]):
            place = (column - 0.47, row - 0.45)
            axes.add_patch(Rectangle(place, 0.94, 0.9, fill=False, ec="white", lw=4))
            axes.add_patch(Rectangle(place, 0.94, 0.9, fill=False, ec=INK, lw=2))
        axes.set_xticks(range(len(rates)), rates)
        axes.set_yticks(range(len(losses)), [shortened(loss, 24) for loss in losses])
        axes.set_xlabel("learning rate")
        title = f"{metric_label} on the test split; framed: the rate that is chosen for each loss"
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Of the colours: the least and the greatest value, or some room around the only one."""
    low, high = np.nanmin(values), np.nanmax(values)
    return (low, high) if high > low else (low - 1, high + 1)


def _draw(
    axes: Axes, grid: np.ndarray, limits: tuple[float, float], numbers: bool, origin: str = "upper"
) -> AxesImage:
    """The values (rows, columns) as colours and, with `numbers`, in figures."""
    low, high = limits
    image = axes.imshow(grid, cmap="viridis", vmin=low, vmax=high, origin=origin, aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        if numbers and np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < DARK
            colour = "white" if dark else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
    return image
