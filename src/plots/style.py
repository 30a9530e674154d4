"""What all figures share: size, type, and a colour and a marker for each class."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# Ten colours that colour-blind readers tell apart (Petroff, arXiv 2107.02270). Past ten they come
# again with another marker, so that a class is a pair of the two.
COLOURS = tuple(matplotlib.color_sequences["petroff10"])
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
NAMED_CLASSES = 20  # legends and tick labels hold no more
INK, FAINT = "#222222", "#bbbbbb"

STYLE = {
    "font.size": 11,
    "text.parse_math": False,  # a $ in a name is a $
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
    """A long name by its beginning and its end, which tells more apart."""
    return name if len(name) <= most else f"{name[: most // 3]}…{name[most // 3 + 1 - most :]}"


def class_colours(classes: int) -> np.ndarray:
    """(C, 3) in 0…255, the colours of the figures."""
    return np.array([to_rgb(colour(label)) for label in range(classes)]) * 255


def figure(width: float = 8.0, height: float = 5.0) -> Figure:
    """A figure without pyplot's global state, 800 pixels wide by default."""
    made = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    return made


def save(made: Figure, path: Path) -> Path:
    """Write a PNG, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path)
    return path
