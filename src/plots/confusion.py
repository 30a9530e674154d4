"""Which classes are mistaken for which."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from .style import INK, NAMED_CLASSES, STYLE, new_figure, short_names

MOST_NAMED = 100  # more names do not fit beside the rows
MOST_LISTED = 12  # confusions in words
LETTER = 0.075  # inches, about, in the list
LINE = 0.2  # inches
RIGHT, WRONG = "Blues", "Oranges"


def plot_confusion(confusion: np.ndarray, classes: tuple[str, ...], title: str = "") -> Figure:
    """Counts (C, C), a row for each true class, coloured by their share of the row: what is right in
    blue, what is wrong in orange, which is darkest at the largest such share. Up to 100 classes are
    named, and the largest confusions are listed below."""
    count, few = len(classes), len(classes) <= NAMED_CLASSES
    names = short_names(classes)
    side = 5.6 if few or count > MOST_NAMED else max(6.5, 0.125 * count)
    beside = (0.09 if few else 0.07) * max(map(len, names)) if count <= MOST_NAMED else 0.3
    lines, width = largest_confusions(confusion, names), max(8.0, side + beside + 1)
    columns = 2 if 2 * LETTER * max(map(len, lines), default=0) < width else 1
    below = LINE * (2.5 + -(-len(lines) // columns))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(width, side + beside + 0.9 + below)
        above, under = fig.subfigures(2, 1, height_ratios=[fig.get_figheight() - below, below])
        axes = above.subplots()
        share, most = _draw_shares(axes, confusion)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        if count <= MOST_NAMED:
            _name(axes, names, fontsize=11 if few else 8)
        if few:
            for row, column in np.argwhere(confusion):
                colour = "white" if share[row, column] > 0.55 else INK
                number = str(confusion[row, column])
                axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=9)
        _write(under, lines, columns, below, most)
    return fig


def largest_confusions(confusion: np.ndarray, names: list[str]) -> list[str]:
    """The confusions (C, C) in words, "12 × cat taken for dog, 24%", which is a share of all cats; the
    largest first. At the end stands how many more there are."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=confusion.dtype))
    rows, columns = np.nonzero(wrong)
    order = np.lexsort([columns, rows, -wrong[rows, columns]])
    totals, lines = confusion.sum(1), []
    for row, column in zip(rows[order[:MOST_LISTED]], columns[order[:MOST_LISTED]], strict=True):
        count = wrong[row, column]
        lines.append(f"{count} × {names[row]} taken for {names[column]}, {count / totals[row]:.0%}")
    rest = order[MOST_LISTED:]
    if len(rest):
        largest = wrong[rows[rest[0]], columns[rest[0]]]
        each = "1 sample" if largest == 1 else f"at most {largest} samples"
        lines.append(f"and {len(rest)} more of {each} each")
    return lines


def _draw_shares(axes: Axes, confusion: np.ndarray) -> tuple[np.ndarray, float]:
    """Draw the shares as two images, right and wrong. Returned are the shares (C, C) as they are
    coloured, where 1 is the darkest, and the largest that is wrong."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    right = np.eye(len(confusion), dtype=bool)
    most = share[~right].max(initial=0.0)
    for hidden, colours, darkest in ((~right, RIGHT, 1.0), (right, WRONG, most or 1.0)):
        axes.imshow(np.ma.masked_where(hidden, share), cmap=colours, vmin=0, vmax=darkest)
    return np.where(right, share, share / (most or 1.0)), most


def _name(axes: Axes, names: list[str], fontsize: float) -> None:
    many = len(names) > NAMED_CLASSES
    slanted = {"rotation": 90 if many else 45, "ha": "right", "rotation_mode": "anchor"}
    slanted |= {"va": "center"} if many else {}
    long = many or max(map(len, names)) > 3
    axes.set_xticks(range(len(names)), names, fontsize=fontsize, **(slanted if long else {}))
    axes.set_yticks(range(len(names)), names, fontsize=fontsize)


def _write(fig: SubFigure, lines: list[str], columns: int, height: float, most: float) -> None:
    """The lines below a heading, in a part of the figure of so many inches."""
    heading = "the largest confusions, with their share of the true class"
    colours = f"blue: right; orange: wrong, darkest at {most:.0%} of the true class"
    if not lines:
        heading, colours = "no test sample is taken for another class", ""
    fig.text(0.02, 1, heading, va="top", fontsize=10, fontweight="bold")
    fig.text(0.02, 1 - LINE / height, colours, va="top", fontsize=9)
    rows = -(-len(lines) // columns)
    for i, text in enumerate(lines):
        column, row = divmod(i, rows)
        y = 1 - (row + 2) * LINE / height
        fig.text(0.02 + column / columns, y, text, va="top", fontsize=9)
