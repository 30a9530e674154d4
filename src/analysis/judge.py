"""Compare two encoders by the embeddings that they give the same samples.

Nothing is trained here, so there are no seeds: the doubt is about other classes. Metrics are measured
again without each group of classes (a jackknife), since a class both asks and is found by others. Where
curves and thresholds are wanted too, of trials and of identification, a bootstrap draws whole classes.
Both take the same classes for both encoders (see other_classes.py)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..evaluation import (
    Evaluated,
    Search,
    retrieval,
    sample_pairs,
    score_pairs,
    verification,
)
from ..evaluation.identification import Probes, probes_of
from ..evaluation.retrieval import RANKS, groups_of
from ..evaluation.weighted import by_metric, pair_metrics_left_out
from .encoder_files import names_of, read_all
from .judgement import Judgement, Side, for_new_classes, threshold_at

PAIRS = 100_000  # of either kind, drawn


def judge(
    paths: Sequence[Path],
    labels: Path | None = None,
    ranks: Sequence[int] = RANKS,
    map_at: int | None = None,
    templates: Path | None = None,
) -> Judgement:
    """Judge the embeddings in one file or in two, of the same samples in the same order, or with the
    same names; `labels` is the file that has those of .npy files, `templates` a table that says which
    samples belong together. Where samples have roles, queries search the gallery. Raises UserError for
    anything else."""
    given = read_all(paths, labels, templates)
    truth = given[0].labels
    classes, place = np.unique(truth, return_inverse=True)
    listed = given[0].queries and given[0].queries.relevant is not None
    if len(classes) < 2 and not listed:
        raise UserError(
            f"{paths[0]}: all samples are of class {classes[0]}, so there is none to confuse"
        )
    place = torch.from_numpy(place)
    try:
        search = Search(given[0].queries, tuple(ranks), map_at, left_out=True)
    except ValueError as error:
        raise UserError(f"{paths[0]}: {error}") from None
    pairs = None if search.queries else sample_pairs(place, PAIRS)
    sides = [
        side(name, torch.from_numpy(one.features), place, pairs, search)
        for name, one in zip(names_of(paths), given, strict=True)
    ]
    return Judgement.of(sides, len(truth), len(classes))


def side(
    name: str, features: Tensor, labels: Tensor, pairs: tuple[Tensor, ...] | None, search: Search
) -> Side:
    retrieved = retrieval(features, labels, search)
    if not retrieved.metrics:
        why = "no class has two samples, so there is nothing to search"
        if pairs is None:
            why = "no query has a relevant sample in the gallery"
        raise UserError(f"{name}: {why}")
    found = Side(name, retrieved.metrics, dict(retrieved.left_out))
    if pairs is None:
        probes = probes_of(retrieved, labels, search)
        return identified(found, probes) if probes else found
    scores = score_pairs(features, *pairs)
    found.left_out |= pair_metrics_left_out(scores, *pairs[:2], *groups_of(labels, search))
    found.metrics = found.metrics | verification(scores)
    return found


def side_of(result: Evaluated) -> Side:
    """The results of a run's evaluation."""
    found = Side("", result.metrics, dict(result.left_out))
    return identified(found, result.probes) if result.probes else found


def identified(found: Side, probes: Probes) -> Side:
    """Add what holds where to some queries nothing in the gallery is relevant: false negatives at false
    positives, thresholds, and the curve."""
    found.metrics = found.metrics | probes.metrics()
    cosines, enrolled = probes.cosines, probes.enrolled
    found.thresholds = [
        threshold_at(rate, cosines, enrolled, probes.right) for rate in probes.supported()
    ]
    above = [(cosines > one.score) & ~enrolled for one in found.thresholds]
    draws, passing = [], []
    for weights in probes.redrawn():
        draws.append(probes.metrics(weights))
        passing.append([weights[those].sum() / weights[~enrolled].sum() for those in above])
    found.draws, found.drawn = by_metric(draws), probes.drawn
    found.thresholds = for_new_classes(found.thresholds, passing, found.drawn)
    found.curve = probes.curve()
    return found
