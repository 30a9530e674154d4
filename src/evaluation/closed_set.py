"""How close samples of known classes lie to their own prototype, and how far from the others."""

from typing import NamedTuple

import torch
from torch import Tensor

from .geometry import measurable
from .metrics import Metric, by_name, settled

PERCENTILES = (5, 50, 95)
_STATISTICS = ("mean", *(f"p{p:02d}" for p in PERCENTILES))
ROWS = 4096  # samples at a time, at most
TILE = 2**24  # logits at a time: 64 MiB
CLOSED_SET_METRICS = by_name(
    Metric.share("accuracy", "images"),
    Metric.share("worst_recall", "smallest_class"),
    Metric.share("margin_satisfied", "images"),
    *(Metric.angle(f"target_angle_{s}", higher_is_better=False) for s in _STATISTICS),
    *(Metric.angle(f"other_angle_{s}", higher_is_better=True) for s in _STATISTICS),
)


class ClosedSet(NamedTuple):
    """`metrics`, CLOSED_SET_METRICS by name, angles in radians, none unless the embeddings are
    `measurable`; `recall` (C,) of each class, nan for one
    without samples; `predicted` (N,), the class of the largest logit; `target_angle` and `other_angle`
    (N,) of each sample, to its own prototype and to the nearest other one."""

    metrics: dict[str, float]
    recall: Tensor
    predicted: Tensor
    target_angle: Tensor
    other_angle: Tensor


@torch.no_grad()
def closed_set(head, embeddings: Tensor, labels: Tensor, tile: int = TILE) -> ClosedSet:
    """Evaluate embeddings (N, D) with labels (N,) against a head's prototypes (C, D), with about `tile`
    logits in memory at a time.

    accuracy          share of samples whose target logit, without margin, is the largest
    worst_recall      the smallest recall of a class
    margin_satisfied  share of samples whose target logit is the largest even with the margin
    target_angle_*    angle to the sample's own prototype: mean and percentiles
    other_angle_*     angle to the nearest other prototype: mean and percentiles
    """
    classes = head.num_classes
    chunk = min(ROWS, max(1, tile // classes))
    # Allocated before the loop: small results between large blocks that are freed fragment the memory.
    predicted, satisfied = torch.empty_like(labels), torch.empty_like(labels, dtype=torch.bool)
    target_angle, other_angle = torch.empty(
        2, len(labels), dtype=head.weight.dtype, device=labels.device
    )
    for first in range(0, len(labels), chunk):
        rows = slice(first, first + chunk)
        x, y = embeddings[rows], labels[rows]
        predicted[rows] = head.logits(x).argmax(1)
        satisfied[rows] = head.margin_logits(x, y).argmax(1) == y
        angle, own = head.cosines(x).clamp(-1, 1).acos(), y[:, None]
        target_angle[rows] = angle.gather(1, own).squeeze(1)
        other_angle[rows] = angle.scatter_(1, own, torch.inf).amin(1)

    # The rest is on the CPU: only a few numbers are left, and not every device has float64.
    labels, predicted, satisfied = labels.cpu(), predicted.cpu(), satisfied.cpu()
    target_angle, other_angle, correct = target_angle.cpu(), other_angle.cpu(), predicted == labels
    right = torch.bincount(labels[correct], minlength=classes)
    # The recall of a class without samples is nan, and does not count as the worst.
    recall = right.double() / torch.bincount(labels, minlength=classes)
    values = [correct.double().mean(), recall[~recall.isnan()].min(), satisfied.double().mean()]
    for angle in (target_angle.double(), other_angle.double()):
        values += [angle.mean(), *(angle.quantile(p / 100) for p in PERCENTILES)]
    metrics = dict(zip(CLOSED_SET_METRICS, torch.stack(values).tolist(), strict=True))
    metrics = settled(CLOSED_SET_METRICS, metrics) if measurable(embeddings) else {}
    return ClosedSet(metrics, recall, predicted, target_angle, other_angle)
