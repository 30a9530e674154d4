"""Verification: are two embeddings of the same class? Judged by their cosine alone."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .geometry import directions
from .metrics import Metric, by_name, finite_values

FARS = ("1e-1", "1e-2", "1e-3", "1e-4")
LOWER_FARS = ("1e-5", "1e-6")  # which few lists of pairs can measure
VERIFICATION_METRICS = by_name(
    Metric.share("auc", "same_pairs", "different_pairs"),
    Metric.share("eer", "same_pairs", "different_pairs", higher_is_better=False),
    *(Metric.share(f"tar_at_far_{far}", "same_pairs") for far in FARS),
    Metric.share("ten_fold_accuracy", "folded_pairs"),
)
RARE_METRICS = by_name(*(Metric.share(f"tar_at_far_{far}", "same_pairs") for far in LOWER_FARS))
FOLDS = 10
FALSE_ACCEPTS = 10  # with fewer, a rate of them is not measured
LFW_PAIRS = 3000  # same pairs, and as many different ones, in LFW's protocol
MATRIX = 2**24  # cosines, 64 MiB: up to this many, all are computed in one product
BINS, CURVE_POINTS = 90, 2000  # in figures
MOST_PAIRS = 2 * 10**8  # more do not fit in memory


class PairScores(NamedTuple):
    """`cosines` (P,) of pairs; `same` (P,), whether both are of one class; `fold` (P,), the fold of each
    pair in ten-fold accuracy, −1 for pairs in none."""

    cosines: Tensor
    same: Tensor
    fold: Tensor


class PairCurves(NamedTuple):
    """What figures show of pairs, in a few thousand numbers. First same pairs, then different ones: the
    `pair_shares` (2, BINS) of their angles between `pair_edges` (BINS + 1,), `pair_counts` (2,) and
    `pair_medians` (2,), angles in radians. Then true accept rates `tar` (K,) over rising false accept
    rates `far` (K,)."""

    pair_edges: np.ndarray
    pair_shares: np.ndarray
    pair_counts: np.ndarray
    pair_medians: np.ndarray
    far: np.ndarray
    tar: np.ndarray


class Roc(NamedTuple):
    """False and true accept rates (K,) over falling thresholds, from (0, 0) to (1, 1)."""

    far: Tensor
    tar: Tensor


@torch.no_grad()
def score_pairs(
    embeddings: Tensor, first: Tensor, second: Tensor, same: Tensor, fold: Tensor, chunk: int = 2**13
) -> PairScores:
    """Score pairs of rows, `first` and `second` (P,), of embeddings (N, D) by their cosines."""
    x = directions(embeddings)
    first, second = first.to(x.device), second.to(x.device)
    if len(x) ** 2 <= MATRIX:  # all cosines then cost less than gathering two rows per pair
        cosines = (x @ x.T)[first, second]
    else:
        pairs = zip(first.split(chunk), second.split(chunk), strict=True)
        cosines = torch.cat([(x[a] * x[b]).sum(1) for a, b in pairs])
    return PairScores(cosines.cpu(), same.cpu(), fold.cpu())


def sample_pairs(labels: Tensor, count: int | None, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw pairs (first, second, same, fold), each (P,), of samples with labels (N,).

    They are up to `count` of the same class and up to `count` of different classes, drawn by `seed`,
    from large sets with repetition; all pairs if `count` is None. Up to 3000 of each kind are in ten
    folds, as many of each kind in every fold. Raises ValueError if all pairs are more than memory
    holds."""
    y = labels.cpu().numpy()
    rng = np.random.default_rng(seed)
    total = len(y) * (len(y) - 1) // 2
    if count is None and total > MOST_PAIRS:
        raise ValueError(f"{total:,} pairs are more than memory holds")
    if count is None or total <= 4 * count:
        first, second = np.triu_indices(len(y), 1)
        same = y[first] == y[second]
        keep = np.concatenate(
            [_draw(np.flatnonzero(same == kind), count, rng) for kind in (True, False)]
        )
        first, second, same = first[keep], second[keep], same[keep]
    else:
        first, second = _same_pairs(y, count, rng)
        different = _different_pairs(y, count, rng)
        same = np.arange(len(first) + len(different[0])) < len(first)
        first, second = np.concatenate([first, different[0]]), np.concatenate([second, different[1]])
    fold = np.full(len(same), -1)
    in_folds = min(LFW_PAIRS, same.sum(), (~same).sum()) // FOLDS * FOLDS
    for kind in (True, False):
        chosen = rng.choice(np.flatnonzero(same == kind), in_folds, replace=False)
        fold[chosen] = np.arange(in_folds) * FOLDS // max(in_folds, 1)
    return tuple(map(torch.from_numpy, (first, second, same, fold)))


