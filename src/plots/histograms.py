"""How far samples are from their own prototype and from the nearest other one."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import COLOURS, STYLE, new_figure


def plot_angles(target: np.ndarray, other: np.ndarray, title: str = "") -> Figure:
    """Histograms of angles (N,) in radians to the own prototype (target) and to the nearest other one,
    drawn in degrees with their means, which are what the log says; the less they overlap the better."""
    with matplotlib.rc_context(STYLE):
        fig = new_figure(8, 4.2)
        axes = fig.subplots()
        target, other = np.degrees(target), np.degrees(other)
        bins = np.linspace(0, max(10.0, target.max(), other.max()), 61)
        for angles, name, colour, hatch in (
            (target, "to the own prototype", COLOURS[0], ""),
            (other, "to the nearest other prototype", COLOURS[1], "//"),
        ):
            label = f"{name}, mean {np.mean(angles):.1f}°"
            axes.hist(
                angles, bins, color=colour, alpha=0.65, label=label, hatch=hatch, ec="white", lw=0.3
            )
        axes.set(xlabel="angle (degrees)", ylabel="test samples", xlim=(0, bins[-1]))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title)
        axes.legend(loc="upper right")
    return fig
