"""Matplotlib figures from arrays and results; nothing here knows a tracker or a configuration."""

from .animation import animate
from .comparison import (
    Sphere,
    aligned_spheres,
    plot_angle_ranges,
    plot_budgets,
    plot_differences,
    plot_gallery,
    plot_learning,
    plot_margins,
    plot_ranking,
)
from .confusion import plot_confusion
from .curves import plot_curves
from .evaluation import evaluation_figures
from .grids import plot_heat, plot_rates
from .histograms import plot_angles
from .logits import plot_logits
from .open_set import DET_AXES, plot_det, plot_neighbours, plot_pairs, plot_roc
from .projection import class_means, to_dimensions
from .sphere import plot_embedding
from .style import class_colours, draw, save

__all__ = [
    "DET_AXES",
    "Sphere",
    "aligned_spheres",
    "animate",
    "class_colours",
    "class_means",
    "draw",
    "evaluation_figures",
    "plot_angle_ranges",
    "plot_angles",
    "plot_budgets",
    "plot_confusion",
    "plot_curves",
    "plot_det",
    "plot_differences",
    "plot_embedding",
    "plot_gallery",
    "plot_heat",
    "plot_learning",
    "plot_logits",
    "plot_margins",
    "plot_neighbours",
    "plot_pairs",
    "plot_ranking",
    "plot_rates",
    "plot_roc",
    "save",
    "to_dimensions",
]
