"""Classes that were not trained on: pairs, their ROC curve, and nearest neighbours."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import norm

from ..evaluation.weighted import Curve
from .style import COLOURS, FAINT, INK, STYLE, fit_axis, new_figure, shortened

DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
DET_AXES = {
    "trial": ("false accept rate", "miss rate (false rejects)"),
    "sample": ("false positive identification rate", "false negative identification rate"),
}
LEAST = {"x": 0.1, "y": 0.01}  # rates that the axes reach down to, at least
DEVIATES = (1e-7, 1 - 1e-7)
QUERY_FRAME = {"color": INK, "linewidth": 1, "linestyle": "-"}
SAME_FRAME = {"color": COLOURS[0], "linewidth": 3, "linestyle": "-"}
OTHER_FRAME = {"color": COLOURS[1], "linewidth": 3, "linestyle": (0, (2, 1))}


def plot_pairs(
    edges: np.ndarray, shares: np.ndarray, counts: np.ndarray, medians: np.ndarray, title: str = ""
) -> Figure:
    """Histograms of the angles of pairs, in radians: `shares` (2, B) of pairs of the same class and of
    different ones between `edges` (B + 1,), each adding up to 1, with their `counts` (2,) and `medians`
    (2,). The less they overlap the better."""
    edges, medians = np.degrees(edges), np.degrees(medians)
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.2)
        axes = fig.subplots()
        for row, (name, colour, hatch) in enumerate(
            (("same class", COLOURS[0], ""), ("different classes", COLOURS[1], "//"))
        ):
            label = f"{name}, {counts[row]:,} pairs, median {medians[row]:.1f}°"
            look = {"color": colour, "alpha": 0.65, "hatch": hatch, "ec": "white", "lw": 0.3}
            axes.hist(edges[:-1], edges, weights=shares[row], label=label, **look)
        axes.set(xlabel="angle between two embeddings (degrees)", ylabel="share of such pairs")
        axes.set(xlim=(0, edges[-1]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(title)
        axes.legend(loc="upper right")
    return fig


def plot_roc(far: np.ndarray, tar: np.ndarray, eer: float, lowest_far: float, title: str = "") -> Figure:
    """True accept rates (K,) over rising false accept rates (K,) on a logarithmic axis from `lowest_far`
    to 1, with the point of equal error rates, `eer`, if it is there."""
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.6)
        axes = fig.subplots()
        axes.step(far, tar, where="post", color=COLOURS[0], lw=2)
        chance = np.geomspace(lowest_far, 1, 100)
        axes.plot(chance, chance, color=FAINT, lw=1, ls="--", label="chance")
        axes.plot(eer, 1 - eer, "o", color=COLOURS[1], mec=INK, label=f"equal errors, {eer:.2%}")
        axes.set(xscale="log", xlim=(lowest_far, 1))
        fit_axis(axes, "y", [*tar, 1 - eer], (0, 1))
        axes.set(xlabel="false accept rate", ylabel="true accept rate")
        axes.set_title(title)
        axes.legend(loc="lower right")
    return fig


def plot_det(curves: dict[str, Curve], false: str, missed: str, title: str = "") -> Figure:
    """Detection error trade-off of each named curve, what is `missed` over `false` accepts on normal
    deviate axes, with its band. Lower is better."""
    with matplotlib.rc_context(STYLE):
        fig = new_figure(6.4, 6)
        axes = fig.subplots()
        drawn, shaded = [], None
        for (name, curve), colour, line in zip(curves.items(), COLOURS, ("-", "--"), strict=False):
            far, tar, low, high = curve
            x = norm.ppf(far.clip(*DEVIATES))
            misses = [norm.ppf((1 - rates).clip(*DEVIATES)) for rates in (tar, high, low)]
            axes.plot(x, misses[0], color=colour, ls=line, lw=2, label=shortened(name, 40))
            if np.isfinite(low).all():
                axes.fill_between(x, *misses[1:], color=colour, alpha=0.2, lw=0)
                shaded = "shaded: 95% for other classes"
            shown = far <= 0.6
            drawn.append((x[shown], misses[0][shown & (tar < 1)]))
        for which, values in (("x", [x for x, _ in drawn]), ("y", [y for _, y in drawn])):
            values = np.concatenate([*values, norm.ppf([LEAST[which], 0.6])])
            span = (max(values.min(), norm.ppf(1e-6)) - 0.1, min(values.max() + 0.1, norm.ppf(0.995)))
            ticks = [rate for rate in DET_TICKS if span[0] <= norm.ppf(rate) <= span[1]]
            axes.set(**{f"{which}lim": span, f"{which}ticks": norm.ppf(ticks)})
            axes.set(**{f"{which}ticklabels": [f"{100 * rate:g}%" for rate in ticks]})
        ends = (axes.get_xlim(), axes.get_ylim())
        equal = [max(low for low, _ in ends), min(high for _, high in ends)]
        axes.plot(equal, equal, color=FAINT, lw=1, ls=":", label="equal errors")
        axes.set(xlabel=false, ylabel=missed)
        axes.set_title(title)
        axes.legend(title=shaded, title_fontsize=9)
    return fig


def plot_neighbours(
    queries: np.ndarray,
    neighbours: np.ndarray,
    relevant: np.ndarray,
    query_classes: list[str],
    neighbour_classes: list[list[str]],
    title: str = "",
) -> Figure:
    """A row per query: the name of its class, its image (Q, height, width, channels), and the images of
    its neighbours (Q, K, height, width, channels), nearest first, framed by whether they are `relevant`
    (Q, K), with the names of the others' classes below."""
    count, columns = neighbours.shape[:2]
    brightest = max(1, int(max(queries.max(), neighbours.max())))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(8, 1.1 + 1.0 * count)
        grid = fig.subplots(count, columns + 1, squeeze=False, gridspec_kw={"hspace": 0.08})
        for row in range(count):
            for column, axes in enumerate(grid[row]):
                image = queries[row] if column == 0 else neighbours[row, column - 1]
                image = image[..., 0] if image.shape[-1] == 1 else image
                axes.imshow(image, cmap="gray", vmin=0, vmax=brightest)
                axes.set(xticks=[], yticks=[])
                if column == 0:
                    frame = QUERY_FRAME
                else:
                    right = relevant[row, column - 1]
                    frame = SAME_FRAME if right else OTHER_FRAME
                    name = "" if right else lines_of(neighbour_classes[row][column - 1], 15)
                    axes.set_xlabel(name, fontsize=6, labelpad=2)
                axes.spines[:].set(visible=True, **frame)
                if row == 0:
                    axes.set_title("query" if column == 0 else f"{column}.", fontsize=10, loc="center")
            name = lines_of(query_classes[row])
            grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


def lines_of(name: str, most: int = 20) -> str:
    """The last two parts of a name with slashes, a line each."""
    return "\n".join(shortened(part, most) for part in name.split("/")[-2:])
