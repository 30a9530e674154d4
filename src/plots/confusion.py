"""The figure of which classes are mistaken for which."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from .style import INK, NAMED_CLASSES, STYLE, new_figure, short_names

MOST_NAMED = 100  # more names do not fit beside the rows
PICKED = 40  # classes that are drawn of more than those
MOST_LISTED = 12  # confusions in words
LETTER = 0.075  # inches, about, in the list
LINE = 0.2  # inches
RIGHT, WRONG = "Blues", "Oranges"


class Confusions(NamedTuple):
    """Counts of wrong predictions, the largest first, for the pairs of classes that occur: `samples`
    (P,) of the class `true` (P,) are taken for the class `taken` (P,). And of each class, how many
    samples are `right` (C,), of how many in `total` (C,)."""

    true: np.ndarray
    taken: np.ndarray
    samples: np.ndarray
    right: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> "Confusions":
        """Count labels and predictions (N,) in [0, C), without a matrix of C × C."""
        wrong = labels != predicted
        pairs, samples = np.unique(labels[wrong] * classes + predicted[wrong], return_counts=True)
        order = np.argsort(-samples, kind="stable")
        true, taken = np.divmod(pairs[order], classes)
        right, total = (np.bincount(of, minlength=classes) for of in (labels[~wrong], labels))
        return cls(true, taken, samples[order], right, total)

    def matrix(self, shown: np.ndarray) -> np.ndarray:
        """Return the counts (K, K) among some classes (K,), a row for each true class."""
        place = np.full(len(self.total), -1)
        place[shown] = np.arange(len(shown))
        row, column = place[self.true], place[self.taken]
        inside = (row >= 0) & (column >= 0)
        counts = np.diag(self.right[shown])
        counts[row[inside], column[inside]] = self.samples[inside]
        return counts


def plot_confusion(
    labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...], title: str = ""
) -> Figure:
    """Draw labels and predictions (N,) as a matrix of counts, a row for each true class.

    Colours show the share of the true class: what is right in blue, what is wrong in orange, darkest at
    the largest such share. The largest confusions are listed below. Of more than 100 classes, only 40
    are drawn: those in the largest confusions."""
    confusions = Confusions.of(labels, predicted, len(classes))
    shown = np.arange(len(classes))
    if len(classes) > MOST_NAMED:
        shown = most_confused(confusions, PICKED)
        title += f"\n{PICKED} of {len(classes):,} classes"
        title += ": those in the largest confusions" if len(confusions.samples) else ""
    counts, totals = confusions.matrix(shown), confusions.total[shown]
    count, few = len(shown), len(shown) <= NAMED_CLASSES
    names = short_names([classes[label] for label in shown])
    side = 5.6 if few else max(6.5, 0.125 * count)
    beside = (0.09 if few else 0.07) * max(map(len, names))
    named = dict(zip(shown.tolist(), names, strict=True))
    lines, width = largest_confusions(confusions, named), max(8.0, side + beside + 1)
    columns = 2 if 2 * LETTER * max(map(len, lines), default=0) < width else 1
    below = LINE * (2.5 + -(-len(lines) // columns))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(width, side + beside + 0.9 + below)
        above, under = fig.subfigures(2, 1, height_ratios=[fig.get_figheight() - below, below])
        axes = above.subplots()
        share, most = _draw_shares(axes, counts, totals)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        _name(axes, names, fontsize=11 if few else 8)
        if few:
            for row, column in np.argwhere(counts):
                colour = "white" if share[row, column] > 0.55 else INK
                number = str(counts[row, column])
                axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=9)
        _write(under, lines, columns, below, most)
    return fig


def most_confused(confusions: Confusions, most: int) -> np.ndarray:
    """Return `most` classes (K,): those in the largest confusions, side by side, then the first."""
    pairs = np.stack([confusions.true[:most], confusions.taken[:most]], 1).ravel().tolist()
    return np.array(list(dict.fromkeys([*pairs, *range(len(confusions.total))[:most]]))[:most])


def largest_confusions(confusions: Confusions, names: Mapping[int, str]) -> list[str]:
    """Return the largest confusions in words, "12 × cat taken for dog, 24%", a share of all cats, and
    how many more there are. `names` has the names of the classes in them, by label."""
    lines = []
    for true, taken, count in zip(*(part[:MOST_LISTED] for part in confusions[:3]), strict=True):
        share = count / confusions.total[true]
        lines.append(f"{count} × {names[true]} taken for {names[taken]}, {share:.0%}")
    rest = confusions.samples[MOST_LISTED:]
    if len(rest):
        each = "1 sample" if rest[0] == 1 else f"at most {rest[0]} samples"
        lines.append(f"and {len(rest):,} more of {each} each")
    return lines


def _draw_shares(axes: Axes, counts: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, float]:
    """Draw counts (K, K) as shares of their rows' totals (K,), in two images, right and wrong. Return
    the shares (K, K) as they are coloured, where 1 is the darkest, and the largest that is wrong."""
    share = counts / np.maximum(totals[:, None], 1)
    right = np.eye(len(counts), dtype=bool)
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
