"""The content of `embeddings.npz`: embeddings, and all that an evaluation's figures show."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..datasets.splits import Split
from ..durable import written_aside
from ..foreign import read_arrays
from . import Evaluated, Retrieval
from .verification import pair_curves

THUMBNAILS = 300  # images beside the embeddings, for reports to show
QUERIES, NEIGHBOURS = 8, 8  # rows and columns of images in a figure


@dataclass
class Results:
    """The arrays of an `embeddings.npz`, by their names in it; None where an evaluation has none."""

    embeddings: np.ndarray  # (N, D)
    labels: np.ndarray  # (N,)
    classes: np.ndarray  # the names of those tested
    names: np.ndarray | None = None  # (N,) file names, of images that come from files
    # Rows (n,), picked evenly, and their images as uint8 (n, height, width, channels); none of features.
    shown: np.ndarray | None = None
    thumbnails: np.ndarray | None = None
    # Of a closed set: prototypes (C, D) and, for each image (N,), the predicted class, and angles in
    # radians to the target's prototype and the nearest other one.
    prototypes: np.ndarray | None = None
    predicted: np.ndarray | None = None
    target_angle: np.ndarray | None = None
    other_angle: np.ndarray | None = None
    # Of pairs, see PairCurves.
    pair_edges: np.ndarray | None = None
    pair_shares: np.ndarray | None = None
    pair_counts: np.ndarray | None = None
    pair_medians: np.ndarray | None = None
    far: np.ndarray | None = None
    tar: np.ndarray | None = None
    # Of an open set with probes of nobody in the gallery: a Curve (4, K) of 1 − FNIR over FPIR.
    identification: np.ndarray | None = None
    # Of an open set: metrics (G, M) without each group of classes, and their names (M,).
    left_out: np.ndarray | None = None
    left_out_of: np.ndarray | None = None
    # Of an open set: rows (Q,) of some queries and (Q, K) of their nearest neighbours, which of these
    # are relevant, and their images.
    queries: np.ndarray | None = None
    neighbours: np.ndarray | None = None
    neighbours_right: np.ndarray | None = None
    query_images: np.ndarray | None = None
    neighbour_images: np.ndarray | None = None

    @classmethod
    def of(cls, evaluated: Evaluated, embeddings: np.ndarray, split: Split, head) -> "Results":
        """Collect the results of an evaluation of a split's embeddings (N, D) with a head."""
        labels = split.labels.cpu().numpy()
        found = cls(embeddings, labels, np.array(split.classes, dtype=str))
        if split.names is not None:
            found.names = split.names.astype(str)
        if split.pictures:
            count = min(len(embeddings), THUMBNAILS)
            found.shown = np.linspace(0, len(embeddings) - 1, count).astype(int)
            found.thumbnails = split.thumbnails(found.shown)
        if evaluated.closed:
            found.prototypes = head.prototypes.detach().cpu().numpy()
            found.predicted = evaluated.closed.predicted.numpy()
            found.target_angle = evaluated.closed.target_angle.numpy()
            found.other_angle = evaluated.closed.other_angle.numpy()
        if "auc" in evaluated.metrics:
            for name, values in pair_curves(evaluated.scores)._asdict().items():
                setattr(found, name, values)
        if evaluated.probes:
            found.identification = np.stack(evaluated.probes.curve())
        if evaluated.left_out:
            found.left_out = np.stack(list(evaluated.left_out.values()), 1)
            found.left_out_of = np.array(list(evaluated.left_out))
        if evaluated.retrieved and evaluated.retrieved.metrics and split.pictures:
            found.pick_neighbours(evaluated.retrieved, split)
        return found

    def pick_neighbours(self, retrieved: Retrieval, split: Split) -> None:
        """Keep some queries and their nearest neighbours: where possible, half of the queries have a
        wrong nearest neighbour."""
        nearest = retrieved.nearest.cpu().numpy()
        asked = ~np.isnan(retrieved.per_query[:, 0].cpu().numpy())
        right = retrieved.right.cpu().numpy()
        first = right[:, 0]
        picked = [evenly(np.flatnonzero(asked & mask), QUERIES // 2) for mask in (first, ~first)]
        self.queries = np.concatenate(picked)
        self.neighbours = nearest[self.queries, :NEIGHBOURS]
        there = (self.neighbours >= 0).all(0)  # few may count for a query
        self.neighbours = self.neighbours[:, there]
        self.neighbours_right = right[self.queries, :NEIGHBOURS][:, there]
        images = split.thumbnails(np.concatenate([self.queries, self.neighbours.ravel()]))
        self.query_images, images = np.split(images, [len(self.queries)])
        self.neighbour_images = images.reshape(*self.neighbours.shape, *images.shape[1:])

    def save(self, path: Path) -> None:
        """Write a compressed .npz. Raises OSError."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with written_aside(path) as beside:
            np.savez_compressed(beside, **{k: v for k, v in arrays.items() if v is not None})

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote. Raises OSError, and ValueError for a file of something else."""
        try:
            return cls(**read_arrays(path, *(field.name for field in fields(cls))))
        except OSError:
            raise
        except Exception as error:  # numpy and zlib raise anything
            raise ValueError(f"{path}: cannot be read as embeddings ({error})") from None


def evenly(values: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of the values (n,), evenly spaced."""
    return values[np.linspace(0, len(values) - 1, min(len(values), most)).astype(int)]
