"""Metrics of embeddings, for classes trained on and for new ones: tensors in, numbers out."""

from typing import NamedTuple

from torch import Tensor

from .closed_set import CLOSED_SET_METRICS, ClosedSet, closed_set
from .collapse import collapse
from .counts import counts
from .detection import DETECTION_METRICS
from .geometry import GEOMETRY_METRICS, geometry, measurable, widest_angle
from .identification import IDENTIFICATION_METRICS
from .metrics import Metric
from .retrieval import RETRIEVAL_METRICS, Retrieval, retrieval
from .verification import (
    RARE_METRICS,
    VERIFICATION_METRICS,
    PairScores,
    Roc,
    lowest_far,
    roc,
    sample_pairs,
    score_pairs,
    supported_metrics,
    verification,
)

# The names of each evaluation's metrics.
EVALUATIONS: dict[str, tuple[str, ...]] = {
    "closed_set": (*CLOSED_SET_METRICS, *GEOMETRY_METRICS),
    "open_set": (*RETRIEVAL_METRICS, *VERIFICATION_METRICS, *GEOMETRY_METRICS),
    "verification": tuple(VERIFICATION_METRICS),
}
METRICS: dict[str, Metric] = (
    CLOSED_SET_METRICS
    | GEOMETRY_METRICS
    | RETRIEVAL_METRICS
    | VERIFICATION_METRICS
    | RARE_METRICS
    | DETECTION_METRICS
    | IDENTIFICATION_METRICS
)


def metric_named(name: str) -> Metric:
    """Return the metric of a name: one of METRICS, or `recall_at_<k>` or `map_at_<k>` for any k."""
    return METRICS.get(name) or Metric.share(name, "queries")


__all__ = [
    "EVALUATIONS",
    "METRICS",
    "ClosedSet",
    "Evaluated",
    "Metric",
    "PairScores",
    "Retrieval",
    "Roc",
    "closed_set",
    "collapse",
    "counts",
    "evaluate",
    "geometry",
    "lowest_far",
    "measurable",
    "metric_named",
    "retrieval",
    "roc",
    "sample_pairs",
    "score_pairs",
    "supported_metrics",
    "verification",
    "widest_angle",
]


MOST_COMPARED = 2**15  # prototypes: all pairs of more would take longer than the rest


class Evaluated(NamedTuple):
    """The result of an evaluation: `metrics` by name, and the details of those that were computed."""

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
    """Return the evaluation `name`, one of EVALUATIONS, of embeddings (N, D) with labels (N,).

    A closed set is judged by the head's prototypes (C, D), verification by `pairs` (first, second, same,
    fold; each (P,)), and an open set by `pairs` and by nearest neighbours. A metric that is not a finite
    number is absent; so are all unless the embeddings are `measurable`, and those of pairs of more than
    MOST_COMPARED prototypes. Raises ValueError for another name, and for missing pairs."""
    if name not in EVALUATIONS:
        raise ValueError(f"evaluation {name!r}: choose one of {', '.join(EVALUATIONS)}")
    if name != "closed_set" and pairs is None:
        raise ValueError(f"evaluation {name!r} needs pairs")
    if not measurable(embeddings):
        return Evaluated({})
    prototypes = head.prototypes if head.num_classes <= MOST_COMPARED else None
    if name == "closed_set":
        closed = closed_set(head, embeddings, labels)
        metrics = closed.metrics | geometry(embeddings, labels, prototypes)
        return Evaluated(metrics, closed)
    scores = score_pairs(embeddings, *pairs)
    if name == "verification":
        return Evaluated(verification(scores), scores=scores)
    retrieved = retrieval(embeddings, labels)
    metrics = retrieved.metrics | verification(scores) | geometry(embeddings, labels, prototypes)
    return Evaluated(metrics, retrieved=retrieved, scores=scores)
