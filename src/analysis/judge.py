"""Compare two encoders by the embeddings that they give the same samples.

Nothing is trained here, so there are no seeds: the doubt is about other classes. Metrics are measured
again without each group of classes (a jackknife), since a class both asks and is found by others. Where
curves and thresholds are wanted too, of trials and of identification, a bootstrap draws whole classes.
Both take the same classes for both encoders (see people.py)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..evaluation import (
    Retrieval,
    Search,
    retrieval,
    sample_pairs,
    score_pairs,
    verification,
)
from ..evaluation.identification import Probes, identification
from ..evaluation.retrieval import RANKS, Relevance, joined_classes
from ..evaluation.verification import FALSE_ACCEPTS, true_accepts
from ..evaluation.weighted import pair_metrics_left_out
from .encoder_files import names_of, read_all
from .judgement import CURVE_POINTS, Curve, Judgement, Side, for_new_classes, threshold_at
from .people import by_metric, weights_of_classes

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
    if len(classes) < 2:
        raise UserError(
            f"{paths[0]}: all samples are of class {classes[0]}, so there is none to confuse"
        )
    place = torch.from_numpy(place)
    try:
        searched = given[0].roles, given[0].cameras
        search = Search(*searched, tuple(ranks), map_at, left_out=True, relevant=given[0].relevant)
    except ValueError as error:
        raise UserError(f"{paths[0]}: {error}") from None
    pairs = None if search.roles is not None else sample_pairs(place, PAIRS)
    sides = [
        side(name, torch.from_numpy(one.features), place, pairs, search)
        for name, one in zip(names_of(paths), given, strict=True)
    ]
    drawn = joined_classes(place, search).numpy()
    return Judgement.of(sides, len(truth), len(classes), drawn)


def side(
    name: str, features: Tensor, labels: Tensor, pairs: tuple[Tensor, ...] | None, search: Search
) -> Side:
    retrieved = retrieval(features, labels, search)
    if not retrieved.metrics:
        why = "no class has two samples, so there is nothing to search"
        if pairs is None:
            why = "no query has a sample of its class in the gallery"
        raise UserError(f"{name}: {why}")
    found = Side(name, retrieved.metrics, dict(retrieved.left_out))
    if pairs is None:
        return identified(found, retrieved, labels, search)
    scores = score_pairs(features, *pairs)
    found.left_out |= pair_metrics_left_out(scores, *pairs[:2], labels)
    found.metrics = found.metrics | verification(scores)
    return found


def identified(found: Side, retrieved: Retrieval, labels: Tensor, search: Search) -> Side:
    """Add what holds where to some queries nothing in the gallery is relevant."""
    queries = search.rows("query")
    right = Relevance(labels, search)(queries, retrieved.nearest[queries, :1])[:, 0].numpy()
    enrolled = np.isfinite(retrieved.per_query[queries, 0].numpy())
    cosines = retrieved.cosine[queries].numpy()
    probes = Probes(cosines, enrolled, right)
    rates = probes.supported()
    if not rates or not enrolled.any():
        return found
    fpir, reached = probes.rates()
    found.metrics = found.metrics | identification(fpir, reached, rates)
    found.thresholds = [threshold_at(rate, cosines, enrolled, right) for rate in rates]
    shares = np.geomspace(FALSE_ACCEPTS / (~enrolled).sum(), 1, CURVE_POINTS)
    draws, bands, passing = [], [], []
    for weights in weights_of_classes(joined_classes(labels, search)[queries].numpy()):
        if not weights[enrolled].any() or not weights[~enrolled].any():
            continue
        both = probes.rates(weights)
        draws.append(identification(*both, rates))
        bands.append(true_accepts(*both, shares))
        above = [(cosines > one.score) & ~enrolled for one in found.thresholds]
        passing.append([weights[those].sum() / weights[~enrolled].sum() for those in above])
    found.draws = by_metric(draws)
    if found.draws:
        found.thresholds = for_new_classes(found.thresholds, passing)
    band = np.array(bands) if found.draws else None
    found.curve = Curve.of(shares, true_accepts(fpir, reached, shares), band)
    return found
