"""A margin for each class, learned or taken from the class weights; and margins on squared angles."""

import math

import torch
from torch import Tensor, nn

from .errors import BadArgument, check_number, is_number
from .geometry import arccos, real
from .head import CosineHead, full_precision
from .margin import ArcFace, MarginHead
from .targets import Targets


class AdaMSoftmax(CosineHead):
    """CosFace with a learned margin for each class.

    Equation:
        z_y = s (cos θ_y − m_y)
        z_j = s cos θ_j
        loss = cross entropy + λ (1 − mean_c m_c)

    Without the last term every margin would go to 0; with it those of rare classes grow largest. The
    parameter `margins` (C,) learns at the class weights' rate, and each training step first clamps it
    to [0, 1].

    Args:
        first_margins: (low, high) with 0 ≤ low ≤ high ≤ 1; the first margins are drawn uniformly
            between them.
        margin_weight: λ ≥ 0.

    Raises ValueError for values outside these ranges.
    Source: AdaptiveFace, CVPR 2019.
    """

    published_scale = 30.0
    in_tiles = True
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
        check_number("margin_weight", margin_weight, least=0)
        self.margins = nn.Parameter(torch.empty(self.num_classes, dtype=real()).uniform_(low, high))
        self.margin_weight = margin_weight

    def update_statistics(self, targets: Targets) -> None:
        super().update_statistics(targets)
        self.margins.clamp_(0, 1)

    def target_cosine(self, targets: Targets) -> Tensor:
        return targets.cosine - self.margins[targets.labels]

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss = super().forward(embeddings, labels)
        return loss + self.margin_weight * (1 - self.margins.mean())


class DynArcFace(ArcFace):
    """ArcFace with a margin for each class that grows with the angle to the nearest other class.

    Equation:
        z_y = s ψ(θ_y + m_y)
        z_j = s cos θ_j
        m_c = m + k₂ [δ_c − k₁]₊ + 0.03 m / (1 + (20 |δ_c − k₁|)^1.1)

    δ_c is the angle between the weights of class c and the nearest other class's, without a gradient;
    it costs a product of the batch's class weights with all. The last term rounds off the kink at k₁.
    No settings come with the code: m and s are ArcFace's, k₁ and k₂ ours (0.06 rad more where the
    nearest class stands at 90°).

    Args:
        margin: m in [0, π] radians, the margin of crowded classes.
        least_angle: k₁ in [0, π] radians, from which the margin grows.
        growth: k₂ ≥ 0, radians of margin per radian.

    Raises ValueError for values outside these ranges.
    Source: Dyn-arcFace, Multimedia Tools and Applications 80, 2021, as the authors of X2-Softmax
    (arXiv 2312.05281) coded it.
    """

    published_margin = 0.5
    published_scale = 64.0

    def __init__(self, *args, least_angle: float = 1.0, growth: float = 0.1, **options):
        super().__init__(*args, **options)
        check_number("least_angle", least_angle, least=0, most=math.pi)
        check_number("growth", growth, least=0)
        self.least_angle, self.growth = least_angle, growth

    def neighbour_angle(self, labels: Tensor) -> Tensor:
        """Return δ (B,), the angle in radians from each label's class weights to the nearest other
        ones."""
        prototypes = self.prototypes
        cosine = prototypes[labels] @ prototypes.T
        return arccos(cosine.scatter_(1, labels.unsqueeze(1), -1.0).amax(1))

    def added_angle(self, targets: Targets) -> Tensor:
        beyond = self.neighbour_angle(targets.labels) - self.least_angle
        rounding = 0.03 * self.margin / (1 + (20 * beyond.abs()) ** 1.1)
        return self.margin + self.growth * beyond.relu() + rounding


class QAMFace(MarginHead):
    """Use squared angles in place of cosines, and add a margin to the target's angle.

    Equation:
        z_y = s (2π − (θ_y + m))²
        z_j = s (2π − θ_j)²

    The slope in the angle grows towards the class, where a cosine's would vanish. `logits` are scaled
    cosines, as in every head: they rank the classes alike.

    Args:
        margin: m in [0, π] radians, added to the target's angle.

    Source: QAMFace, ICIP 2020.
    """

    published_margin = 0.5
    published_scale = 6.0
    in_tiles = True
    other_logits = True

    def target_cosine(self, targets: Targets) -> Tensor:
        return quadratic(targets.angle + self.margin)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return quadratic(arccos(cosine))


def quadratic(phi: Tensor) -> Tensor:
    """(2π − φ)²: from 4π² at 0 down to π² at π; φ in radians, any shape."""
    return (2 * math.pi - phi) ** 2