def _draw(rows: np.ndarray, count: int | None, rng: np.random.Generator) -> np.ndarray:
    if count is None or len(rows) <= count:
        return rows
    return np.sort(rng.choice(rows, count, replace=False))


def _same_pairs(y: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs within classes if they are at most `count`; else draw `count` of them, each
    equally likely, with repetition."""
    order = np.argsort(y, kind="stable")
    sizes = np.unique(y, return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    pairs = sizes * (sizes - 1) // 2
    if pairs.sum() <= count:
        parts = [np.stack(np.triu_indices(n, 1)) + start for n, start in zip(sizes, starts, strict=True)]
        first, second = np.concatenate(parts, 1)
    else:
        label = rng.choice(len(sizes), count, p=pairs / pairs.sum())
        first = rng.integers(sizes[label])
        second = (first + 1 + rng.integers(sizes[label] - 1)) % sizes[label]
        first, second = first + starts[label], second + starts[label]
    return order[first], order[second]


def _different_pairs(
    y: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` pairs of different classes, each equally likely, with repetition."""
    pairs = np.empty((2, 0), int)
    if len(np.unique(y)) < 2:
        return pairs[0], pairs[1]
    while pairs.shape[1] < count:
        drawn = rng.integers(len(y), size=(2, 2 * (count - pairs.shape[1]) + 16))
        pairs = np.concatenate([pairs, drawn[:, y[drawn[0]] != y[drawn[1]]]], 1)
    return pairs[0, :count], pairs[1, :count]


def roc(cosines: Tensor, same: Tensor) -> Roc:
    """Return the ROC curve of `cosines` (P,) of pairs, `same` (P,) or not, over all distinct thresholds;
    pairs with equal cosines are accepted together."""
    # NumPy sorts values with vector instructions, several times faster than torch sorts them with their
    # order. So same pairs are counted by a search, not by following the order.
    falling = np.sort(cosines.numpy())[::-1]
    last = np.append(falling[1:] != falling[:-1], True)  # of equal cosines
    thresholds, accepted = falling[last], np.flatnonzero(last) + 1
    of_same = np.sort(cosines[same].numpy())
    correct = len(of_same) - np.searchsorted(of_same, thresholds)
    different = (accepted - correct) / (len(same) - len(of_same))
    curve = (np.concatenate([[0.0], rates]) for rates in (different, correct / len(of_same)))
    return Roc(*map(torch.from_numpy, curve))


def true_accepts(far: np.ndarray, tar: np.ndarray, at: float | np.ndarray) -> np.ndarray:
    """Return the largest of true accept rates (K,) whose false accept rates (K,) are at most `at`."""
    return tar[np.searchsorted(far, at + 1e-12, "right") - 1]


def lowest_far(different: int) -> float:
    """Return the smallest false accept rate that this many pairs of different classes can measure; above
    1 if they are too few for any."""
    return FALSE_ACCEPTS / different if different else float("inf")


def supported_metrics(same: Tensor, fold: Tensor, rates: tuple[str, ...] = FARS) -> tuple[str, ...]:
    """Return the names of `verification`'s metrics for which there are enough pairs: `same` (P,), `fold`
    (P,), with true accept rates at these `rates` of false accepts."""
    negatives = int((~same).sum())
    if not negatives or negatives == len(same):
        return ()
    lowest = lowest_far(negatives) - 1e-12
    named = [f"tar_at_far_{rate}" for rate in rates if float(rate) >= lowest]
    folded = ("ten_fold_accuracy",) if len(fold[fold >= 0].unique()) == FOLDS else ()
    return ("auc", "eer", *named, *folded)


def verification(scores: PairScores, rates: tuple[str, ...] = FARS) -> dict[str, float]:
    """Return how well cosines tell same pairs from different ones, in the `supported_metrics`; none if a
    cosine is not a number.

    auc                area under the ROC curve, ties count half
    eer                equal error rate: false accept rate = false reject rate, interpolated
    tar_at_far_<f>     true accept rate at the lowest threshold whose false accept rate is at most f;
                       absent if a share f of the different pairs is fewer than ten pairs
    ten_fold_accuracy  LFW's protocol (Huang et al. 2007): accuracy on each fold at the threshold that
                       is best on the other nine, mean over the ten; absent unless there are ten
    """
    cosines, same, fold = scores
    names = supported_metrics(same, fold, rates)
    if not names or not cosines.isfinite().all():
        return {}
    far, tar = roc(cosines, same)
    metrics = {
        "auc": float(torch.trapezoid(tar, far)),
        "eer": equal_error_rate(far.numpy(), tar.numpy()),
    }
    for rate in rates:
        metrics[f"tar_at_far_{rate}"] = float(tar[far <= float(rate) + 1e-12].max())
    if "ten_fold_accuracy" in names:
        folded = fold >= 0
        accuracies = fold_accuracies(cosines[folded], same[folded], fold[folded])
        metrics["ten_fold_accuracy"] = float(np.mean(accuracies))
    return finite_values(VERIFICATION_METRICS | RARE_METRICS, {name: metrics[name] for name in names})


def pair_curves(scores: PairScores) -> PairCurves:
    """Return the curves of same and different pairs."""
    same = scores.same.numpy()
    angles = np.arccos(scores.cosines.double().clamp(-1, 1).numpy())
    span = (0, max(np.radians(10), angles.max()))
    kinds = angles[same], angles[~same]
    shares = [np.histogram(kind, BINS, span)[0] / len(kind) for kind in kinds]
    far, tar = (rates.numpy() for rates in roc(scores.cosines, scores.same))
    rows = np.searchsorted(far, np.geomspace(lowest_far(len(kinds[1])), 1, CURVE_POINTS))
    rows = np.unique(rows.clip(max=len(far) - 1))
    return PairCurves(
        np.linspace(*span, BINS + 1),
        np.array(shares),
        np.array([len(kind) for kind in kinds]),
        np.array([np.median(kind) for kind in kinds]),
        far[rows],
        tar[rows],
    )


def equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    """Return the rate at which false accepts, `far` (K,), equal false rejects, 1 − `tar` (K,); linear
    between thresholds."""
    gap = far - (1 - tar)
    after = int((gap >= 0).argmax())  # at least 1: at first nothing is accepted
    fraction = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(far[after - 1] + fraction * (far[after] - far[after - 1]))


def fold_accuracies(cosines: Tensor, same: Tensor, fold: Tensor) -> list[float]:
    """Return the accuracy on each fold at the threshold that is best on all others."""
    accuracies = []
    for number in fold.unique():
        inside = fold == number
        threshold = best_threshold(cosines[~inside], same[~inside])
        accuracies.append(float(((cosines[inside] >= threshold) == same[inside]).double().mean()))
    return accuracies


def best_threshold(cosines: Tensor, same: Tensor) -> float:
    """Return the threshold with the fewest errors, halfway between two neighbouring cosines; infinite if
    it is best to accept no pair."""
    cosines, order = cosines.double().sort(descending=True)
    gain = torch.where(same[order], 1, -1).cumsum(0)
    last = torch.cat([cosines[1:] != cosines[:-1], torch.tensor([True])])
    best = int(gain.masked_fill(~last, -len(gain)).argmax())
    if gain[best] <= 0:
        return float("inf")
    below = cosines[best + 1] if best + 1 < len(cosines) else cosines[best]
    return float((cosines[best] + below) / 2)
