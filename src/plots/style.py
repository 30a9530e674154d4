"""What all figures share: size, fonts, and a colour and a marker for each class."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..durable import written_aside

# Ten colours that colour-blind readers can tell apart (Petroff, arXiv 2107.02270). After ten classes,
# colours repeat with another marker.
COLOURS = tuple(matplotlib.color_sequences["petroff10"])
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
NAMED_CLASSES = 20  # more names do not fit in a legend or along an axis
INK, FAINT = "#222222", "#bbbbbb"

STYLE = {
    "font.size": 11,
    "text.parse_math": False,  # names may contain a $
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
}


def colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)]


def marker(label: int) -> str:
    return MARKERS[label // len(COLOURS) % len(MARKERS)]


def shortened(name: str, most: int = 20) -> str:
    """At most `most` characters: the beginning and the end of a long name, where names differ most."""
    return name if len(name) <= most else f"{name[: most // 3]}…{name[most // 3 + 1 - most :]}"


def class_colours(classes: int) -> np.ndarray:
    """The classes' colours in figures, RGB (C, 3) from 0 to 255."""
    return np.array([to_rgb(colour(label)) for label in range(classes)]) * 255


def new_figure(width: float = 8.0, height: float = 5.0) -> Figure:
    """A figure of so many inches, 100 pixels each, outside pyplot's global state."""
    fig = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    return fig


def save(fig: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, and return the path."""
    with written_aside(path) as beside:
        fig.savefig(beside)
    return path
