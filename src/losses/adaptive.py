"""ArcFace and CosFace with a different margin for each sample or class."""

import math
from typing import Literal

import torch
from torch import Tensor

from .errors import BadArgument, check_choice, check_number, check_whole
from .geometry import real
from .head import check_unread
from .margin import AddedMarginHead, ArcFace
from .targets import Targets


class ElasticFace(AddedMarginHead):
    """Draw the margin of each training sample from a normal distribution.

    Equation:
        kind arc: z_y = s ψ(θ_y + m_i)
        kind cos: z_y = s (cos θ_y − m_i)
        z_j = s cos θ_j
        m_i ~ N(m, σ²)

    In eval mode m_i = m. The generator is seeded from torch's when the head is made, lives on the head's
    device, where a CUDA graph can draw from it, and is part of the state dict; the state of another
    kind of device is ignored. Published with s 64: arc m 0.5, σ 0.05 (plus 0.0175); cos m 0.35, σ 0.05
    (plus 0.02).

    Args:
        margin: m in [0, π], the mean of the draws; radians for kind arc, a difference of cosines for
            kind cos.
        kind: arc adds the margin to the target's angle, cos subtracts it from its cosine.
        sigma: σ ≥ 0, the standard deviation of the draws, in the margin's unit.
        plus: sort the draws so that samples further from their class get the larger ones.

    Source: ElasticFace, arXiv 2109.09416.
    """

    published_margin = 0.5
    published_scale = 64.0
    in_tiles = True

    def __init__(
        self,
        *args,
        kind: Literal["arc", "cos"] = "arc",
        sigma: float = 0.05,
        plus: bool = False,
        **options,
    ):
        super().__init__(*args, **options)
        check_choice("kind", kind, "arc", "cos")
        check_number("sigma", sigma, least=0)
        if not isinstance(plus, bool):
            raise BadArgument("plus", plus, "expected true or false")
        if not sigma:
            check_unread(ElasticFace, "with sigma=0", plus=plus)
        self.kind, self.sigma, self.plus = kind, sigma, plus
        if kind == "cos":
            self.check_form(("monotone",), " of kind cos, which moves no angle")
            self.check_detachable(plain_slopes=True)
        self.generator = torch.Generator().manual_seed(torch.randint(2**62, (), device="cpu").item())

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        if self.weight.is_cuda and self.generator.device != self.weight.device:
            seed = self.generator.initial_seed()
            self.generator = torch.Generator(self.weight.device).manual_seed(seed)
        return self

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        if len(state) == len(self.generator.get_state()):
            self.generator.set_state(state.cpu())

    def drawn_margins(self, targets: Targets) -> Tensor:
        """Draw m_i (B,)."""
        if not self.training or self.sigma == 0:
            return self.margin.expand_as(targets.cosine)
        cosine = targets.cosine.detach()
        drawn_on = {"generator": self.generator, "device": self.generator.device}
        noise = torch.randn(len(cosine), dtype=real(), **drawn_on).to(cosine)
        if self.plus:  # the sample of rank r by falling cosine gets the draw of rank r by size
            ranks = cosine.argsort(descending=True).argsort()
            noise = noise.sort().values[ranks]
        return self.margin + self.sigma * noise

    def added_angle(self, targets: Targets) -> Tensor:
        return self.drawn_margins(targets)

    def target_cosine(self, targets: Targets) -> Tensor:
        if self.kind == "arc":
            return super().target_cosine(targets)
        return targets.cosine - self.drawn_margins(targets)


