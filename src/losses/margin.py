"""Members with one fixed margin on the target: z_y = s (ψ(m1 θ_y + m2) − m3)."""

import math

import torch
from torch import Tensor, nn

from .head import AngularMarginHead, MarginHead, Target, cosines, full_precision, is_number, unit


class CosFace(MarginHead):
    """t = cos θ − m, m in [0, 2]. Published m 0.35, s 64; the same loss as AM-Softmax.

    Source: CosFace, arXiv 1801.09414; AM-Softmax, arXiv 1801.05599.
    """

    margin_range = (0.0, 2.0)

    def target(self, target: Target) -> tuple[Tensor, Tensor]:
        return target.cosine - self.margin, torch.ones_like(target.cosine)


class ArcFace(AngularMarginHead):
    """t = ψ(θ + m), m in [0, π] radians. Published m 0.5, s 64. Source: ArcFace, arXiv 1801.07698."""

    def moved_angle(self, target: Target) -> tuple[Tensor, float]:
        return target.angle + self.margin, 1.0


class SphereFace(AngularMarginHead):
    """t = ψ(m θ), m ≥ 1 (1 is no margin): SphereFace with normalised embeddings and a scale.

    Published m 1.35, s 64: ArcFace's reading of it, arXiv 1801.07698; after arXiv 1704.08063.
    """

    no_margin = 1.0
    margin_range = (1.0, math.inf)

    def moved_angle(self, target: Target) -> tuple[Tensor, Tensor]:
        return self.margin * target.angle, self.margin


class CombinedMargin(AngularMarginHead):
    """t = ψ(m1 θ + m2) − m3, margin = (m1, m2, m3), m1 > 0, m2 and m3 ≥ 0; (1, 0, 0) is no margin.

    Published with s 64: (1.5, 0, 0), (1.2, 0.4, 0), (1.1, 0, 0.35), (1, 0.3, 0.2), (0.9, 0.4, 0.15).
    Source: ArcFace, arXiv 1801.07698, section 3.2.
    """

    no_margin = (1.0, 0.0, 0.0)

    @classmethod
    def check_margin(cls, margin: tuple[float, float, float]) -> tuple[float, float, float]:
        if isinstance(margin, (list, tuple)) and len(margin) == 3 and all(map(is_number, margin)):
            m1, m2, m3 = margin
            if 0 < m1 < math.inf and 0 <= m2 <= math.pi and 0 <= m3 <= 2:
                return float(m1), float(m2), float(m3)
        raise ValueError(
            f"CombinedMargin's margin is three finite numbers [m1, m2, m3] with m1 > 0, "
            f"0 ≤ m2 ≤ π, 0 ≤ m3 ≤ 2, got {margin}"
        )

    def moved_angle(self, target: Target) -> tuple[Tensor, Tensor]:
        m1, m2, _ = self.margin.unbind(-1)
        return m1 * target.angle + m2, m1

    def target(self, target: Target) -> tuple[Tensor, Tensor]:
        m1, m2, m3 = self.margin.unbind(-1)
        t, slope = super().target(target)
        # An angle that does not move keeps its cosine to the last bit: (1, 0, m3) is CosFace exactly.
        still = (m1 == 1) & (m2 == 0)
        t, slope = torch.where(still, target.cosine, t), slope.masked_fill(still, 1.0)
        return t - m3, slope


class SubCenterArcFace(ArcFace):
    """ArcFace with K sub-centres a class: c_j = the largest cosine to one of j's sub-centres.

    W is (C, K, D); `prototypes` gives each class's dominant sub-centre, the one that won most of its
    training samples (counted in the buffer `wins`). Published K 3, m 0.5, s 64.
    Source: Sub-center ArcFace, ECCV 2020.
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, centres: int = 3, **options):
        super().__init__(embedding_dim, num_classes, **options)
        if not centres >= 1:
            raise ValueError(f"centres is a whole number from 1, got {centres}")
        weight = unit(torch.randn(num_classes * centres, embedding_dim))
        self.weight = nn.Parameter(weight.view(num_classes, centres, embedding_dim))
        self.register_buffer("wins", torch.zeros(num_classes, centres, dtype=torch.long))

    @property
    def prototypes(self) -> Tensor:
        rows = torch.arange(self.num_classes, device=self.weight.device)
        return unit(self.weight.detach()[rows, self.wins.argmax(1)])

    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings -> (B, C) cosines, which sub-centres they belong to, all unit weights."""
        w = unit(self.weight.flatten(0, 1))
        best, which = cosines(x, w).unflatten(1, self.wins.shape).max(2)
        return best, which, w

    @full_precision
    def cosines(self, embeddings: Tensor) -> Tensor:
        return self._nearest(unit(embeddings))[0]

    def compare(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        cosine, which, w = self._nearest(x)
        row = labels * self.wins.size(1) + which.gather(1, labels.unsqueeze(1)).squeeze(1)
        if self.training:
            self.wins.view(-1).index_add_(0, row, torch.ones_like(row))
        return cosine, w.detach().index_select(0, row)
