"""Members that weigh each cosine, by a weight without a gradient."""

import math

import torch
from torch import Tensor

from .errors import BadArgument, check_number
from .geometry import arccos, psi
from .head import CosineHead, full_precision
from .margin import AngularMarginHead, ArcFace
from .targets import Targets


class SFace(CosineHead):
    """Weigh each cosine's gradient by a sigmoid of its angle.

    Equation:
        loss = −s r(θ_y) cos θ_y + s Σ_{j≠y} r'(θ_j) cos θ_j
        r(θ) = sigmoid(k (θ − a))
        r'(θ) = sigmoid(k (b − θ))

    The weights r and r' have no gradient: nothing pulls a sample that is nearer to its class than the
    angle a, and nothing pushes one that is further from another class than b. The loss may be
    negative, and rises where r lets go: watch the accuracy, not the loss. It is proportional to the
    scale, so a learned one would run away, and has no cross entropy. Also published, for
    CASIA-WebFace: a 0.87, b 1.2.

    Args:
        k: how steep the sigmoids are, above 0.
        a: a in [0, π] radians, below which the target is not pulled.
        b: b in [0, π] radians, beyond which a non-target is not pushed.

    Raises ValueError for values outside these ranges, and for a learnable or dynamic scale.
    Source: SFace, arXiv 2205.12010.
    """

    published_scale = 64.0
    softmax_type = False

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float | None = None,
        k: float = 80.0,
        a: float = 0.8,
        b: float = 1.23,
        learnable_scale: bool = False,
        dynamic_scale: bool = False,
    ):
        for name, given in (("learnable_scale", learnable_scale), ("dynamic_scale", dynamic_scale)):
            if given:
                raise BadArgument(
                    name, given, "SFace's loss is proportional to its scale, which is fixed"
                )
        super().__init__(embedding_dim, num_classes, scale=scale)
        check_number("k", k, above=0)
        check_number("a", a, least=0, most=math.pi)
        check_number("b", b, least=0, most=math.pi)
        self.k, self.a, self.b = k, a, b

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = self.cosines(embeddings)
        column = labels.unsqueeze(1)
        with torch.no_grad():
            angle = arccos(cosine)
            pull = torch.sigmoid(self.k * (angle.gather(1, column) - self.a))
            push = torch.sigmoid(self.k * (self.b - angle))
            weight = push.scatter_(1, column, -pull)
        return self.scale * (weight * cosine).sum() / len(labels)


class ArcNegFace(ArcFace):
    """ArcFace with non-targets that count more the nearer they are to the target.

    Equation:
        z_y = s t,  t = ψ(θ_y + m)
        z_j = s (w_j (cos θ_j + 1) − 1)
        w_j = α exp(−(cos θ_j − t)² / σ)

    The weights w_j have no gradient.

    Args:
        alpha: α > 0, the weight of a non-target that is as near as the target.
        sigma: σ > 0, how fast the weight falls with the squared distance.

    Raises ValueError for values outside these ranges.
    Source: ArcNegFace, in Towards Flops-constrained Face Recognition, arXiv 1909.00632.
    """

    published_margin = 0.5
    published_scale = 64.0
    in_tiles = True

    def __init__(self, *args, alpha: float = 1.2, sigma: float = 2.0, **options):
        super().__init__(*args, **options)
        check_number("alpha", alpha, above=0)
        check_number("sigma", sigma, above=0)
        self.alpha, self.sigma = alpha, sigma

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        distance = cosine.detach() - t.detach().unsqueeze(1)
        weight = self.alpha * torch.exp(-(distance**2) / self.sigma)
        return weight * (cosine + 1) - 1


class NPCFace(AngularMarginHead):
    """ArcFace with a margin that grows with the hard non-targets, which are emphasised.

    Equation:
        z_y = s ψ(θ_y + m + m₁ h)
        z_j = s (τ cos θ_j + α)  if cos θ_j > ψ(θ_y + m_h)
        z_j = s cos θ_j          otherwise

    h is the mean cosine of the sample's hard non-targets, without a gradient, and 0 where there are
    none. It costs a second product of embeddings with class weights. With another `beyond_pi` than
    monotone, a non-target is hard if cos θ_j > cos(θ_y + m_h), as in the authors' code.

    Args:
        margin: m in [0, π] radians, added to the target's angle.
        growth: m₁ in [0, π] radians.
        hard_margin: m_h in [0, π] radians.
        factor: τ > 0, multiplies hard cosines.
        offset: α, added to hard cosines.

    Raises ValueError for values outside these ranges.
    Source: NPCFace, arXiv 2007.10172.
    """

    published_margin = 0.4
    published_scale = 64.0

    def __init__(
        self,
        *args,
        growth: float = 0.2,
        hard_margin: float = 0.5,
        factor: float = 1.1,
        offset: float = 0.2,
        **options,
    ):
        super().__init__(*args, **options)
        check_number("growth", growth, least=0, most=math.pi)
        check_number("hard_margin", hard_margin, least=0, most=math.pi)
        check_number("factor", factor, above=0)
        check_number("offset", offset)
        self.growth, self.hard_margin = growth, hard_margin
        self.emphasis = factor, offset

    def hard(self, cosine: Tensor, targets: Targets) -> Tensor:
        """Return which of the cosines (B, C) are of hard non-targets, as booleans (B, C)."""
        phi = targets.angle.detach() + self.hard_margin
        least = psi(phi) if self.beyond_pi == "monotone" else torch.cos(phi)
        return cosine > least.unsqueeze(1)

    def angle_with_margin(self, targets: Targets) -> Tensor:
        with torch.no_grad():
            cosine = targets.unit_embeddings @ self.prototypes.T
            hard = self.hard(cosine, targets).scatter(1, targets.labels.unsqueeze(1), False)
            mean = (cosine * hard).sum(1) / hard.sum(1).clamp_min(1)
        return targets.angle + self.margin + self.growth * mean

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        factor, offset = self.emphasis
        return torch.where(self.hard(cosine, targets), factor * cosine + offset, cosine)