class KappaFace(ArcFace):
    """ArcFace with a margin for each class, larger for classes that are scattered or rare.

    Equation:
        z_y = s ψ(θ_y + m_y)
        z_j = s cos θ_j
        m_c = m ψ_c
        formula authors: ψ_c = γ w_κ + (1 − γ) w_s
        formula paper:   ψ_c = γ w_s + (1 − γ) w_κ
        w_s = (cos(π n_c / n_max) + 1) / 2
        w_κ = 1 − sigmoid(T κ̃_c)
        κ_c = r̄ (D − r̄²) / (1 − r̄²)

    n_c is the size of the class, κ̃_c is κ_c standardised over the classes, and r̄ is the length of
    the mean of the class's unit embeddings. The authors' formula has n_max the largest n_c times 1.05,
    κ standardised by the sample deviation, and ψ_c = 1 for every class at first; the paper's has the
    largest n_c, the population's deviation, and no such start. The authors' code takes the mean over
    an epoch and renews the margins at its end. Here the mean follows the training batches, and n_c
    counts the samples seen.

    Args:
        margin: m in [0, π] radians, the largest margin of a class.
        formula: authors, as their code computes it, or paper, as printed.
        gamma: γ in [0, 1], the share of w_κ in the margin (of w_s with formula paper).
        temperature: T > 0, how strongly the concentration counts.
        momentum: weight of a sample in the running class means, in (0, 1).
        first_samples: the number of training samples for which ψ_c = 1 (formula authors). The size of
            the training set is the authors' first epoch; None is 20 C, an epoch of twenty samples per
            class.

    Source: KappaFace, arXiv 2201.07394.
    """

    published_margin = 0.8
    published_scale = 64.0
    in_tiles = True

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        formula: Literal["authors", "paper"] = "authors",
        gamma: float = 0.7,
        temperature: float = 0.4,
        momentum: float = 0.01,
        first_samples: int | None = None,
        **options,
    ):
        super().__init__(embedding_dim, num_classes, **options)
        check_choice("formula", formula, "authors", "paper")
        check_number("gamma", gamma, least=0, most=1)
        check_number("temperature", temperature, above=0)
        check_number("momentum", momentum, above=0, below=1)
        if first_samples is not None and formula == "paper":
            raise BadArgument("first_samples", first_samples, "changes nothing with formula=paper")
        if first_samples is not None:
            check_whole("first_samples", first_samples, 0)
        self.formula, self.gamma, self.temperature, self.momentum = formula, gamma, temperature, momentum
        self.first_samples = 20 * num_classes if first_samples is None else first_samples
        self.register_buffer("means", torch.zeros(num_classes, embedding_dim, dtype=real()))
        self.register_buffer("resultants", torch.zeros(num_classes, dtype=real()))  # r̄
        self.register_buffer("counts", torch.zeros(num_classes, dtype=real()))  # n

    def update_statistics(self, targets: Targets) -> None:
        super().update_statistics(targets)
        labels = targets.labels
        x = targets.unit_embeddings.to(self.means.dtype)
        finite = x.isfinite().all(1, keepdim=True)  # only these count: see `follow`
        same = (labels.unsqueeze(1) == labels).to(self.means.dtype) * finite.T  # (B, B)
        here = same.sum(1)  # samples of its class in this batch
        keep = (1 - self.momentum) ** here
        batch_mean = same @ x.where(finite, 0.0) / here.clamp_min(1).unsqueeze(1)
        means = torch.lerp(batch_mean, self.means[labels], keep.unsqueeze(1))
        counts = self.counts[labels] + here
        # Samples of one class write the same row. An early mean still holds part of its start at zero.
        self.means.index_copy_(0, labels, means)
        self.counts.index_copy_(0, labels, counts)
        grown = (1 - (1 - self.momentum) ** counts).clamp_min(1e-12)  # 0 before the first that counts
        resultants = torch.linalg.vector_norm(means, dim=1) / grown
        self.resultants.index_copy_(0, labels, resultants)

    @property
    def calibration(self) -> Tensor:
        """ψ_c (C,) in [0, 1]."""
        r = self.resultants.clamp_max(1 - 1e-6)
        kappa = r * (self.embedding_dim - r**2) / (1 - r**2)
        printed = self.formula == "paper"
        spread = kappa.std(correction=0 if printed or self.num_classes == 1 else 1)
        standard = (kappa - kappa.mean()) / spread.clamp_min(1e-12)
        scattered = 1 - torch.sigmoid(self.temperature * standard)
        largest = self.counts.max().clamp_min(1) * (1 if printed else 1.05)
        rare = (torch.cos(math.pi * self.counts / largest) + 1) / 2
        if printed:
            return self.gamma * rare + (1 - self.gamma) * scattered
        weights = self.gamma * scattered + (1 - self.gamma) * rare
        return torch.where(self.counts.sum() <= self.first_samples, 1.0, weights)

    def added_angle(self, targets: Targets) -> Tensor:
        return self.margin * self.calibration[targets.labels]
