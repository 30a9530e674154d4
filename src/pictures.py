"""What there is to look at after an evaluation: `embeddings.npz` and figures, by what was evaluated."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from . import plots
from .datasets import Split
from .evaluation import Evaluated, roc

THUMBNAILS = 300  # images kept beside the embeddings, for the report to show
QUERIES, NEIGHBOURS = 8, 8  # that are drawn
CLOSED_CLASSES, OPEN_CLASSES = 100, 10  # drawn at most
ROC_PAIRS = 10  # of different classes, fewer than which the curve does not show


def save_embeddings(path: Path, embeddings: np.ndarray, split: Split, prototypes: np.ndarray) -> None:
    """Embeddings (N, D), labels (N,), prototypes (C, D), class names, file names where there are files,
    and the thumbnails of some."""
    shown = np.linspace(0, len(embeddings) - 1, min(len(embeddings), THUMBNAILS)).astype(int)
    named = {} if split.names is None else {"names": split.names.astype(str)}
    np.savez_compressed(
        path,
        embeddings=embeddings,
        labels=split.labels.cpu().numpy(),
        classes=np.array(split.classes, dtype=str),
        prototypes=prototypes,
        shown=shown,
        thumbnails=split.thumbnails(shown),
        **named,
    )


def figures(
    found: Evaluated, embeddings: np.ndarray, split: Split, prototypes: np.ndarray, title: str
) -> dict[str, Figure]:
    """Figures of an evaluation by the names of their files. Embeddings (N, D), prototypes (C, D)."""
    y, classes, metrics = split.labels.cpu().numpy(), split.classes, found.metrics
    if found.closed:
        closed = found.closed
        tested = f"{title}: {metrics['accuracy']:.1%} of test samples right"
        return {
            "embedding": some_classes(embeddings, y, prototypes, classes, tested, "prototype"),
            "angles": plots.plot_angles(closed.target_angle.numpy(), closed.other_angle.numpy(), title),
            "confusion": plots.plot_confusion(closed.confusion.numpy(), classes, title),
        }
    made = {}
    cosines, same, _ = found.scores
    if "auc" in metrics:
        far, tar = roc(cosines, same)
        curve = f"{title}: AUC {metrics['auc']:.4f}"
        others = int((~same).sum())
        fewest = min(0.1, ROC_PAIRS / others, max(metrics["eer"], 1 / others) / 2)
        made["pairs"] = plots.plot_pairs(cosines.numpy(), same.numpy(), title)
        made["roc"] = plots.plot_roc(far.numpy(), tar.numpy(), metrics["eer"], fewest, curve)
    if found.retrieved:
        means = plots.class_means(embeddings, y)
        made["embedding"] = some_classes(
            embeddings, y, means, classes, title, "class mean", OPEN_CLASSES
        )
        if found.retrieved.metrics:
            said = f"{title}: {metrics['recall_at_1']:.1%} of nearest neighbours right"
            made["neighbours"] = neighbours(found.retrieved.nearest.cpu().numpy(), y, split, said)
    return made


def some_classes(
    embeddings: np.ndarray,
    y: np.ndarray,
    ends: np.ndarray,
    classes: tuple[str, ...],
    title: str,
    ends_are: str,
    most: int = CLOSED_CLASSES,
) -> Figure:
    """The embeddings of as many classes as can be told apart by eye, evenly picked, with their `ends`
    (C, D): prototypes, or, of classes that have none, means."""
    present = np.unique(y)
    if len(present) <= most and len(classes) <= CLOSED_CLASSES:
        return plots.plot_embedding(embeddings, y, ends, classes, title, ends_are)
    present = present[np.linspace(0, len(present) - 1, min(len(present), most)).astype(int)]
    title += f": {len(present)} of {len(classes)} test classes"
    rows = np.isin(y, present)
    names = tuple(classes[label].rpartition("/")[2] for label in present)
    names = names if len(set(names)) == len(names) else tuple(classes[label] for label in present)
    labels = np.searchsorted(present, y[rows])
    return plots.plot_embedding(embeddings[rows], labels, ends[present], names, title, ends_are)


def neighbours(nearest: np.ndarray, y: np.ndarray, split: Split, title: str) -> Figure:
    """Some queries, half of them such as went wrong, if there are, and what was found for them."""
    first_right = y[nearest[:, 0]] == y
    wrong, well = np.flatnonzero(~first_right), np.flatnonzero(first_right)
    asked = [
        kind[np.linspace(0, len(kind) - 1, min(len(kind), QUERIES // 2)).astype(int)]
        for kind in (well, wrong)
    ]
    rows = np.concatenate(asked)
    near = nearest[rows, :NEIGHBOURS]
    images = split.thumbnails(np.concatenate([rows, near.ravel()]))
    queries, found = images[: len(rows)], images[len(rows) :].reshape(*near.shape, *images.shape[1:])
    names = [split.classes[y[row]] for row in rows]
    well, wrong = map(len, asked)
    half = f"{well} queries that went right" + f", {wrong} that did not" * bool(wrong)
    half += "; blue: of the query's class"
    return plots.plot_neighbours(queries, found, y[near] == y[rows, None], names, f"{title}\n{half}")
