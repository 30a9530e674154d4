"""A margin for each class, learned or taken from the class weights; and margins on squared angles."""

import math

import torch
from torch import Tensor, nn

from .errors import BadArgument
from .geometry import arccos
from .head import CosineHead, full_precision
from .margin import ArcFace, MarginHead, is_number
from .targets import Targets


class AdaMSoftmax(CosineHead):
    """t = cos θ − m_y with a learned margin for each class, in [0, 1]; λ (1 − mean of m_c) is added to
    the loss: without it every margin would go to 0, with it those of rare classes grow largest.

    `margins` (C,) start between the two `first_margins`, drawn evenly, and learn at the class weights'
    rate; each training step first puts back into [0, 1] what the last one took out. Published
    λ 70, s 30, first margins 0.3 to 0.4. Raises ValueError unless 0 ≤ first ≤ second ≤ 1 and λ ≥ 0.
    Source: AdaptiveFace, CVPR 2019.
    """

    published_scale = 30.0
    plain_slopes = True

    def __init__(
        self,
        *args,
        first_margins: tuple[float, float] = (0.3, 0.4),
        margin_weight: float = 70.0,
        **options,
    ):
        super().__init__(*args, **options)
        pair = isinstance(first_margins, (list, tuple)) and len(first_margins) == 2
        numbers = pair and all(map(is_number, first_margins))
        if not (numbers and 0 <= first_margins[0] <= first_margins[1] <= 1):
            why = "expected two numbers, 0 ≤ first ≤ second ≤ 1"
            raise BadArgument("first_margins", first_margins, why)
        low, high = first_margins
        if not (is_number(margin_weight) and 0 <= margin_weight < math.inf):
            raise BadArgument("margin_weight", margin_weight, "expected a finite number ≥ 0")
        self.margins = nn.Parameter(torch.empty(self.num_classes).uniform_(low, high))
        self.margin_weight = margin_weight

    def update_statistics(self, targets: Targets, cosine: Tensor) -> None:
        super().update_statistics(targets, cosine)
        self.margins.clamp_(0, 1)

    def target_cosine(self, targets: Targets) -> Tensor:
        return targets.cosine - self.margins[targets.labels]

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss = super().forward(embeddings, labels)
        return loss + self.margin_weight * (1 - self.margins.mean())


class DynArcFace(ArcFace):
    """ArcFace with a margin for each class that grows with the angle δ between its weights and the
    nearest other class's: m_c = m + k₂ [δ_c − k₁]₊ + 0.03 m / (1 + (20 |δ_c − k₁|)^1.1), without a
    gradient. Crowded classes keep m; the last term rounds off the kink at k₁.

    k₁ is `least_angle` in radians, k₂ `growth`; δ costs a product of the batch's class weights with all.
    No settings come with the code: m 0.5 and s 64 are ArcFace's, k₁ 1 and k₂ 0.1 ours (0.06 rad more
    where the nearest class stands at 90°). Raises ValueError unless k₁ is in [0, π] and k₂ ≥ 0.
    Source: Dyn-arcFace, Multimedia Tools and Applications 80, 2021, as the authors of X2-Softmax
    (arXiv 2312.05281) coded it.
    """

    published_margin = 0.5
    published_scale = 64.0

    def __init__(self, *args, least_angle: float = 1.0, growth: float = 0.1, **options):
        super().__init__(*args, **options)
        if not (is_number(least_angle) and 0 <= least_angle <= math.pi):
            raise BadArgument("least_angle", least_angle, "expected an angle from 0 to π")
        if not (is_number(growth) and 0 <= growth < math.inf):
            raise BadArgument("growth", growth, "expected a finite number ≥ 0")
        self.least_angle, self.growth = least_angle, growth

    def neighbour_angle(self, labels: Tensor) -> Tensor:
        """δ (B,): from each label's class weights to the nearest other class's, in radians."""
        prototypes = self.prototypes
        cosine = prototypes[labels] @ prototypes.T
        return arccos(cosine.scatter_(1, labels.unsqueeze(1), -1.0).amax(1))

    def added_angle(self, targets: Targets) -> Tensor:
        beyond = self.neighbour_angle(targets.labels) - self.least_angle
        rounding = 0.03 * self.margin / (1 + (20 * beyond.abs()) ** 1.1)
        return self.margin + self.growth * beyond.relu() + rounding


class QAMFace(MarginHead):
    """z_y = s (2π − (θ_y + m))², z_j = s (2π − θ_j)², m in [0, π] radians: the slope in the angle grows
    towards the class, where a cosine's would vanish.

    `logits` are scaled cosines, as in every head: they rank the classes alike. Published m 0.5, s 6.
    Source: QAMFace, ICIP 2020.
    """

    published_margin = 0.5
    published_scale = 6.0

    def target_cosine(self, targets: Targets) -> Tensor:
        return quadratic(targets.angle + self.margin)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return quadratic(arccos(cosine))


def quadratic(phi: Tensor) -> Tensor:
    """(2π − φ)²: from 4π² at 0 down to π² at π; φ in radians, any shape."""
    return (2 * math.pi - phi) ** 2
