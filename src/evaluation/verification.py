"""Same or different? Pairs of embeddings, judged by their cosine alone."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FARS = ("1e-1", "1e-2", "1e-3", "1e-4")
METRICS = ("auc", "eer", *(f"tar_at_far_{far}" for far in FARS), "ten_fold_accuracy")
FOLDS = 10
LFW_PAIRS = 3000  # of each kind, as many as LFW's protocol has
MATRIX = 2**24  # cosines, 64 MiB, that are computed at once
MOST_PAIRS = 2 * 10**8  # that fit in memory at once


class PairScores(NamedTuple):
    """Cosines (P,) of pairs, whether they are of the `same` class (P,), and their `fold` (P,) of the
    protocol; −1 for those that are in none."""

    cosines: Tensor
    same: Tensor
    fold: Tensor


class Roc(NamedTuple):
    """False and true accept rates over falling thresholds, from (0, 0) to (1, 1)."""

    far: Tensor
    tar: Tensor


@torch.no_grad()
def score(
    embeddings: Tensor, first: Tensor, second: Tensor, same: Tensor, fold: Tensor, chunk: int = 2**13
) -> PairScores:
    """Cosines of the pairs of rows `first` and `second` (P,) of embeddings (N, D)."""
    x = F.normalize(embeddings.float(), dim=1)
    first, second = first.to(x.device), second.to(x.device)
    if len(x) ** 2 <= MATRIX:  # of so few, all cosines cost less than gathering rows for each pair
        cosines = (x @ x.T)[first, second]
    else:
        pairs = zip(first.split(chunk), second.split(chunk), strict=True)
        cosines = torch.cat([(x[a] * x[b]).sum(1) for a, b in pairs])
    return PairScores(cosines.cpu(), same.cpu(), fold.cpu())


def sample_pairs(labels: Tensor, count: int | None, seed: int = 0) -> tuple[Tensor, ...]:
    """Pairs (first, second, same, fold) of samples with labels (N,): up to `count` of the same class
    and up to `count` of different ones, drawn by `seed`; all pairs if `count` is None. Up to 3000 of
    each kind are in ten folds, as many of each kind in each. Raises ValueError if there are more than
    memory holds."""
    y = labels.cpu().numpy()
    rng = np.random.default_rng(seed)
    total = len(y) * (len(y) - 1) // 2
    if count is None and total > MOST_PAIRS:
        raise ValueError(f"{total:,} pairs are more than memory holds")
    if count is None or total <= 4 * count:
        first, second = np.triu_indices(len(y), 1)
        same = y[first] == y[second]
        keep = np.concatenate(
            [_some(np.flatnonzero(same == kind), count, rng) for kind in (True, False)]
        )
        first, second, same = first[keep], second[keep], same[keep]
    else:
        first, second = _same_pairs(y, count, rng)
        others = _different_pairs(y, count, rng)
        same = np.arange(len(first) + len(others[0])) < len(first)
        first, second = np.concatenate([first, others[0]]), np.concatenate([second, others[1]])
    fold = np.full(len(same), -1)
    in_folds = min(LFW_PAIRS, same.sum(), (~same).sum()) // FOLDS * FOLDS
    for kind in (True, False):
        chosen = rng.choice(np.flatnonzero(same == kind), in_folds, replace=False)
        fold[chosen] = np.arange(in_folds) * FOLDS // max(in_folds, 1)
    return tuple(map(torch.from_numpy, (first, second, same, fold)))


def _some(rows: np.ndarray, count: int | None, rng: np.random.Generator) -> np.ndarray:
    if count is None or len(rows) <= count:
        return rows
    return np.sort(rng.choice(rows, count, replace=False))


def _same_pairs(y: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs within classes: all, or each equally likely to be among `count` of them, some perhaps
    twice."""
    order = np.argsort(y, kind="stable")
    sizes = np.unique(y, return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    each = sizes * (sizes - 1) // 2
    if each.sum() <= count:
        parts = [np.stack(np.triu_indices(n, 1)) + start for n, start in zip(sizes, starts, strict=True)]
        first, second = np.concatenate(parts, 1)
    else:
        of = rng.choice(len(sizes), count, p=each / each.sum())
        first = rng.integers(sizes[of])
        second = (first + 1 + rng.integers(sizes[of] - 1)) % sizes[of]
        first, second = first + starts[of], second + starts[of]
    return order[first], order[second]


def _different_pairs(
    y: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`count` pairs of different classes, each equally likely; some perhaps twice."""
    found = np.empty((2, 0), int)
    if len(np.unique(y)) < 2:
        return found[0], found[1]
    while found.shape[1] < count:
        drawn = rng.integers(len(y), size=(2, 2 * (count - found.shape[1]) + 16))
        found = np.concatenate([found, drawn[:, y[drawn[0]] != y[drawn[1]]]], 1)
    return found[0, :count], found[1, :count]


def roc(cosines: Tensor, same: Tensor) -> Roc:
    """The curve over all thresholds that tell pairs apart; equal cosines are accepted together."""
    cosines, order = cosines.sort(descending=True)
    same = same[order].double()
    last = torch.cat([cosines[1:] != cosines[:-1], torch.tensor([True])])  # of its run of equal cosines
    accepted, right = torch.arange(1, len(same) + 1)[last], same.cumsum(0)[last]
    start = torch.zeros(1, dtype=torch.float64)
    far = torch.cat([start, (accepted - right) / (1 - same).sum()])
    return Roc(far, torch.cat([start, right / same.sum()]))


def supported(same: Tensor, fold: Tensor) -> tuple[str, ...]:
    """Those of METRICS that pairs have something to say on: `same` (P,), `fold` (P,)."""
    negatives = int((~same).sum())
    if not negatives or negatives == len(same):
        return ()
    rates = [f"tar_at_far_{rate}" for rate in FARS if float(rate) * negatives >= 1 - 1e-9]
    folded = ("ten_fold_accuracy",) if len(fold[fold >= 0].unique()) > 1 else ()
    return ("auc", "eer", *rates, *folded)


def verification(scores: PairScores) -> dict[str, float]:
    """What the cosines (P,) of pairs are worth, in those of METRICS that are `supported`.

    auc                area under the ROC curve, ties counting half
    eer                the rate at which as many are falsely accepted as falsely rejected, interpolated
    tar_at_far_<f>     share of same pairs accepted at the lowest threshold that accepts at most a
                       share f of different ones; where f of the different pairs is at least one pair
    ten_fold_accuracy  LFW's protocol (Huang et al. 2007): each fold judged at the threshold that is
                       best on the other nine, the mean of ten
    """
    cosines, same, fold = scores
    names = supported(same, fold)
    if not names:
        return {}
    far, tar = roc(cosines, same)
    metrics = {"auc": float(torch.trapezoid(tar, far)), "eer": equal_error_rate(far, tar)}
    for rate in FARS:
        metrics[f"tar_at_far_{rate}"] = float(tar[far <= float(rate) + 1e-12].max())
    if "ten_fold_accuracy" in names:
        used = fold >= 0
        accuracies = fold_accuracies(cosines[used], same[used], fold[used])
        metrics["ten_fold_accuracy"] = float(np.mean(accuracies))
    return {name: metrics[name] for name in names}


def equal_error_rate(far: Tensor, tar: Tensor) -> float:
    """Where the false accept rate, rising, meets the false reject rate, falling; a straight line between
    thresholds."""
    gap = far - (1 - tar)
    after = int((gap >= 0).nonzero()[0])  # 1 at least: at first nothing is accepted
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(far[after - 1] + share * (far[after] - far[after - 1]))


def fold_accuracies(cosines: Tensor, same: Tensor, fold: Tensor) -> list[float]:
    """Of each fold, at the threshold that is right most often in all the others."""
    found = []
    for each in fold.unique():
        inside = fold == each
        threshold = best_threshold(cosines[~inside], same[~inside])
        found.append(float(((cosines[inside] >= threshold) == same[inside]).double().mean()))
    return found


def best_threshold(cosines: Tensor, same: Tensor) -> float:
    """Halfway between the two cosines whose separation makes the fewest mistakes."""
    cosines, order = cosines.double().sort(descending=True)
    gain = torch.where(same[order], 1, -1).cumsum(0)
    last = torch.cat([cosines[1:] != cosines[:-1], torch.tensor([True])])
    best = int(gain.masked_fill(~last, -len(gain)).argmax())
    if gain[best] <= 0:  # better to accept none
        return float("inf")
    below = cosines[best + 1] if best + 1 < len(cosines) else cosines[best]
    return float((cosines[best] + below) / 2)
