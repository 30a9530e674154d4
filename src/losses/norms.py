"""Members that use the length of an embedding, as the scale or as the sample's quality."""

import math
from typing import Literal

import torch
from torch import Tensor

from .errors import BadArgument, check_choice, check_number, is_number
from .geometry import arccos, follow, lengths, psi, real
from .head import check_unread, full_precision
from .margin import AddedMarginHead, MarginHead, SphereFace
from .targets import Targets


class AnnealedSphereFace(SphereFace):
    """SphereFace's target blended with the plain cosine, by a weight λ that falls with the training
    steps, counted in the buffer `steps`. Has no scale.

    Args:
        margin: m ≥ 1, a factor of the target's angle; 1 is no margin.
        lambda_min: λ_min ≥ 0, where λ ends.
        lambda_base: λ_base ≥ 0, where λ starts; with lambda_min 0, 0 is ψ alone.
        gamma: γ ≥ 0, how fast λ falls.
    """

    has_scale = False
    published_scale = None

    def __init__(
        self, *args, margin: float | None, lambda_min: float, lambda_base: float, gamma: float, **options
    ):
        super().__init__(*args, margin=margin, scale=1.0, **options)
        check_number("lambda_min", lambda_min, least=0)
        check_number("lambda_base", lambda_base, least=0)
        check_number("gamma", gamma, least=0)
        if lambda_base <= lambda_min:
            check_unread(type(self), "unless lambda_base is above lambda_min", gamma=gamma)
        self.lambda_min, self.lambda_base, self.gamma = lambda_min, lambda_base, gamma
        self.register_buffer("steps", torch.tensor(0.0, dtype=real()))

    @property
    def annealing(self) -> Tensor:
        """λ, the weight of the plain cosine, now."""
        return (self.lambda_base / (1 + self.gamma * self.steps)).clamp_min(self.lambda_min)

    def update_statistics(self, targets: Targets) -> None:
        super().update_statistics(targets)
        self.steps.add_(1)

    def published_cosine(self, phi: Tensor) -> Tensor:
        return psi(phi)  # these papers print ψ

    def target_cosine(self, targets: Targets) -> Tensor:
        lam = self.annealing
        return (lam * targets.cosine + super().target_cosine(targets)) / (1 + lam)


class LSoftmax(AnnealedSphereFace):
    """Multiply the target's angle by a margin, and normalise nothing.

    Equation:
        z_y = ‖w_y‖ ‖x‖ (λ cos θ_y + ψ(m θ_y)) / (1 + λ)
        z_j = ‖w_j‖ ‖x‖ cos θ_j
        λ = max(λ_min, λ_base (1 + γ steps)^−power)

    The paper trains with a λ that falls and prints no schedule; this one is the authors' code's. There
    is no scale. With m 1 it is plain softmax without bias.

    Args:
        power: exponent of the schedule, ≥ 0.

    Source: Large-Margin Softmax, arXiv 1612.02295.
    """

    published_margin = 4.0

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float | None = None,
        lambda_min: float = 0.0,
        lambda_base: float = 1000.0,
        gamma: float = 2.5e-5,
        power: float = 35.0,
        **options,
    ):
        annealed = {"lambda_min": lambda_min, "lambda_base": lambda_base, "gamma": gamma}
        super().__init__(embedding_dim, num_classes, margin=margin, **annealed, **options)
        check_number("power", power, least=0)
        if lambda_base <= lambda_min:
            check_unread(LSoftmax, "unless lambda_base is above lambda_min", power=power)
        self.power = power

    @property
    def annealing(self) -> Tensor:
        """λ, the weight of the plain cosine, now."""
        falling = torch.exp(-self.power * torch.log1p(self.gamma * self.steps))
        return (self.lambda_base * falling).clamp_min(self.lambda_min)

    def factor(self, embeddings: Tensor) -> Tensor:
        return lengths(embeddings).unsqueeze(1) * lengths(self.weight)


