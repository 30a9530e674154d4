"""Judge embeddings by a list of trials, as LFW, IJB and VoxCeleb do: is each pair of one class?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ..datasets.trials import check_agreement, read_trials, rows_of_trials
from ..errors import UserError
from ..evaluation import PairScores, lowest_far, score_pairs, verification
from ..evaluation.detection import actual_dcf, as_norm, cllr, cross_calibrated, min_dcf
from ..evaluation.verification import FARS, LOWER_FARS, roc, true_accepts
from ..evaluation.weighted import (
    CURVE_POINTS,
    Curve,
    WeightedPairs,
    by_metric,
    metrics_of_rates,
    weights_of_pairs,
)
from .encoder_files import Given, names_of, read, read_all
from .judgement import Judgement, Side, for_new_classes, threshold_at

RATES = (*FARS, *LOWER_FARS)
FEWEST_CALIBRATED = 40  # trials of either kind: each half of them calibrates the other


@dataclass
class TrialOptions:
    """The list `file`, the false accept `rates` of interest, the `prior` probability of same pairs in
    detection costs, and a `cohort` for AS-Norm, of which each side's `top` nearest count."""

    file: Path
    rates: tuple[str, ...] = FARS
    prior: float = 0.01
    cohort: Path | None = None
    top: int = 300

    def __post_init__(self):
        wrong = [rate for rate in self.rates if rate not in RATES]
        if wrong:
            raise UserError(f"--false-accepts {wrong[0]}: choose from {', '.join(RATES)}")
        if not 0 < self.prior < 1:
            raise UserError(f"--prior {self.prior:g}: expected a probability between 0 and 1")
        if self.top < 2:
            raise UserError(f"--cohort-top {self.top}: expected 2 or more")


class Listed(NamedTuple):
    """Rows `first` and `second` (P,) of the trials' samples, whether they are of the `same` class (P,),
    and the classes (P,) and (P,) of both."""

    first: Tensor
    second: Tensor
    same: Tensor
    classes: tuple[np.ndarray, np.ndarray]


def judge_trials(
    paths: Sequence[Path],
    options: TrialOptions,
    labels: Path | None = None,
    templates: Path | None = None,
) -> Judgement:
    """Judge the embeddings in one file or in two by a list of trials, which names samples or, with a
    table of `templates`, these. Raises UserError for a list that does not fit them."""
    given = read_all(paths, labels, templates, unlabelled=True)
    listed = trials_of(paths[0], options.file, given[0])
    cohorts = [cohort_of(options.cohort, one.features) for one in given]
    sides = [
        judged(name, torch.from_numpy(one.features), cohort, listed, options)
        for name, one, cohort in zip(names_of(paths), given, cohorts, strict=True)
    ]
    trials, classes = len(listed.same), sides[0].drawn
    return Judgement.of(sides, trials, classes, judged="trial", headline="eer")


def trials_of(path: Path, file: Path, given: Given) -> Listed:
    """The trials of a list, for the samples of a file. Where these are all of one class, which says
    nothing, the trials say which are alike."""
    labels, names = given.labels, given.names
    if names is None:
        raise UserError(f"{path}: has no array names (N,), by which trials name its samples")
    try:
        trials = read_trials(file, set(names.tolist()))
        first, second = rows_of_trials(trials, names)
        labelled = (labels != labels[0]).any()
        if not labelled:
            ends = first[trials.same], second[trials.same]
            edges = coo_array((np.ones(len(ends[0])), ends), shape=(len(names), len(names)))
            labels = connected_components(edges, directed=False)[1]
        who = f"the labels in {path}" if labelled else "other lines together"
        check_agreement(trials, (first, second), labels, who)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    for kind, what in ((True, "same"), (False, "different")):
        if not (trials.same == kind).any():
            raise UserError(f"{file}: has no trial of the {what} class, so nothing can be told apart")
    rows = map(torch.from_numpy, (first, second, trials.same))
    return Listed(*rows, (labels[first], labels[second]))


def cohort_of(path: Path | None, features: np.ndarray) -> Tensor | None:
    """The embeddings of a cohort (M, D), whose labels do not count; a .npy file holds them alone."""
    if path is None:
        return None
    if path.suffix.lower() == ".npy":
        try:
            cohort = np.load(path, allow_pickle=False).astype(np.float32)
        except Exception as error:  # torn, forged: numpy raises anything
            raise UserError(f"--cohort {path}: cannot be read as an .npy array ({error})") from None
    else:
        cohort = read(path, None, unlabelled=True).features
    if cohort.ndim != 2 or cohort.shape[1] != features.shape[1] or len(cohort) < 2:
        shape = "×".join(map(str, cohort.shape))
        raise UserError(
            f"--cohort {path}: {shape}, expected 2 or more of {features.shape[1]} dimensions"
        )
    if not np.isfinite(cohort).all():
        raise UserError(f"--cohort {path}: does not hold finite numbers of float32")
    if np.allclose(cohort, cohort[0]):
        raise UserError(f"--cohort {path}: all of it is one embedding, so cosines with it do not vary")
    return torch.from_numpy(cohort)


def judged(
    name: str, features: Tensor, cohort: Tensor | None, listed: Listed, options: TrialOptions
) -> Side:
    """The metrics of one file, its thresholds, and its curve, with intervals for other classes."""
    first, second, same, classes = listed
    scores = score_pairs(features, first, second, same, torch.full_like(first, -1))
    if cohort is not None:
        normalised = as_norm(scores.cosines, first, second, features, cohort, options.top)
        scores = scores._replace(cosines=normalised)
    order = scores.cosines.argsort(descending=True, stable=True)  # draws then read memory in order
    scores = PairScores(*(values[order] for values in scores))
    same, classes = scores.same, tuple(side[order.numpy()] for side in classes)
    metrics = verification(scores, options.rates) | costs(scores, options.prior)
    rates = tuple(rate for rate in options.rates if f"tar_at_far_{rate}" in metrics)
    pairs, draws, bands = WeightedPairs(scores), [], []
    own, values = same.numpy(), scores.cosines.numpy()
    thresholds = [threshold_at(rate, values, own, own) for rate in rates]
    passing = [~own & (values > one.score) for one in thresholds]
    rows = [np.flatnonzero(mask) for mask in passing]
    shares = np.geomspace(max(lowest_far(int((~same).sum())), 1e-9), 1, CURVE_POINTS).clip(max=1)
    accepted = []
    for weights in weights_of_pairs(*classes):
        both = pairs.rates(weights)
        draws.append(metrics_of_rates(*both, rates, options.prior))
        bands.append(true_accepts(*both, shares))
        total = weights.sum(where=~own)
        accepted.append([weights[those].sum() / total for those in rows])
    known, drawn = by_metric(draws), len(np.unique(np.concatenate(classes)))
    thresholds = for_new_classes(thresholds, accepted, drawn)
    far, tar = (each.numpy() for each in roc(scores.cosines, scores.same))
    curve = Curve.of(shares, true_accepts(far, tar, shares), bands)
    return Side(name, metrics, draws=known, drawn=drawn, thresholds=thresholds, curve=curve)


def costs(scores: PairScores, prior: float) -> dict[str, float]:
    same = scores.same.numpy()
    found = {"min_dcf": min_dcf(*(rates.numpy() for rates in roc(scores.cosines, scores.same)), prior)}
    if min(same.sum(), (~same).sum()) < FEWEST_CALIBRATED:
        return found
    ratios = cross_calibrated(scores.cosines.double().numpy(), same)
    return found | {"actual_dcf": actual_dcf(ratios, same, prior), "cllr": cllr(ratios, same)}
