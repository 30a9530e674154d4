"""Tensors in, numbers out: what embeddings are worth, for classes that were trained on and for new
ones."""

from typing import NamedTuple

from torch import Tensor

from . import closed_set as _closed
from . import geometry as _geometry
from . import retrieval as _retrieval
from . import verification as _verification
from .closed_set import ClosedSet, closed_set
from .geometry import geometry, widest_angle
from .retrieval import Retrieval, retrieval
from .verification import PairScores, Roc, roc, sample_pairs, score, supported, verification

# The names that configurations use, and the metrics of each; conf/evaluation/ holds a file for each.
EVALUATIONS: dict[str, tuple[str, ...]] = {
    "closed_set": (*_closed.METRICS, *_geometry.METRICS),
    "open_set": (*_retrieval.METRICS, *_verification.METRICS, *_geometry.METRICS),
    "verification": _verification.METRICS,
}
METRICS = tuple(dict.fromkeys(name for names in EVALUATIONS.values() for name in names))
LOWER_IS_BETTER = ("target_angle", "eer", "intra_angle", "uniformity")

__all__ = [
    "EVALUATIONS",
    "METRICS",
    "ClosedSet",
    "Evaluated",
    "PairScores",
    "Retrieval",
    "Roc",
    "closed_set",
    "evaluate",
    "geometry",
    "higher_is_better",
    "kind_of",
    "retrieval",
    "roc",
    "sample_pairs",
    "score",
    "supported",
    "verification",
    "widest_angle",
]


def kind_of(metric: str) -> str:
    """What a metric's number is: an `angle` in radians, a `share` of one, or another `number`."""
    if "_angle_" in metric:
        return "angle"
    return "number" if metric in ("uniformity", "effective_dimension") else "share"


def higher_is_better(metric: str) -> bool:
    """Samples should be near their own prototype and class, errors rare, and everything else large."""
    return not metric.startswith(LOWER_IS_BETTER)


class Evaluated(NamedTuple):
    """What an evaluation found: `metrics` by name, and the parts that it looked at."""

    metrics: dict[str, float]
    closed: ClosedSet | None = None
    retrieved: Retrieval | None = None
    scores: PairScores | None = None


def evaluate(
    name: str,
    head,
    embeddings: Tensor,
    labels: Tensor,
    pairs: tuple[Tensor, ...] | None = None,
) -> Evaluated:
    """The evaluation `name` of embeddings (N, D) with labels (N,). A closed set is judged by the head,
    an open set and verification by `pairs` (first, second, same, fold; each (P,)), the first of the
    two by neighbours too."""
    if name == "closed_set":
        closed = closed_set(head, embeddings, labels)
        return Evaluated(closed.metrics | geometry(embeddings, labels, head.prototypes), closed)
    scores = score(embeddings, *pairs)
    if name == "verification":
        return Evaluated(verification(scores), scores=scores)
    found = retrieval(embeddings, labels)
    lying = geometry(embeddings, labels, head.prototypes)
    return Evaluated(found.metrics | verification(scores) | lying, retrieved=found, scores=scores)
