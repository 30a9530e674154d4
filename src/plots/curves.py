"""What happened over the epochs."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .style import COLOURS, STYLE, figure


def plot_curves(rows: list[dict], metric: str, title: str = "", split: str = "test") -> Figure:
    """Rows with `epoch`, `loss` (training) and `metric` (of `split`), an epoch each."""
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) <= 40 else None
    with matplotlib.rc_context(STYLE):
        made = figure(8, 4)
        left, right = made.subplots(1, 2)
        left.plot(epochs, [row["loss"] for row in rows], marker=marker, ls="-", color=COLOURS[0], ms=4)
        left.set(title="training loss", xlabel="epoch", ylim=(0, None))
        right.plot(epochs, [row[metric] for row in rows], marker=marker, ls="-", color=COLOURS[1], ms=4)
        right.set(title=f"{split} {metric.replace('_', ' ')}", xlabel="epoch")
        if "angle" not in metric and metric not in ("uniformity", "effective_dimension"):
            right.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        made.suptitle(title, x=0.01, ha="left", fontsize=12)
    return made
