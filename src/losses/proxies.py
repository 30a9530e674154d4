"""Metric learning with proxies: the class weights are the proxies, so these are heads like the rest."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import check_number, check_whole
from .geometry import cosines, random_directions, unit
from .head import check_unread, full_precision
from .margin import CosFace, MarginHead
from .softmax import NormFace
from .targets import Targets


class ProxyAnchor(MarginHead):
    """Sum over the batch for each class, so that a class's hardest samples count most.

    Equation:
        loss = mean over classes c in the batch of log(1 + Σ_{i of c} exp(−s (cos θ_ic − m)))
             + mean over all classes c of log(1 + Σ_{i not of c} exp(s (cos θ_ic + m)))

    A loss of pairs, without a cross entropy. As published, class weights learn at 100 times the
    backbone's rate (`optimizer.head_lr`).

    Args:
        margin: m in [0, 1], a difference of cosines.

    Source: Proxy-Anchor, arXiv 2003.13911.
    """

    published_margin = 0.1
    published_scale = 32.0
    margin_range = (0.0, 1.0)
    softmax_type = False

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float | None = None,
        scale: float | None = None,
        learnable_scale: bool = False,
        dynamic_scale: bool = False,
    ):
        super().__init__(
            embedding_dim,
            num_classes,
            margin=margin,
            scale=scale,
            learnable_scale=learnable_scale,
            dynamic_scale=dynamic_scale,
        )

    def target_cosine(self, targets: Targets) -> Tensor:
        return targets.cosine - self.margin

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return cosine + self.column_margin

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        z = self.margin_logits(embeddings, labels)
        own = labels.unsqueeze(1) == torch.arange(self.num_classes, device=z.device)
        pull = log_one_plus_sum_exp((-z).masked_fill(~own, -math.inf))
        push = log_one_plus_sum_exp(z.masked_fill(own, -math.inf))
        return pull.sum() / own.any(0).sum() + push.mean()


def log_one_plus_sum_exp(z: Tensor) -> Tensor:
    """log(1 + Σ_i exp z_ic) (C,) of z (B, C); −inf leaves an entry out."""
    return F.pad(z, (0, 0, 1, 0)).logsumexp(0)  # a row of zeros on top is the 1


class SoftTriple(CosFace):
    """CosFace on a soft maximum over K centres per class.

    Equation:
        z_y = s (S_y − m)
        z_j = s S_j
        S_j = Σ_k p_jk cos θ_jk,  p_j = softmax_k(cos θ_jk / γ)
        loss = cross entropy + τ / (C K (K − 1)) Σ_c Σ_{k<l} √(2 + 1e-5 − 2 w_ck·w_cl), for K > 1

    The last term merges centres that a class does not need. W is (C, K, D); `cosines` gives S,
    `prototypes` the direction of each class's mean centre. As published, centres learn at 100 times
    the backbone's rate.

    Args:
        margin: m in [0, 2], subtracted from the target's soft maximum.
        centres: K ≥ 1, the number of centres per class.
        gamma: γ > 0, the temperature of the soft maximum.
        tau: τ ≥ 0, the weight of the distance between a class's centres.

    Raises ValueError for values outside these ranges.
    Source: SoftTriple, arXiv 1909.05235.
    """

    published_margin = 0.01
    published_scale = 20.0
    margin_range = (0.0, 2.0)

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        centres: int = 10,
        gamma: float = 0.1,
        tau: float = 0.2,
        **options,
    ):
        super().__init__(embedding_dim, num_classes, **options)
        check_whole("centres", centres, 1)
        check_number("gamma", gamma, above=0)
        check_number("tau", tau, least=0)
        if centres == 1:
            check_unread(SoftTriple, "with one centre", gamma=gamma, tau=tau)
        self.centres, self.gamma, self.tau = centres, gamma, tau
        weight = random_directions(num_classes * centres, embedding_dim)
        self.weight = nn.Parameter(weight.view(num_classes, centres, embedding_dim))

    def prototypes_of(self, classes: slice) -> Tensor:
        some = self.weight.detach()[classes]
        centres, _ = unit(some.flatten(0, 1))
        return unit(centres.view_as(some).mean(1))[0]

    def _soft_maximum(self, cosine: Tensor) -> Tensor:
        """(…, K) -> (…)"""
        return (F.softmax(cosine / self.gamma, dim=-1) * cosine).sum(-1)

    @full_precision
    def cosines(self, embeddings: Tensor) -> Tensor:
        cosine = cosines(embeddings, self.weight.flatten(0, 1))[0]
        return self._soft_maximum(cosine.unflatten(1, (-1, self.centres)))

    def compare_with_weights(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cosine, x, w = cosines(embeddings, self.weight.flatten(0, 1))
        cosine = cosine.unflatten(1, (-1, self.centres))
        own = torch.arange(len(labels), device=labels.device), labels
        nearest = labels * self.centres + cosine.detach()[own].argmax(1)
        return self._soft_maximum(cosine), x, w.index_select(0, nearest)

    def spread(self) -> Tensor:
        """Σ_c Σ_{k<l} ‖w_ck − w_cl‖ / (C K (K − 1)), nearly: 1e-5 keeps its gradient finite."""
        w, _ = unit(self.weight.flatten(0, 1))
        w = w.view_as(self.weight)
        distance = (2 + 1e-5 - 2 * w @ w.mT).sqrt()  # (C, K, K)
        return distance.triu(1).sum() / (len(w) * self.centres * (self.centres - 1))

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss = super().forward(embeddings, labels)
        return loss + self.tau * self.spread() if self.centres > 1 and self.tau else loss


class ProxyNCA(NormFace):
    """Proxy-NCA++: softmax over negative squared distances to the class weights.

    Equation:
        loss = −log(exp(−‖x̂ − ŵ_y‖²/T) / Σ_j exp(−‖x̂ − ŵ_j‖²/T))
        z_j = s cos θ_j with s = 2/T, as ‖x̂ − ŵ‖² = 2 − 2 cos θ

    So it is NormFace; what the paper adds lies in the training: T itself (1/9), class weights at a
    rate of their own (`optimizer.head_lr`; up to 100,000 times the backbone's in Adam with ε = 1), a
    normalised embedding layer, and few classes per batch.

    Args:
        scale: s = 2/T > 0; None is the published one.

    Source: ProxyNCA++, arXiv 2004.01113.
    """

    published_scale = 18.0