class ASoftmax(AnnealedSphereFace):
    """SphereFace of 2017: multiply the target's angle by a margin, with ‖x‖ in the logits.

    Equation:
        z_y = ‖x‖ (λ cos θ_y + ψ(m θ_y)) / (1 + λ)
        z_j = ‖x‖ cos θ_j
        λ = max(λ_min, λ_base / (1 + γ steps))

    There is no scale: ‖x‖ takes its place.

    Source: SphereFace, arXiv 1704.08063.
    """

    published_margin = 4.0
    in_tiles = True

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float | None = None,
        lambda_min: float = 5.0,
        lambda_base: float = 1000.0,
        gamma: float = 0.12,
        **options,
    ):
        annealed = {"lambda_min": lambda_min, "lambda_base": lambda_base, "gamma": gamma}
        super().__init__(embedding_dim, num_classes, margin=margin, **annealed, **options)

    def factor(self, embeddings: Tensor) -> Tensor:
        return lengths(embeddings).unsqueeze(1)


class SphereFaceR(SphereFace):
    """SphereFace revived: multiply the target's angle by a margin, or divide the others' by it.

    Equation:
        version v1: z_y = s ψ(m θ_y),  z_j = s cos θ_j
        version v2: z_y = s cos θ_y,   z_j = s cos(θ_j / m)
        norm soft:  ‖x‖ in place of s, and weight · |‖x‖ − s| is added to the loss

    As published, gradients are detached by default. beyond_pi=paper is the paper's cos(min(m θ, π)),
    flat past π. The authors' v0 is v1 here, their v1 is v1 with beyond_pi=paper, and they multiply the
    cross entropy by 50/s. Published: hard v1 s 30, m 1.5; hard v2 s 60, m 1.4.

    Args:
        version: v1 or v2, see the equation.
        norm: hard, s is the scale; soft, the length of the embedding is.
        soft_weight: ≥ 0, the weight of the length's distance from s, with norm soft.

    Source: SphereFace-R, arXiv 2109.05565.
    """

    published_margin = 1.5
    published_scale = 30.0
    in_tiles = True

    def __init__(
        self,
        *args,
        version: Literal["v1", "v2"] = "v1",
        norm: Literal["hard", "soft"] = "hard",
        soft_weight: float = 0.01,
        gradient: Literal["exact", "detached"] = "detached",
        **options,
    ):
        super().__init__(*args, gradient=gradient, **options)
        check_choice("version", version, "v1", "v2")
        check_choice("norm", norm, "hard", "soft")
        check_number("soft_weight", soft_weight, least=0)
        if norm == "hard":
            check_unread(SphereFaceR, "with norm=hard", soft_weight=soft_weight)
        self.version, self.norm, self.soft_weight = version, norm, soft_weight
        if version == "v2":
            self.check_form(("monotone",), " v2, where no angle passes π")

    def factor(self, embeddings: Tensor) -> Tensor:
        return self.scale if self.norm == "hard" else lengths(embeddings).unsqueeze(1)

    def published_cosine(self, phi: Tensor) -> Tensor:
        return torch.cos(phi.clamp_max(math.pi))

    def target_cosine(self, targets: Targets) -> Tensor:
        return super().target_cosine(targets) if self.version == "v1" else targets.cosine

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return cosine if self.version == "v1" else torch.cos(arccos(cosine) / self.column_margin)

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss = super().forward(embeddings, labels)
        if self.norm == "soft":
            stretch = lengths(embeddings) - self.scale
            loss = loss + self.soft_weight * stretch.abs().mean()
        return loss


