"""The figures of an evaluation, by what it looked at."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from ..evaluation import lowest_far
from ..evaluation.results import Results, evenly
from ..evaluation.weighted import Curve
from .confusion import plot_confusion
from .histograms import plot_angles
from .open_set import DET_AXES, plot_det, plot_neighbours, plot_pairs, plot_roc
from .projection import class_means
from .sphere import plot_embedding

CLOSED_SET_CLASSES, OPEN_SET_CLASSES = 100, 10  # at most, in a figure of embeddings
COARSEST_FAR = 0.5  # a curve that can only begin above this rate is none


def evaluation_figures(
    protocol: str, results: Results, metrics: Mapping[str, float], title: str
) -> dict[str, Callable[[], Figure]]:
    """What draws the figures of an evaluation with these results and metrics, as `draw` takes them. Only
    a closed set is drawn with prototypes (C, D); an open set has no prototypes of its classes, and shows
    their mean directions instead."""
    embeddings, labels, classes = results.embeddings, results.labels, tuple(results.classes.tolist())
    if protocol == "closed_set":
        headline = f"{title}: {metrics['accuracy']:.1%} of test samples right"
        return {
            "embedding.png": partial(
                _embedding_figure, embeddings, labels, results.prototypes, classes, headline
            ),
            "angles.png": partial(plot_angles, results.target_angle, results.other_angle, title),
            "confusion.png": partial(plot_confusion, labels, results.predicted, classes, title),
        }
    figures = _pair_figures(results, metrics, title)
    if protocol == "open_set":
        figures["embedding.png"] = partial(_means_figure, embeddings, labels, classes, title)
    if results.identification is not None:
        figures["identification.png"] = partial(_identification_figure, results, title)
    if results.queries is not None:
        first = metrics.get("recall_at_1")  # unless evaluation.ranks leaves it out
        headline = title if first is None else f"{title}: {first:.1%} of nearest neighbours right"
        figures["neighbours.png"] = partial(_neighbours_figure, results, headline)
    return figures


def _pair_figures(
    results: Results, metrics: Mapping[str, float], title: str
) -> dict[str, Callable[[], Figure]]:
    if results.pair_counts is None:
        return {}
    pairs = results.pair_edges, results.pair_shares, results.pair_counts, results.pair_medians
    figures = {"pairs.png": partial(plot_pairs, *pairs, title)}
    lowest = lowest_far(int(results.pair_counts[1]))
    if lowest <= COARSEST_FAR:
        headline = f"{title}: AUC {metrics['auc']:.4f}"
        curve = results.far, results.tar, metrics["eer"], lowest
        figures["roc.png"] = partial(plot_roc, *curve, headline)
    return figures


def _identification_figure(results: Results, title: str) -> Figure:
    curves = {"queries by their nearest": Curve(*results.identification)}
    return plot_det(curves, *DET_AXES["sample"], title)


def _means_figure(
    embeddings: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], title: str
) -> Figure:
    means = class_means(embeddings, labels)
    arguments = embeddings, labels, means, classes, title, "class mean"
    return _embedding_figure(*arguments, most=OPEN_SET_CLASSES)


def _embedding_figure(
    embeddings: np.ndarray,
    labels: np.ndarray,
    directions: np.ndarray,
    classes: tuple[str, ...],
    title: str,
    directions_label: str = "prototype",
    most: int = CLOSED_SET_CLASSES,
) -> Figure:
    """`plot_embedding` of at most `most` classes, evenly picked: more cannot be told apart by eye."""
    present = np.unique(labels)
    if len(present) <= most and len(classes) <= CLOSED_SET_CLASSES:
        return plot_embedding(embeddings, labels, directions, classes, title, directions_label)
    present = evenly(present, most)
    title += f": {len(present)} of {len(classes)} test classes"
    rows = np.isin(labels, present)
    names = tuple(classes[label].rpartition("/")[2] for label in present)
    if len(set(names)) < len(names):
        names = tuple(classes[label] for label in present)
    labels = np.searchsorted(present, labels[rows])
    return plot_embedding(embeddings[rows], labels, directions[present], names, title, directions_label)


def _neighbours_figure(results: Results, title: str) -> Figure:
    labels = results.labels
    of_query, of_neighbours = labels[results.queries], labels[results.neighbours]
    right = int(results.neighbours_right[:, 0].sum())
    wrong = len(of_query) - right
    subtitle = f"{right} queries that went right" + f", {wrong} that did not" * bool(wrong)
    return plot_neighbours(
        results.query_images,
        results.neighbour_images,
        results.neighbours_right,
        results.classes[of_query].tolist(),
        results.classes[of_neighbours].tolist(),
        f"{title}\n{subtitle}; blue: relevant",
    )
