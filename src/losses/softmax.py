"""Members without a margin: the baselines."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import check_number
from .geometry import real
from .head import CosineHead, Head, full_precision
from .targets import Targets


class Softmax(Head):
    """Plain softmax cross entropy.

    Equation:
        z = x Wᵀ + b

    Nothing is normalised, and there is neither margin nor scale.

    Source: none; the baseline of every paper.
    """

    has_scale = False

    def __init__(self, embedding_dim: int, num_classes: int, **options):
        super().__init__(embedding_dim, num_classes, **options)
        self.bias = nn.Parameter(torch.zeros(num_classes, dtype=real()))

    @full_precision
    def logits(self, embeddings: Tensor) -> Tensor:
        return F.linear(embeddings, self.weight, self.bias)


class NormFace(CosineHead):
    """Softmax over scaled cosines, without margin.

    Equation:
        z_j = s cos θ_j, for every class

    Source: NormFace, arXiv 1704.06369.
    """

    published_scale = 30.0
    in_tiles = True
    plain_slopes = True


class X2Softmax(CosineHead):
    """Use a parabola of the target's angle, whose margin grows with the angle.

    Equation:
        z_y = s (a (θ_y − h)² + k)
        z_j = s cos θ_j

    The authors' code has gradient=detached.

    Args:
        a: a < 0, the curvature.
        h: h ≤ 0 radians, the vertex; above 0 the logit would rise with the angle.
        k: the height of the vertex, a cosine.

    Raises ValueError for values outside these ranges.
    Source: X2-Softmax, arXiv 2312.05281.
    """

    published_scale = 64.0
    in_tiles = True

    def __init__(self, *args, a: float = -0.9, h: float = 0.0, k: float = 0.65, **options):
        super().__init__(*args, **options)
        check_number("a", a, below=0)
        check_number("h", h, most=0)
        check_number("k", k)
        self.a, self.h, self.k = a, h, k

    def target_cosine(self, targets: Targets) -> Tensor:
        return self.a * (targets.angle - self.h) ** 2 + self.k