class MagFace(AddedMarginHead):
    """ArcFace with a margin that grows with the length of the embedding.

    Equation:
        z_y = s ψ(θ_y + m(a))
        z_j = s cos θ_j
        a = ‖x‖ clamped to [l_a, u_a]
        m(a) = m_l + (m_u − m_l) (a − l_a) / (u_a − l_a)
        loss = cross entropy + λ_g (a / u_a² + 1 / a)

    beyond_pi=easy is the default of the authors' code, linear its other form.

    Args:
        margin: (m_l, m_u), the margins at l_a and at u_a, 0 ≤ m_l ≤ m_u ≤ π radians.
        l_a: least length, above 0.
        u_a: greatest length, above l_a.
        lambda_g: λ_g ≥ 0, the weight of the term that lets embeddings grow.

    Source: MagFace, arXiv 2103.06627.
    """

    published_margin = (0.45, 0.8)
    published_scale = 64.0
    in_tiles = True
    no_margin = (0.0, 0.0)

    def __init__(self, *args, l_a: float = 10.0, u_a: float = 110.0, lambda_g: float = 35.0, **options):
        super().__init__(*args, **options)
        check_number("l_a", l_a, above=0)
        check_number("u_a", u_a, above=l_a)
        check_number("lambda_g", lambda_g, least=0)
        self.l_a, self.u_a, self.lambda_g = l_a, u_a, lambda_g

    @classmethod
    def check_margin(cls, margin: tuple[float, float]) -> tuple[float, float]:
        if isinstance(margin, (list, tuple)) and len(margin) == 2 and all(map(is_number, margin)):
            low, high = margin
            if 0 <= low <= high <= math.pi:
                return float(low), float(high)
        why = "expected two numbers [at l_a, at u_a], 0 ≤ first ≤ second ≤ π, for MagFace"
        raise BadArgument("margin", margin, why)

    def added_angle(self, targets: Targets) -> Tensor:
        low, high = self.margin.unbind(-1)
        a = targets.norm.clamp(self.l_a, self.u_a)  # the margin's gradient reaches the length
        return low + (high - low) * (a - self.l_a) / (self.u_a - self.l_a)

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        a = lengths(embeddings).clamp(self.l_a, self.u_a)
        return super().forward(embeddings, labels) + self.lambda_g * (a / self.u_a**2 + 1 / a).mean()


class AdaFace(MarginHead):
    """Put the margin of easy samples on the cosine and of hard ones on the angle.

    Equation:
        z_y = s (ψ(θ_y − m ẑ) − (m + m ẑ))
        z_j = s cos θ_j
        ẑ = clip(h (‖x‖ − μ) / σ, −1, 1)

    μ and σ are the running mean and standard deviation of the training batches' lengths, in buffers. A
    sample with a long embedding counts as easy. ẑ has no gradient.

    Args:
        margin: m in [0, 1]; radians in the angle, a difference of cosines outside.
        h: h ≥ 0, how strongly the length counts.
        momentum: weight of a batch in μ and σ, in (0, 1].
        beyond_pi: monotone, ψ(θ_y − m ẑ); paper, the authors' code: θ_y − m ẑ is clipped to [0, π],
            where the gradient ends.

    Source: AdaFace, arXiv 2204.00964.
    """

    published_margin = 0.4
    published_scale = 64.0
    in_tiles = True
    margin_range = (0.0, 1.0)

    def __init__(
        self,
        *args,
        h: float = 0.333,
        momentum: float = 0.01,
        beyond_pi: Literal["monotone", "paper"] = "monotone",
        **options,
    ):
        super().__init__(*args, **options)
        check_number("h", h, least=0)
        check_number("momentum", momentum, above=0, most=1)
        check_choice("beyond_pi", beyond_pi, "monotone", "paper")
        self.h, self.momentum, self.beyond_pi = h, momentum, beyond_pi
        self.register_buffer("mean", torch.tensor(20.0, dtype=real()))  # the authors' starting values
        self.register_buffer("deviation", torch.tensor(100.0, dtype=real()))

    def update_statistics(self, targets: Targets) -> None:
        super().update_statistics(targets)
        norm = targets.norm.clamp(0.001, 100)
        follow(self.mean, norm.mean(), self.momentum)
        if len(norm) > 1:  # one sample has no deviation
            follow(self.deviation, norm.std(), self.momentum)

    def target_cosine(self, targets: Targets) -> Tensor:
        norm = targets.norm.detach().clamp(0.001, 100)
        quality = (self.h * (norm - self.mean) / (self.deviation + 1e-3)).clamp(-1, 1)
        phi = targets.angle - self.margin * quality
        t = psi(phi) if self.beyond_pi == "monotone" else torch.cos(phi.clamp(0, math.pi))
        return t - self.margin * (1 + quality)
