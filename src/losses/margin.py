"""Members with one fixed margin on the target: z_y = s (ψ(m1 θ_y + m2) − m3)."""

import math

import torch
from torch import Tensor

from .head import AngularMarginHead, MarginHead, TargetPair


class CosFace(MarginHead):
    """t = cos θ − m, m in [0, 2]. Published m 0.35, s 64; the same loss as AM-Softmax.

    Source: CosFace, arXiv 1801.09414; AM-Softmax, arXiv 1801.05599.
    """

    margin_range = (0.0, 2.0)

    def target(self, pair: TargetPair) -> tuple[Tensor, Tensor]:
        return pair.cosine - self.margin, torch.ones_like(pair.cosine)


class ArcFace(AngularMarginHead):
    """t = ψ(θ + m), m in [0, π] radians. Published m 0.5, s 64. Source: ArcFace, arXiv 1801.07698."""

    def moved_angle(self, angle: Tensor) -> tuple[Tensor, float]:
        return angle + self.margin, 1.0


class SphereFace(AngularMarginHead):
    """t = ψ(m θ), m ≥ 1 (1 is no margin): SphereFace with normalised embeddings and a scale.

    Published m 1.35, s 64: ArcFace's reading of it, arXiv 1801.07698; after arXiv 1704.08063.
    """

    no_margin = 1.0
    margin_range = (1.0, math.inf)

    def moved_angle(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        return self.margin * angle, self.margin


class CombinedMargin(AngularMarginHead):
    """t = ψ(m1 θ + m2) − m3, margin = (m1, m2, m3), m1 > 0, m2 and m3 ≥ 0; (1, 0, 0) is no margin.

    Published with s 64: (1.5, 0, 0), (1.2, 0.4, 0), (1.1, 0, 0.35), (1, 0.3, 0.2), (0.9, 0.4, 0.15).
    Source: ArcFace, arXiv 1801.07698, section 3.2.
    """

    no_margin = (1.0, 0.0, 0.0)

    @classmethod
    def check_margin(cls, margin: tuple[float, float, float]) -> tuple[float, float, float]:
        wrong = ValueError(
            f"CombinedMargin's margin is three finite numbers [m1, m2, m3] with m1 > 0, "
            f"0 ≤ m2 ≤ π, 0 ≤ m3 ≤ 2, got {margin}"
        )
        if not isinstance(margin, (list, tuple)) or len(margin) != 3:
            raise wrong
        if any(isinstance(m, bool) or not isinstance(m, (int, float)) for m in margin):
            raise wrong
        m1, m2, m3 = margin
        if not (0 < m1 < math.inf and 0 <= m2 <= math.pi and 0 <= m3 <= 2):
            raise wrong
        return float(m1), float(m2), float(m3)

    def moved_angle(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        m1, m2, _ = self.margin.unbind(-1)
        return m1 * angle + m2, m1

    def target(self, pair: TargetPair) -> tuple[Tensor, Tensor]:
        m1, m2, m3 = self.margin.unbind(-1)
        t, slope = super().target(pair)
        # An angle that does not move keeps its cosine to the last bit: (1, 0, m3) is CosFace exactly.
        still = (m1 == 1) & (m2 == 0)
        t, slope = torch.where(still, pair.cosine, t), slope.masked_fill(still, 1.0)
        return t - m3, slope
