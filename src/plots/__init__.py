"""Pictures from arrays: matplotlib figures, knowing no tracker and no configuration."""

from .confusion import plot_confusion
from .curves import plot_curves
from .histograms import plot_angles
from .logits import plot_logits
from .projection import to_dimensions
from .sphere import plot_embedding
from .style import class_colours, save

__all__ = [
    "class_colours",
    "plot_angles",
    "plot_confusion",
    "plot_curves",
    "plot_embedding",
    "plot_logits",
    "save",
    "to_dimensions",
]
