"""Members without a margin: the baselines."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .head import CosineHead, Head, full_precision


class Softmax(Head):
    """Plain softmax cross entropy: z = x Wᵀ + b, nothing normalised. The baseline of every paper."""

    has_scale = False

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__(embedding_dim, num_classes)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @full_precision
    def logits(self, embeddings: Tensor) -> Tensor:
        return F.linear(embeddings, self.weight, self.bias)


class NormFace(CosineHead):
    """z_j = s cos θ_j for every class. Published scale 30. Source: NormFace, arXiv 1704.06369."""
