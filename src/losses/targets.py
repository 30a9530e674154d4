"""Take the B target cosines out of the B×C, let a member change them, and put them back as logits.

A margin changes the targets alone, so taking out and putting back cost one pass over B×C each way, as
plain scaling would. Autograd differentiates what a member does in between, on B numbers.
"""

import torch
from torch import Tensor

from .geometry import angle_of_chords, chords, first_derivatives_only, lengths


class _TakeTargets(torch.autograd.Function):
    """Cosines (B, C), the targets' columns (B, 1) -> the same cosines, and the targets' (B,). The former
    are for the logits only: their gradient is completed here in place."""

    @staticmethod
    def forward(ctx, cosine: Tensor, column: Tensor):
        ctx.save_for_backward(column)
        return cosine.view_as(cosine), cosine.gather(1, column).squeeze(1)

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor, grad_target: Tensor):
        return grad.scatter_(1, ctx.saved_tensors[0], grad_target.unsqueeze(1)), None


class _PutTargets(torch.autograd.Function):
    """Cosines c (B, C), s, columns (B, 1), t (B,) -> logits (B, C), z_j = s c_j and z_y = s t. The
    targets' entries in the gradient of the cosines are 0: t has their gradient."""

    @staticmethod
    def forward(ctx, cosine: Tensor, scale: Tensor, column: Tensor, t: Tensor) -> Tensor:
        logits = (cosine * scale).scatter_(1, column, (t * scale).unsqueeze(1))
        ctx.save_for_backward(scale, column, logits if ctx.needs_input_grad[1] else None)
        return logits

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        scale, column, logits = ctx.saved_tensors
        grad_scale = None if logits is None else (grad * logits).sum() / scale
        grad = grad * scale
        grad_t = grad.gather(1, column).squeeze(1)
        return grad.scatter_(1, column, 0.0), grad_scale, None, grad_t


class _WithSlopeOf(torch.autograd.Function):
    """The value of one tensor with the gradient of another of its shape, as if they differed by a
    constant."""

    @staticmethod
    def forward(ctx, cosine: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


take_targets, put_targets, with_slope_of = _TakeTargets.apply, _PutTargets.apply, _WithSlopeOf.apply


class Targets:
    """B samples and the weights of their classes, from which a member computes t.

    `labels` (B,); `cosine`, cos θ_y (B,); `unit_embeddings` (B, D), without a gradient.
    """

    def __init__(self, labels: Tensor, cosine: Tensor, embeddings: Tensor, x: Tensor, w: Tensor):
        """`x` and `w` (B, D) are the unit embeddings and the unit weights of the labels."""
        self.labels, self.cosine, self.unit_embeddings = labels, cosine, x
        self._embeddings, self._unit_weights = embeddings, w
        self._chords: tuple[Tensor, Tensor] | None = None

    @property
    def angle(self) -> Tensor:
        """θ_y (B,) in [0, π] radians; π/2 where one vector has no direction."""
        if self._chords is None:  # no cached_property: its lock breaks the graph of torch.compile
            self._chords = chords(self.unit_embeddings, self._unit_weights)
        return angle_of_chords(self.cosine, *self._chords)

    @property
    def norm(self) -> Tensor:
        """‖x‖ (B,), with a gradient to the embeddings."""
        return lengths(self._embeddings)
