"""Metrics of embeddings, for classes trained on and for new ones: tensors in, numbers out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .closed_set import CLOSED_SET_METRICS, ClosedSet, closed_set
from .collapse import collapse
from .counts import counts
from .detection import DETECTION_METRICS
from .geometry import GEOMETRY_METRICS, geometry, measurable, widest_angle
from .identification import IDENTIFICATION_METRICS, Probes, probes_of
from .metrics import Metric
from .retrieval import (
    ALL_BY_ALL,
    RANKS,
    RETRIEVAL_METRICS,
    Retrieval,
    Search,
    groups_of,
    retrieval,
    retrieval_metrics,
)
from .verification import (
    FARS,
    LOWER_FARS,
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
from .weighted import pair_metrics_left_out

EVALUATIONS = ("closed_set", "open_set", "verification")
METRICS: dict[str, Metric] = (
    CLOSED_SET_METRICS
    | GEOMETRY_METRICS
    | RETRIEVAL_METRICS
    | VERIFICATION_METRICS
    | RARE_METRICS
    | DETECTION_METRICS
    | IDENTIFICATION_METRICS
)


ANY_RANK = re.compile(r"(recall|map)_at_[1-9]\d*")


def metric_named(name: str) -> Metric:
    """Return the metric of a name: one of METRICS, or `recall_at_<k>` or `map_at_<k>` for any k. Raises
    KeyError for another."""
    if name not in METRICS and ANY_RANK.fullmatch(name):
        return Metric.share(name, "queries")
    return METRICS[name]


def metrics_among(names: Iterable[str]) -> list[str]:
    """Return those names that are metrics', in the order of METRICS; further ranks follow."""
    names = set(names)
    further = [name for name in names - METRICS.keys() if ANY_RANK.fullmatch(name)]
    by_rank = sorted(further, key=lambda name: (name.partition("_")[0], int(name.rpartition("_")[2])))
    return [name for name in METRICS if name in names] + by_rank


def metrics_of(
    protocol: str, ranks: Sequence[int] = RANKS, map_at: int | None = None
) -> tuple[str, ...]:
    """Return the names of the metrics that an evaluation has for all data; `ranks` and `map_at` are
    those of `retrieval`."""
    if protocol == "closed_set":
        return (*CLOSED_SET_METRICS, *GEOMETRY_METRICS)
    if protocol == "verification":
        return (*VERIFICATION_METRICS, *RARE_METRICS)
    return (*retrieval_metrics(ranks, map_at), *VERIFICATION_METRICS, *GEOMETRY_METRICS)


__all__ = [
    "EVALUATIONS",
    "METRICS",
    "ClosedSet",
    "Evaluated",
    "Metric",
    "PairScores",
    "Retrieval",
    "Roc",
    "Search",
    "closed_set",
    "collapse",
    "counts",
    "evaluate",
    "geometry",
    "lowest_far",
    "measurable",
    "metric_named",
    "metrics_among",
    "metrics_of",
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
    """The result of an evaluation: `metrics` by name, and the details of those that were computed;
    `left_out`, some metrics (G,) without each group of classes, by name, if the search asked for them.
    `probes` are the queries, if some of them have no match in the gallery."""

    metrics: dict[str, float]
    closed: ClosedSet | None = None
    retrieved: Retrieval | None = None
    scores: PairScores | None = None
    left_out: Mapping[str, np.ndarray] = MappingProxyType({})
    probes: Probes | None = None


def evaluate(
    name: str,
    head,
    embeddings: Tensor,
    labels: Tensor,
    pairs: tuple[Tensor, ...] | None = None,
    search: Search = ALL_BY_ALL,
) -> Evaluated:
    """Return the evaluation `name`, one of EVALUATIONS, of embeddings (N, D) with labels (N,).

    A closed set is judged by the head's prototypes (C, D), verification by `pairs` (first, second, same,
    fold; each (P,)), and an open set by `pairs` and by nearest neighbours, in a `search`. A metric that
    is not a finite number is absent; so are all unless the embeddings are `measurable`, and angles
    between more than MOST_COMPARED prototypes. Raises ValueError for another name, and for missing
    pairs."""
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
        return Evaluated(verification(scores, (*FARS, *LOWER_FARS)), scores=scores)
    retrieved = retrieval(embeddings, labels, search)
    metrics = retrieved.metrics | verification(scores) | geometry(embeddings, labels, prototypes)
    left_out = {}
    if retrieved.left_out:
        groups = groups_of(labels, search)
        left_out = {**retrieved.left_out, **pair_metrics_left_out(scores, *pairs[:2], *groups)}
    probes = probes_of(retrieved, labels, search)
    metrics |= probes.metrics() if probes else {}
    return Evaluated(metrics, None, retrieved, scores, left_out, probes)
