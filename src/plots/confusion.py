"""Which classes are taken for which."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .style import INK, NAMED_CLASSES, STYLE, figure, shortened


def plot_confusion(confusion: np.ndarray, classes: tuple[str, ...], title: str = "") -> Figure:
    """Counts (C, C), rows the true class, coloured by the share of the row."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        made = figure(8, 6.8)
        axes = made.subplots()
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        bar = made.colorbar(picture, ax=axes, shrink=0.8)
        bar.set_label("share of the true class")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_title(title)
        axes.spines[:].set_visible(False)
        if len(classes) <= NAMED_CLASSES:
            slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
            names = [shortened(name) for name in classes]
            long = max(map(len, names)) > 3
            axes.set_xticks(range(len(classes)), names, **(slanted if long else {}))
            axes.set_yticks(range(len(classes)), names)
            for row, column in np.argwhere(confusion):
                shade = "white" if share[row, column] > 0.55 else INK
                count = str(confusion[row, column])
                axes.text(column, row, count, ha="center", va="center", color=shade, fontsize=9)
    return made
