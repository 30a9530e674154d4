"""The figure of every margin paper: what a margin does to the target logit."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import COLOURS, STYLE, new_figure


def plot_logits(curves: dict[str, tuple[np.ndarray, np.ndarray]], angles: np.ndarray) -> Figure:
    """A panel per loss: its target logit over the scale, t(θ), and how fast that falls, −dt/dθ.

    `angles` (N,) are in radians from 0 to π, drawn in degrees; `curves` has (t (N,), −dt/dθ (N,)) by
    the losses' names.
    """
    columns = 4
    rows = -(-len(curves) // columns)
    degrees = np.degrees(angles)
    with matplotlib.rc_context(STYLE | {"font.size": 9}):
        fig = new_figure(8, 1.75 * rows + 0.6)
        panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel, (name, (t, fall)) in zip(panels, curves.items(), strict=False):
            panel.plot(degrees, np.cos(angles), color="#999999", lw=1, ls="--")
            panel.plot(degrees, fall, color=COLOURS[1], lw=1.2, ls="-.")
            panel.plot(degrees, t, color=COLOURS[0], lw=1.8)
            panel.set_title(name, fontsize=9)
            panel.set(xticks=[0, 90, 180], xlim=(0, 180), ylim=(-4, 2.2))
        for panel in panels[len(curves) :]:
            panel.set_visible(False)
        lines = [
            Line2D([], [], color=COLOURS[0], lw=1.8, label="target logit / s, over θ in degrees"),
            Line2D([], [], color=COLOURS[1], lw=1.2, ls="-.", label="how fast it falls, per radian"),
            Line2D([], [], color="#999999", lw=1, ls="--", label="cos θ"),
        ]
        fig.legend(handles=lines, loc="outside lower center", ncols=3)
    return fig
