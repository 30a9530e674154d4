"""Classes that were never trained on: pairs told apart, and what is found nearest."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .style import COLOURS, FAINT, INK, STYLE, figure, shortened

MOST_POINTS = 2000  # of a curve


def plot_pairs(cosines: np.ndarray, same: np.ndarray, title: str = "") -> Figure:
    """Angles between the two embeddings of a pair, from cosines (P,), where they are of one class,
    `same` (P,), and where not; each kind's shares add up to one. The less they overlap the better."""
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    with matplotlib.rc_context(STYLE):
        made = figure(8, 4.2)
        axes = made.subplots()
        bins = np.linspace(0, max(10.0, angles.max()), 91)
        for kind, name, colour, hatch in (
            (same, "same class", COLOURS[0], ""),
            (~same, "different classes", COLOURS[1], "//"),
        ):
            label = f"{name}, {kind.sum():,} pairs, median {np.median(angles[kind]):.1f}°"
            weights = np.full(kind.sum(), 1 / kind.sum())
            axes.hist(
                angles[kind], bins, weights=weights, color=colour, alpha=0.65, label=label, hatch=hatch,
                ec="white", lw=0.3,
            )  # fmt: skip
        axes.set(xlabel="angle between two embeddings (degrees)", ylabel="share of such pairs")
        axes.set(xlim=(0, bins[-1]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(title)
        axes.legend(loc="upper right")
    return made


def plot_roc(far: np.ndarray, tar: np.ndarray, eer: float, fewest: float, title: str = "") -> Figure:
    """True over false accept rate (K,), false ones on a logarithmic axis down to `fewest`, a pair's
    share."""
    thin = np.unique(np.linspace(0, len(far) - 1, 50 * MOST_POINTS).astype(int))
    kept = thin[
        np.unique(
            np.searchsorted(far[thin], np.geomspace(fewest, 1, MOST_POINTS)).clip(max=len(thin) - 1)
        )
    ]
    with matplotlib.rc_context(STYLE):
        made = figure(8, 4.6)
        axes = made.subplots()
        axes.step(far[kept], tar[kept], where="post", color=COLOURS[0], lw=2)
        chance = np.geomspace(fewest, 1, 100)
        axes.plot(chance, chance, color=FAINT, lw=1, ls="--", label="chance")
        axes.plot(eer, 1 - eer, "o", color=COLOURS[1], mec=INK, label=f"equal errors, {eer:.2%}")
        axes.set(xscale="log", xlim=(fewest, 1), ylim=(0, 1.02))
        axes.set(xlabel="false accept rate", ylabel="true accept rate")
        axes.set_title(title)
        axes.legend(loc="lower right")
    return made


def plot_neighbours(
    queries: np.ndarray, found: np.ndarray, right: np.ndarray, names: list[str], title: str = ""
) -> Figure:
    """Query images (Q, height, width, channels), beside each those found nearest (Q, K, height, width,
    channels), nearest first; `right` (Q, K) says which are of the query's class."""
    count, most = found.shape[:2]
    brightest = max(1, int(max(queries.max(), found.max())))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        made = figure(8, 1.1 + 0.83 * count)
        grid = made.subplots(count, most + 1, squeeze=False, gridspec_kw={"hspace": 0.08})
        for row in range(count):
            for column, axes in enumerate(grid[row]):
                image = queries[row] if column == 0 else found[row, column - 1]
                axes.imshow(
                    image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=brightest
                )
                axes.set(xticks=[], yticks=[])
                hit = column == 0 or right[row, column - 1]
                axes.spines[:].set(
                    visible=True,
                    color=INK if column == 0 else COLOURS[0] if hit else COLOURS[1],
                    linewidth=1 if column == 0 else 3,
                    linestyle="-" if hit else (0, (2, 1)),
                )
                if row == 0:
                    axes.set_title("query" if column == 0 else f"{column}.", fontsize=10, loc="center")
            lines = "\n".join(shortened(part) for part in names[row].split("/")[-2:])
            grid[row, 0].set_ylabel(lines, rotation=0, ha="right", va="center", fontsize=9)
        made.suptitle(title, x=0.01, ha="left", fontsize=12)
    return made
