"""Costs of decisions about pairs, as speaker recognition reports them, and normalised scores.

A decision accepts a pair, or rejects it. With a prior probability P of same pairs, and misses and false
accepts that cost the same, the detection cost is P · miss rate + (1 − P) · false accept rate, divided by
what it costs to decide without looking, min(P, 1 − P) (NIST's speaker recognition evaluations)."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .geometry import directions
from .metrics import Metric, by_name

DETECTION_METRICS = by_name(
    *(Metric(name, "number", False, 0.0, float("inf")) for name in ("min_dcf", "actual_dcf", "cllr"))
)
SMOOTH = 1e-6  # of the calibration's scale and offset, so that perfect scores have a finite one


def min_dcf(far: np.ndarray, tar: np.ndarray, prior: float) -> float:
    """Return the detection cost at the best threshold, given rates (K,) over all thresholds."""
    return float((prior * (1 - tar) + (1 - prior) * far).min()) / min(prior, 1 - prior)


def cross_calibrated(scores: np.ndarray, same: np.ndarray, seed: int = 0) -> np.ndarray:
    """Turn scores (P,) of pairs, `same` (P,) or not, into log-likelihood ratios (P,), by a scale and an
    offset: those that logistic regression finds on the other half of the pairs."""
    half = np.zeros(len(scores), bool)
    rng = np.random.default_rng(seed)
    for kind in (True, False):
        rows = rng.permutation(np.flatnonzero(same == kind))
        half[rows[: len(rows) // 2]] = True
    ratios = np.empty(len(scores))
    for fitted in (half, ~half):
        scale, offset = calibration(scores[fitted], same[fitted])
        ratios[~fitted] = scale * scores[~fitted] + offset
    return ratios


def calibration(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Return the scale and offset for which `scale · score + offset` are log-likelihood ratios with the
    least `cllr` (Brümmer & du Preez 2006)."""
    centre, spread = scores.mean(), max(scores.std(), 1e-12)
    x = (scores - centre) / spread
    sign = np.where(same, 1.0, -1.0)
    weight = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())

    def loss(parameters):
        margin = sign * (parameters[0] * x + parameters[1])
        wrong = weight * np.exp(-np.logaddexp(0, margin))
        slope = np.array([-(wrong * sign * x).sum(), -(wrong * sign).sum()])
        value = (weight * np.logaddexp(0, -margin)).sum() + SMOOTH * (parameters @ parameters)
        return value, slope + 2 * SMOOTH * parameters

    scale, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return scale / spread, offset - scale * centre / spread


def cllr(ratios: np.ndarray, same: np.ndarray) -> float:
    """Return the cost of log-likelihood ratios (P,), in bits: 0 if they are right and sure, 1 if they
    say nothing."""
    of_same = np.logaddexp(0, -ratios[same]).mean()
    return float((of_same + np.logaddexp(0, ratios[~same]).mean()) / (2 * np.log(2)))


def actual_dcf(ratios: np.ndarray, same: np.ndarray, prior: float) -> float:
    """Return the detection cost of the threshold that log-likelihood ratios (P,) themselves imply."""
    accepted = ratios >= np.log((1 - prior) / prior)
    cost = prior * (~accepted[same]).mean() + (1 - prior) * accepted[~same].mean()
    return float(cost) / min(prior, 1 - prior)


@torch.no_grad()
def as_norm(
    cosines: Tensor, first: Tensor, second: Tensor, embeddings: Tensor, cohort: Tensor, top: int
) -> Tensor:
    """Standardise the cosines (P,) of pairs of rows, `first` and `second` (P,), of embeddings (N, D) by
    the mean and standard deviation of each side's `top` highest cosines with a cohort (M, D) of others,
    and return the mean over both sides (AS-Norm, Matejka et al. 2017)."""
    x, others = directions(embeddings), directions(cohort)
    top = min(top, len(others))
    parts = [(rows @ others.T).topk(top).values for rows in x.split(2**12)]
    nearest = torch.cat(parts).double()
    mean, spread = nearest.mean(1), nearest.std(1).clamp_min(1e-12)
    scores = cosines.double()
    return sum((scores - mean[rows]) / spread[rows] for rows in (first, second)) / 2
