"""Training loss and a metric over the epochs of a run."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ..evaluation import Metric
from .style import COLOURS, STYLE, fit_axis, new_figure


def plot_curves(rows: list[dict], metric: Metric, title: str = "", split: str = "test") -> Figure:
    """Rows, one per epoch, with the keys `epoch`, `loss` (in training) and the metric's name (its value
    on `split`)."""
    epochs = [row["epoch"] for row in rows]
    values = [row[metric.name] * metric.display_factor for row in rows]
    marker = "o" if len(rows) <= 40 else None
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4)
        left, right = fig.subplots(1, 2)
        left.plot(epochs, [row["loss"] for row in rows], marker=marker, ls="-", color=COLOURS[0], ms=4)
        left.set(title="training loss", xlabel="epoch", ylim=(0, None))
        right.plot(epochs, values, marker=marker, ls="-", color=COLOURS[1], ms=4)
        right.set(title=f"{split} {metric.label}", xlabel="epoch")
        bounds = (metric.lowest * metric.display_factor, metric.highest * metric.display_factor)
        fit_axis(right, "y", values, bounds)
        right.yaxis.set_major_formatter(StrMethodFormatter(metric.tick_format))
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig
