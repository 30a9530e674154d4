"""Pictures from arrays: matplotlib figures, knowing no tracker and no configuration."""

from .animation import animate
from .comparison import (
    Sphere,
    plot_angle_ranges,
    plot_budgets,
    plot_gallery,
    plot_heat,
    plot_learning,
    plot_margins,
    plot_ranking,
    turned_alike,
)
from .confusion import plot_confusion
from .curves import plot_curves
from .histograms import plot_angles
from .logits import plot_logits
from .open_set import plot_neighbours, plot_pairs, plot_roc
from .projection import class_means, to_dimensions
from .sphere import plot_embedding
from .style import class_colours, save

__all__ = [
    "Sphere",
    "animate",
    "class_colours",
    "class_means",
    "plot_angle_ranges",
    "plot_angles",
    "plot_budgets",
    "plot_confusion",
    "plot_curves",
    "plot_embedding",
    "plot_gallery",
    "plot_heat",
    "plot_learning",
    "plot_logits",
    "plot_margins",
    "plot_neighbours",
    "plot_pairs",
    "plot_ranking",
    "plot_roc",
    "save",
    "to_dimensions",
    "turned_alike",
]
