"""ArcFace and CosFace with a margin of its own for each sample or class."""

import math

import torch
from torch import Tensor

from .margin import AngularMarginHead, ArcFace
from .targets import Targets


class ElasticFace(AngularMarginHead):
    """A margin drawn for each training sample, m_i ~ N(m, σ²).

    `kind` arc: t = ψ(θ + m_i); cos: t = cos θ − m_i. `plus`: the draws are sorted so that samples
    further from their class get the larger ones. In eval mode m_i = m. The generator is seeded from
    torch's when the head is made, and is part of its state.
    Published with s 64: arc m 0.5, σ 0.05 (plus 0.0175); cos m 0.35, σ 0.05 (plus 0.02).
    Source: ElasticFace, arXiv 2109.09416.
    """

    def __init__(self, *args, kind: str = "arc", sigma: float = 0.05, plus: bool = False, **options):
        super().__init__(*args, **options)
        if kind not in ("arc", "cos"):
            raise ValueError(f"kind is arc or cos, got {kind!r}")
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma is finite and not negative, got {sigma}")
        if not isinstance(plus, bool):
            raise ValueError(f"plus is true or false, got {plus!r}")
        self.kind, self.sigma, self.plus = kind, sigma, plus
        self.generator = torch.Generator().manual_seed(torch.randint(2**62, ()).item())

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())

    def drawn_margins(self, targets: Targets) -> Tensor:
        """m_i (B,)."""
        if not self.training or self.sigma == 0:
            return self.margin.expand_as(targets.cosine)
        cosine = targets.cosine.detach()
        noise = torch.randn(len(cosine), generator=self.generator).to(cosine, non_blocking=True)
        if self.plus:  # the sample of rank r by falling cosine gets the draw of rank r by size
            ranks = cosine.argsort(descending=True).argsort()
            noise = noise.sort().values[ranks]
        return self.margin + self.sigma * noise

    def angle_with_margin(self, targets: Targets) -> Tensor:
        return targets.angle + self.drawn_margins(targets)

    def target_cosine(self, targets: Targets) -> Tensor:
        if self.kind == "arc":
            return super().target_cosine(targets)
        return targets.cosine - self.drawn_margins(targets)


class KappaFace(ArcFace):
    """ArcFace with a margin for each class, m_c = m ψ_c, larger for classes that are scattered or rare.

    ψ_c = γ w_s + (1 − γ) w_κ, with w_s = (cos(π n_c / max n) + 1)/2 from the class's size n_c, and
    w_κ = 1 − sigmoid(T κ̃_c) from its concentration κ_c = r̄ (D − r̄²)/(1 − r̄²), standardised over the
    classes; r̄ is the length of the mean of the class's unit embeddings. The paper keeps every training
    sample's embedding for that mean and renews the margins each epoch; here the mean follows the
    training batches with weight `momentum` a sample, and n_c counts the samples seen.
    Published m 0.8, γ 0.7, T 0.4, s 64. Source: KappaFace, arXiv 2201.07394.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        gamma: float = 0.7,
        temperature: float = 0.4,
        momentum: float = 0.01,
        **options,
    ):
        super().__init__(embedding_dim, num_classes, **options)
        if not 0 < momentum < 1:
            raise ValueError(f"momentum is between 0 and 1, got {momentum}")
        self.gamma, self.temperature, self.momentum = gamma, temperature, momentum
        self.register_buffer("means", torch.zeros(num_classes, embedding_dim))
        self.register_buffer("resultants", torch.zeros(num_classes))  # r̄
        self.register_buffer("counts", torch.zeros(num_classes))  # n

    def update_statistics(self, targets: Targets, cosine: Tensor) -> None:
        super().update_statistics(targets, cosine)
        labels = targets.labels
        same = (labels.unsqueeze(1) == labels).to(self.means.dtype)  # (B, B)
        here = same.sum(1)  # of the sample's class in this batch
        keep = (1 - self.momentum) ** here
        batch_mean = same @ targets.unit_embeddings.to(self.means.dtype) / here.unsqueeze(1)
        means = torch.lerp(batch_mean, self.means[labels], keep.unsqueeze(1))
        counts = self.counts[labels] + here
        # Samples of one class write the same row. A young mean still holds some of its zero start.
        self.means.index_copy_(0, labels, means)
        self.counts.index_copy_(0, labels, counts)
        grown = 1 - (1 - self.momentum) ** counts
        resultants = torch.linalg.vector_norm(means, dim=1) / grown
        self.resultants.index_copy_(0, labels, resultants)

    @property
    def calibration(self) -> Tensor:
        """ψ_c (C,) in [0, 1]."""
        r = self.resultants.clamp_max(1 - 1e-6)
        kappa = r * (self.embedding_dim - r**2) / (1 - r**2)
        spread = kappa.std(correction=0)
        standard = (kappa - kappa.mean()) / spread.clamp_min(1e-12)
        scattered = 1 - torch.sigmoid(self.temperature * standard)
        rare = (torch.cos(math.pi * self.counts / self.counts.max().clamp_min(1)) + 1) / 2
        return self.gamma * rare + (1 - self.gamma) * scattered

    def angle_with_margin(self, targets: Targets) -> Tensor:
        return targets.angle + self.margin * self.calibration[targets.labels]
