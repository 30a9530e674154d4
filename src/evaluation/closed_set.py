"""How well samples of known classes lie at their own prototype and away from the others."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PERCENTILES = (5, 50, 95)
METRICS = (
    "accuracy",
    "worst_recall",
    "margin_satisfied",
    *(
        f"{which}_angle_{what}"
        for which in ("target", "other")
        for what in ("mean", *(f"p{p:02d}" for p in PERCENTILES))
    ),
)


class ClosedSet(NamedTuple):
    """`metrics` by the names in METRICS, angles in radians; per class: `recall` (C,); per pair of
    classes: `confusion` (C, C), rows true, counts; per sample: `target_angle` and `other_angle` (N,),
    to the own prototype and to the nearest other one."""

    metrics: dict[str, float]
    recall: Tensor
    confusion: Tensor
    target_angle: Tensor
    other_angle: Tensor


@torch.no_grad()
def closed_set(head, embeddings: Tensor, labels: Tensor, chunk: int = 4096) -> ClosedSet:
    """Evaluate embeddings (N, D) with labels (N,) against a head's prototypes (C, D).

    accuracy          share of samples whose largest logit, without margin, is their own class's
    worst_recall      the smallest recall of a class
    margin_satisfied  share whose own logit is the largest even with the margin on it
    *_angle_*         angle to the own (target) and to the nearest other prototype
    """
    classes = head.num_classes
    right, satisfied, predicted, target_angle, other_angle = [], [], [], [], []
    for x, y in zip(embeddings.split(chunk), labels.split(chunk), strict=True):
        prediction = head.logits(x).argmax(1)
        predicted.append(prediction)
        right.append(prediction == y)
        satisfied.append(head.margin_logits(x, y).argmax(1) == y)
        own = F.one_hot(y, classes).bool()
        angle = head.cosines(x).clamp(-1, 1).acos()
        target_angle.append(angle[own])
        other_angle.append(angle.masked_fill(own, torch.inf).amin(1))

    # From here on the CPU: there are few numbers left, and not every device knows float64.
    right, satisfied, predicted, target_angle, other_angle = (
        torch.cat(parts).cpu() for parts in (right, satisfied, predicted, target_angle, other_angle)
    )
    labels = labels.cpu()
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2)
    confusion = confusion.view(classes, classes)
    # A class without samples has no recall, and does not count as the worst.
    recall = confusion.diagonal().double() / confusion.sum(1)
    values = [right.double().mean(), recall[~recall.isnan()].min(), satisfied.double().mean()]
    for angle in (target_angle.double(), other_angle.double()):
        values += [angle.mean(), *(angle.quantile(p / 100) for p in PERCENTILES)]
    metrics = dict(zip(METRICS, torch.stack(values).tolist(), strict=True))
    return ClosedSet(metrics, recall, confusion, target_angle, other_angle)
