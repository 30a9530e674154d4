"""Members without a softmax: every class is a decision of its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .geometry import psi
from .head import CosineHead
from .margin import CosFace, MarginHead
from .targets import Targets


class UniFace(CosFace):
    """softplus(b − s (c_y − m)) + λ Σ_{j≠y} softplus(s c_j − b): one threshold b, learned, for all.

    Published m 0.4, s 64, λ 1; b starts at ln(10 λ C), as in the authors' code.
    Source: UniFace, ICCV 2023.
    """

    softmax_type = False

    def __init__(self, *args, negative_weight: float = 1.0, **options):
        super().__init__(*args, **options)
        if not 0 < negative_weight < math.inf:
            raise ValueError(f"negative_weight is finite and above 0, got {negative_weight}")
        self.negative_weight = negative_weight
        self.bias = nn.Parameter(torch.tensor(math.log(10 * negative_weight * self.num_classes)))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        z = self.margin_logits(embeddings, labels) - self.bias
        return binary_loss(z, labels, 1.0, self.negative_weight)


class SphereFace2(MarginHead):
    """(α/s) softplus(−z_y) + ((1 − α)/s) Σ_{j≠y} softplus(z_j), g(c) = 2((c + 1)/2)ᵗ − 1, b learned:

    C: z_y = s (g(c_y) − m) + b, z_j = s (g(c_j) + m) + b
    A: z_y = s g(ψ(θ_y + m)) + b, z_j = s g(c_j) + b
    M: z_y = s g(ψ(m θ_y)) + b with m ≥ 1, z_j = s g(c_j) + b
    The paper's cos(min(φ, π)) is flat past π; ψ goes on falling (g of it continued as an odd power).
    b starts where the loss is least for a head that knows nothing yet (all angles 90°).
    Published C, m 0.4, s 40, t 3, α 0.7. Source: SphereFace2, arXiv 2108.01513.
    """

    margin_range = (0.0, math.inf)
    softmax_type = False

    def __init__(
        self,
        *args,
        margin: float,
        kind: str = "C",
        alpha: float = 0.7,
        power: float = 3.0,
        **options,
    ):
        super().__init__(*args, margin=margin, **options)
        if kind not in ("C", "A", "M"):
            raise ValueError(f"kind is C, A or M, got {kind!r}")
        if not 0 < alpha < 1 or not power >= 1:
            raise ValueError(f"alpha is between 0 and 1 and power from 1, got {alpha} and {power}")
        low, high = {"C": (0, 2), "A": (0, math.pi), "M": (1, math.inf)}[kind]
        if not low <= margin <= high:
            raise ValueError(f"SphereFace2-{kind}'s margin is in [{low}, {high:.4g}], got {margin}")
        self.kind, self.alpha, self.power = kind, alpha, power
        self.no_margin = 1.0 if kind == "M" else 0.0
        self.bias = nn.Parameter(torch.tensor(self._first_bias(margin)))

    def _first_bias(self, m: float) -> float:
        # Where dL/db = 0 at c = 0: α σ(−z_y − b) = (1 − α)(C − 1) σ(z_j + b), a quadratic in e^b.
        s, zero = self.scale.item(), torch.zeros(())
        angle = {"C": math.pi / 2, "A": math.pi / 2 + m, "M": math.pi / 2 * m}[self.kind]
        shift = m if self.kind == "C" else 0.0
        own = s * (self.g(psi(zero + angle)).item() - shift)
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

    def target_cosine(self, targets: Targets) -> Tensor:
        if self.kind == "C":
            return self.g(targets.cosine) - self.margin
        if self.kind == "A":
            return self.g(psi(targets.angle + self.margin))
        return self.g(psi(self.margin * targets.angle))

    def target_cosine_without_margin(self, targets: Targets) -> Tensor:
        return self.g(targets.cosine)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return self.g(cosine) + self.column_margin if self.kind == "C" else self.g(cosine)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        z = self.margin_logits(embeddings, labels) + self.bias
        return binary_loss(z, labels, self.alpha, 1 - self.alpha) / self.scale


class P2SGrad(CosineHead):
    """Mean squared error, over B and C, between cosines and one-hot targets; no margin and no scale.

    Source: P2SGrad, arXiv 1905.02479, as the equivalent loss of its gradient.
    """

    has_scale = False
    softmax_type = False

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__(embedding_dim, num_classes, scale=1.0)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = self.cosines(embeddings)
        return F.mse_loss(cosine, F.one_hot(labels, self.num_classes).to(cosine.dtype))


def binary_loss(z: Tensor, labels: Tensor, positive: float, negative: float) -> Tensor:
    """positive · softplus(−z_y) + negative · Σ_{j≠y} softplus(z_j), mean over the batch; z (B, C)."""
    column = labels.unsqueeze(1)
    own = F.softplus(-z.gather(1, column)).sum()
    others = F.softplus(z).scatter(1, column, 0.0).sum()
    return (positive * own + negative * others) / len(labels)
