"""A loss from elsewhere, as a head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import BadArgument
from .geometry import cosines
from .head import Head, full_precision

RENEWED = 0.2  # share of a running class mean that a batch with samples of the class replaces


class ModuleLoss(Head):
    """Train with any module that takes embeddings and labels, such as a loss of pytorch-metric-learning.

    Equation:
        loss = module(x, y), or module(x, y, miner(x, y))

    The module's own parameters train with the head's. The class weights of this head do not: each is the
    running mean of its class's unit embeddings in training batches, so that a closed set can be
    classified, by the nearest mean, and drawn.

    Args:
        module: called with embeddings (B, D), labels (B,) and what the miner returns; gives a scalar.
        miner: called with embeddings (B, D) and labels (B,), such as a miner of
            pytorch-metric-learning; None: no third argument.

    Raises ValueError for what is no torch.nn.Module.
    Source: none; the module's own.
    """

    has_scale = False
    softmax_type = False

    def __init__(
        self, embedding_dim: int, num_classes: int, *, module: nn.Module, miner: nn.Module | None = None
    ):
        super().__init__(embedding_dim, num_classes)
        for name, value in (("module", module), ("miner", miner)):
            if not isinstance(value, nn.Module) and not (value is None and name == "miner"):
                raise BadArgument(name, type(value).__name__, "expected a torch.nn.Module")
        self.module, self.miner = module, miner
        self.weight.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    @full_precision
    def logits(self, embeddings: Tensor) -> Tensor:
        return cosines(embeddings, self.weight)[0]

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            self.follow(embeddings.detach(), labels)
        if self.miner is None:
            return self.module(embeddings, labels)
        return self.module(embeddings, labels, self.miner(embeddings, labels))

    @torch.no_grad()
    def follow(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move the running means of the classes in a batch towards its embeddings (B, D)."""
        classes, place = labels.unique(return_inverse=True)
        mean = embeddings.new_zeros(len(classes), self.embedding_dim)
        mean = F.normalize(mean.index_add_(0, place, F.normalize(embeddings)))
        old = self.weight[classes]
        moved = torch.where(self.seen[classes, None], torch.lerp(old, mean, RENEWED), mean)
        self.weight[classes] = F.normalize(moved)
        self.seen[classes] = True
