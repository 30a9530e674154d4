"""Members without a softmax: each class is a separate decision."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import BadArgument, check_choice, check_number
from .geometry import psi, real
from .head import CosineHead, full_precision
from .margin import CosFace, MarginHead
from .targets import Targets


class UniFace(CosFace):
    """Decide for each class on its own, with one learned threshold for all.

    Equation:
        loss = softplus(b − s (cos θ_y − m)) + λ Σ_{j≠y} softplus(s cos θ_j − b)

    The threshold b is learned, and starts at ln(10 r C), as in the authors' code.

    Args:
        margin: m in [0, 2], subtracted from the target's cosine.
        negative_weight: λ > 0, the weight of the non-targets.
        r: the share of the classes that a step compares with, in (0, 1]. Here a step compares with
            all, so r changes the start of b only.

    Source: UniFace, ICCV 2023.
    """

    published_margin = 0.4
    published_scale = 64.0
    margin_range = (0.0, 2.0)
    softmax_type = False

    def __init__(self, *args, negative_weight: float = 1.0, r: float = 1.0, **options):
        super().__init__(*args, **options)
        check_number("negative_weight", negative_weight, above=0)
        check_number("r", r, above=0, most=1)
        self.negative_weight = negative_weight
        self.bias = nn.Parameter(torch.tensor(math.log(10 * r * self.num_classes), dtype=real()))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        z = self.margin_logits(embeddings, labels) - self.bias
        return binary_loss(z, labels, 1.0, self.negative_weight)


class SphereFace2(MarginHead):
    """Decide for each class on its own, with an angular margin.

    Equation:
        loss = (α/s) softplus(−z_y) + ((1 − α)/s) Σ_{j≠y} softplus(z_j)
        kind C: z_y = s (g(cos θ_y) − m) + b,  z_j = s (g(cos θ_j) + m) + b
        kind A: z_y = s g(ψ(θ_y + m)) + b,     z_j = s g(cos θ_j) + b
        kind M: z_y = s g(ψ(m θ_y)) + b,       z_j = s g(cos θ_j) + b
        g(c) = 2 ((c + 1)/2)ᵗ − 1

    The bias b is learned, and starts where the loss is least for a head that knows nothing yet (all
    angles 90°). Below c = −1, where ψ goes, g continues as an odd power. As in the authors' code,
    gradients are detached by default; on its branch for the conference, C has the exact one.

    Args:
        margin: m. kind C: in [0, 2], a difference of g; kind A: in [0, π] radians; kind M: m ≥ 1, a
            factor of the angle.
        kind: C puts the margin on the cosine, A adds it to the angle, M multiplies the angle by it.
        alpha: α in (0, 1), the weight of the target.
        power: t ≥ 1.
        beyond_pi: kinds A and M where the moved angle φ passes π. monotone: ψ(φ), which keeps falling.
            paper: cos(min(φ, π)), which is flat.

    Source: SphereFace2, arXiv 2108.01513.
    """

    published_margin = 0.4
    published_scale = 40.0
    margin_range = (0.0, math.inf)
    softmax_type = False

    def __init__(
        self,
        *args,
        margin: float | None = None,
        scale: float | None = None,
        kind: Literal["C", "A", "M"] = "C",
        alpha: float = 0.7,
        power: float = 3.0,
        beyond_pi: Literal["monotone", "paper"] = "monotone",
        gradient: Literal["exact", "detached"] = "detached",
        **options,
    ):
        margin = self.published_margin if margin is None else margin
        scale = self.published_scale if scale is None else scale
        super().__init__(*args, margin=margin, scale=scale, gradient=gradient, **options)
        check_choice("kind", kind, "C", "A", "M")
        check_number("alpha", alpha, above=0, below=1)
        check_number("power", power, least=1)
        low, high = {"C": (0, 2), "A": (0, math.pi), "M": (1, math.inf)}[kind]
        if not low <= margin <= high:
            limit = "" if high == math.inf else f" and ≤ {high:.4g}"
            raise BadArgument(
                "margin", margin, f"expected a finite number ≥ {low}{limit} for kind {kind}"
            )
        if beyond_pi not in ("monotone",) + ("paper",) * (kind != "C"):
            forms = "monotone for kind C, which moves no angle" if kind == "C" else "monotone or paper"
            raise BadArgument("beyond_pi", beyond_pi, f"expected {forms}")
        self.kind, self.alpha, self.power, self.beyond_pi = kind, alpha, power, beyond_pi
        self.no_margin = 1.0 if kind == "M" else 0.0
        self.bias = nn.Parameter(torch.tensor(self._first_bias(margin, scale), dtype=real()))

    def _first_bias(self, m: float, s: float) -> float:
        # Where dL/db = 0 at c = 0: α σ(−z_y − b) = (1 − α)(C − 1) σ(z_j + b), a quadratic in e^b.
        zero = torch.zeros((), dtype=real(), device="cpu")
        angle = {"C": math.pi / 2, "A": math.pi / 2 + m, "M": math.pi / 2 * m}[self.kind]
        shift = m if self.kind == "C" else 0.0
        own = s * (self.g(self.cosine_of(zero + angle)).item() - shift)
        other = s * (self.g(zero).item() + shift)
        p = self.alpha / ((1 - self.alpha) * max(self.num_classes - 1, 1))
        root = math.sqrt((1 - p) ** 2 + 4 * p * math.exp(own - other))
        if p >= 1:  # the same root, written without the difference that would vanish
            return math.log(max(root + p - 1, 1e-300) / 2) - own
        return math.log(2 * p / (1 - p + root)) - other

    def g(self, c: Tensor) -> Tensor:
        """2((c + 1)/2)ᵗ − 1, any shape; an odd power below c = −1, where ψ goes."""
        half = (c + 1) / 2
        return 2 * half.detach().sign() * half.abs() ** self.power - 1

    def cosine_of(self, phi: Tensor) -> Tensor:
        """Return ψ(φ), or cos(min(φ, π)) with beyond_pi=paper; φ in radians, any shape."""
        return psi(phi) if self.beyond_pi == "monotone" else torch.cos(phi.clamp_max(math.pi))

    def target_cosine(self, targets: Targets) -> Tensor:
        if self.kind == "C":
            return self.g(targets.cosine) - self.margin
        if self.kind == "A":
            return self.g(self.cosine_of(targets.angle + self.margin))
        return self.g(self.cosine_of(self.margin * targets.angle))

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return self.g(cosine) + self.column_margin if self.kind == "C" else self.g(cosine)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        z = self.margin_logits(embeddings, labels) + self.bias
        return binary_loss(z, labels, self.alpha, 1 - self.alpha) / self.scale


class P2SGrad(CosineHead):
    """Squared error between cosines and one-hot targets, without margin and scale.

    Equation:
        loss = ½ Σ_j (cos θ_j − 1[j = y])²

    The paper gives a gradient and no loss: (cos θ_j − 1[j = y]) ∂cos θ_j, summed over the classes.
    This is the loss that has it. Published implementations take the mean over C too: 2/C times this.
    With more classes than dimensions its least value is (1 − D/C)/2, where own cosines are only D/C.

    Source: P2SGrad, arXiv 1905.02479, equation 11.
    """

    has_scale = False
    softmax_type = False

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__(embedding_dim, num_classes, scale=1.0)

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = self.cosines(embeddings)
        one_hot = torch.zeros_like(cosine).scatter(1, labels.unsqueeze(1), 1.0)
        return F.mse_loss(cosine, one_hot, reduction="sum") / (2 * len(labels))


def binary_loss(z: Tensor, labels: Tensor, positive: float, negative: float) -> Tensor:
    """positive · softplus(−z_y) + negative · Σ_{j≠y} softplus(z_j), mean over the batch; z (B, C)."""
    column = labels.unsqueeze(1)
    own = F.softplus(-z.gather(1, column)).sum()
    others = F.softplus(z).scatter(1, column, 0.0).sum()
    return (positive * own + negative * others) / len(labels)
