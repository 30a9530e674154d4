"""Which classes are mistaken for which."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .style import INK, NAMED_CLASSES, STYLE, new_figure, shortened


def plot_confusion(confusion: np.ndarray, classes: tuple[str, ...], title: str = "") -> Figure:
    """Counts (C, C), a row for each true class, coloured by their share of the row."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        fig = new_figure(8, 6.8)
        axes = fig.subplots()
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        bar = fig.colorbar(image, ax=axes, shrink=0.8)
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
                colour = "white" if share[row, column] > 0.55 else INK
                count = str(confusion[row, column])
                axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=9)
    return fig
