"""The figures of an evaluation, by what it looked at."""

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..datasets.splits import Split
from ..evaluation import Evaluated, lowest_far, roc
from .confusion import plot_confusion
from .histograms import plot_angles
from .open_set import plot_neighbours, plot_pairs, plot_roc
from .projection import class_means
from .sphere import plot_embedding

QUERIES, NEIGHBOURS = 8, 8  # rows and columns of images
CLOSED_SET_CLASSES, OPEN_SET_CLASSES = 100, 10  # at most, in a figure of embeddings
COARSEST_FAR = 0.5  # a curve that can only begin above this rate is none


def evaluation_figures(
    evaluated: Evaluated, embeddings: np.ndarray, split: Split, prototypes: np.ndarray, title: str
) -> dict[str, Callable[[], Figure]]:
    """What draws the figures of the embeddings (N, D) of a split, as `draw` takes them. Only a closed
    set is drawn with prototypes (C, D); an open set has no prototypes of its classes, and shows
    their mean directions instead."""
    labels, classes, metrics = split.labels.cpu().numpy(), split.classes, evaluated.metrics
    if evaluated.closed:
        closed = evaluated.closed
        headline = f"{title}: {metrics['accuracy']:.1%} of test samples right"
        return {
            "embedding.png": partial(
                _embedding_figure, embeddings, labels, prototypes, classes, headline
            ),
            "angles.png": partial(
                plot_angles, closed.target_angle.numpy(), closed.other_angle.numpy(), title
            ),
            "confusion.png": partial(plot_confusion, closed.confusion.numpy(), classes, title),
        }
    figures = _pair_figures(evaluated, title)
    if evaluated.retrieved:
        figures["embedding.png"] = partial(_means_figure, embeddings, labels, classes, title)
        if evaluated.retrieved.metrics and split.pictures:
            headline = f"{title}: {metrics['recall_at_1']:.1%} of nearest neighbours right"
            nearest = evaluated.retrieved.nearest.cpu().numpy()
            figures["neighbours.png"] = partial(_neighbours_figure, nearest, labels, split, headline)
    return figures


def _pair_figures(evaluated: Evaluated, title: str) -> dict[str, Callable[[], Figure]]:
    metrics, (cosines, same, _) = evaluated.metrics, evaluated.scores
    if "auc" not in metrics:
        return {}
    figures = {"pairs.png": partial(plot_pairs, cosines.numpy(), same.numpy(), title)}
    lowest = lowest_far(int((~same).sum()))
    if lowest <= COARSEST_FAR:
        headline = f"{title}: AUC {metrics['auc']:.4f}"
        figures["roc.png"] = partial(_roc_figure, cosines, same, metrics["eer"], lowest, headline)
    return figures


def _roc_figure(cosines: Tensor, same: Tensor, eer: float, lowest: float, title: str) -> Figure:
    far, tar = (rates.numpy() for rates in roc(cosines, same))
    return plot_roc(far, tar, eer, lowest, title)


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
    present = _evenly(present, most)
    title += f": {len(present)} of {len(classes)} test classes"
    rows = np.isin(labels, present)
    names = tuple(classes[label].rpartition("/")[2] for label in present)
    if len(set(names)) < len(names):
        names = tuple(classes[label] for label in present)
    labels = np.searchsorted(present, labels[rows])
    return plot_embedding(embeddings[rows], labels, directions[present], names, title, directions_label)


def _neighbours_figure(nearest: np.ndarray, labels: np.ndarray, split: Split, title: str) -> Figure:
    """`plot_neighbours` of some queries: half of them, where possible, with a wrong nearest neighbour.
    `nearest` (N, K) are rows of the split."""
    correct = labels[nearest[:, 0]] == labels
    right, wrong = (_evenly(np.flatnonzero(mask), QUERIES // 2) for mask in (correct, ~correct))
    queries = np.concatenate([right, wrong])
    neighbours = nearest[queries, :NEIGHBOURS]
    images = split.thumbnails(np.concatenate([queries, neighbours.ravel()]))
    query_images, neighbour_images = np.split(images, [len(queries)])
    subtitle = f"{len(right)} queries that went right"
    subtitle += f", {len(wrong)} that did not" if len(wrong) else ""
    return plot_neighbours(
        query_images,
        neighbour_images.reshape(*neighbours.shape, *images.shape[1:]),
        labels[neighbours] == labels[queries, None],
        [split.classes[label] for label in labels[queries]],
        f"{title}\n{subtitle}; blue: of the query's class",
    )


def _evenly(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the values (n,), evenly spaced."""
    return values[np.linspace(0, len(values) - 1, min(len(values), most)).astype(int)]
