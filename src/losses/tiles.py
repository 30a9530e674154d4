"""The exact loss of many classes without its (B, C) logits: tiles of classes, one after the other.

A first pass over the tiles sums up each sample's log-sum-exp, a second one computes each tile again and
with it the gradients. That is four products of B×C×D in place of three, and memory for one tile. What a
member does to targets is differentiated by autograd on B numbers, what it does to non-targets on a tile.
The length of a class's weights is folded into the columns, so there is no second copy of W.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .geometry import TINY_NORM, first_derivatives_only, through_unit, unit
from .targets import Targets, with_slope_of

if TYPE_CHECKING:
    from .head import CosineHead


class _Tile(NamedTuple):
    """Classes `rows` of W: their weights (T, D), 1/‖w‖ (T,), the cosines (B, T) in memory that the next
    tile will use, and where each sample's target stands (B, 1), with whether it is in this tile."""

    rows: slice
    weight: Tensor
    inverse: Tensor
    cosine: Tensor
    column: Tensor
    inside: Tensor

    def put(self, matrix: Tensor, values: Tensor) -> None:
        """Write a value a sample (B,) to the targets' places in a matrix (B, T)."""
        there = matrix.gather(1, self.column)
        matrix.scatter_(1, self.column, torch.where(self.inside, values.unsqueeze(1), there))


def _tiles(x: Tensor, weight: Tensor, inverse: Tensor, labels: Tensor, size: int) -> Iterator[_Tile]:
    """Tiles of at most `size` classes; all share one piece of memory, since new memory takes longer than
    what is computed in it."""
    memory = x.new_empty(len(x), min(size, len(weight)))
    for first in range(0, len(weight), size):
        rows = slice(first, first + size)
        own = weight[rows]
        cosine = torch.mm(x, own.T, out=memory[:, : len(own)]).mul_(inverse[rows])
        column = (labels - first).unsqueeze(1)
        inside = (column >= 0) & (column < len(own))
        yield _Tile(rows, own, inverse[rows], cosine, column.clamp(0, len(own) - 1), inside)


class _Smoothing(NamedTuple):
    """The weights of a cross entropy: sample i counts with `own` (B,) times −log p_y and, with label
    smoothing, Σ_j `each` (C,) times −log p_j. `total` is the sum of `each`."""

    own: Tensor
    each: Tensor | None
    total: Tensor | float

    @classmethod
    def of(cls, head: "CosineHead", labels: Tensor) -> "_Smoothing":
        """As torch's, with `label_smoothing` and `class_weights`."""
        weights, epsilon = head.class_weights, head.label_smoothing
        if weights is None:
            weights = head.weight.new_ones(()).expand(head.num_classes)
        own = weights[labels]
        each = epsilon / head.num_classes * weights / own.sum()
        own = (1 - epsilon) * own / own.sum()
        return cls(own, each, each.sum()) if epsilon else cls(own, None, 0.0)


class _Sums:
    """Sums up the logits of the non-targets over tiles: `others`, their log-sum-exp (B,), and
    `weighted`, their sum (B,) with the weights `each` (C,), if there are any."""

    def __init__(self, like: Tensor, each: Tensor | None = None):
        self.zero, self.nothing = torch.zeros_like(like), torch.full_like(like, -torch.inf)
        self.others, self.weighted, self.each = self.nothing, self.zero, each

    def add(self, tile: _Tile, z: Tensor) -> None:
        """Add a tile's logits (B, T), which are overwritten."""
        if self.each is not None:
            tile.put(z, self.zero)
            self.weighted = self.weighted + z @ self.each[tile.rows]
        tile.put(z, self.nothing)
        highest = z.amax(1, keepdim=True).clamp_min_(torch.finfo(z.dtype).min)
        sums = z.sub_(highest).exp_().sum(1)
        self.others = torch.logaddexp(self.others, highest.squeeze(1) + sums.log())


class _TiledCrossEntropy(torch.autograd.Function):
    """Embeddings (B, D), W (C, D) and the head's other parameters -> the loss."""

    @staticmethod
    def forward(ctx, head: "CosineHead", size: int, labels: Tensor, embeddings, weight, *parameters):
        x, x_norms = unit(embeddings)
        own, _ = unit(weight.index_select(0, labels))  # which refuses labels outside
        # Autograd differentiates what lies between these and the targets' logits, and the factor.
        leaves = (x * own).sum(1).requires_grad_(), embeddings.detach().requires_grad_(), *parameters
        targets = Targets(labels, leaves[0], leaves[1], x, own)
        norms = torch.linalg.vector_norm(weight, dim=1)
        inverse = torch.where(norms > TINY_NORM, norms.reciprocal(), 0.0)
        if head.training and head.dynamic_scale:
            sums = _Sums(leaves[0])
            for tile in _tiles(x, weight, inverse, labels, size):
                sums.add(tile, tile.cosine.mul_(head.fixed_scale))
            head.follow_batch(targets, sums.others)
        if head.training:
            head.update_statistics(targets)
        with torch.enable_grad():
            with torch.set_grad_enabled(head.gradient == "exact"):
                t = head.target_cosine(targets)
            if head.gradient == "detached":
                t = with_slope_of(leaves[0], t)
            factor = head.factor(leaves[1])
            logit = t * (factor if factor.ndim == 0 else factor.squeeze(1))
        smoothing = _Smoothing.of(head, labels)
        sums = _Sums(logit, smoothing.each)
        for tile in _tiles(x, weight, inverse, labels, size):
            g = head.non_target_cosines(tile.cosine, targets, t)
            sums.add(tile, g.mul_(factor) if g is tile.cosine else g * factor)
        others, pulled = sums.others, sums.weighted
        gap = others - logit  # exact also where the target has almost all of the probability
        surprise = torch.logaddexp(gap, torch.zeros_like(gap))  # −log p_y
        loss, log_sum = (smoothing.own * surprise).sum(), logit + surprise
        if smoothing.each is not None:
            pulled = pulled + smoothing.each[labels] * logit
            loss += (smoothing.total * log_sum - pulled).sum()
        ctx.head, ctx.size, ctx.smoothing, ctx.targets = head, size, smoothing, targets
        ctx.buffers = {  # as they are now; running statistics go on, and a margin may be set anew
            name: buffer.clone()
            for name, buffer in head.named_buffers(recurse=False)
            if buffer.numel() <= max(head.num_classes, len(labels))
        }
        ctx.leaves, ctx.logit, ctx.t, ctx.factor = leaves, logit, t, factor
        ctx.save_for_backward(embeddings, weight, labels, x, x_norms, inverse, gap, log_sum)
        return loss

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        head, smoothing, leaves = ctx.head, ctx.smoothing, ctx.leaves
        _, weight, labels, x, x_norms, inverse, gap, log_sum = ctx.saved_tensors
        factor, exact = ctx.factor.detach(), head.gradient == "exact"
        of_logit = -smoothing.own * torch.sigmoid(gap)  # 1 − p_y, without cancellation
        if smoothing.each is not None:
            of_logit += smoothing.total * torch.sigmoid(-gap) - smoothing.each[labels]
        found = _gradients(ctx.logit, leaves, grad * of_logit)
        of_target = torch.zeros_like(gap) if found[0] is None else found[0] * inverse[labels]
        found[0] = None
        of_factor, offset = torch.zeros_like(factor), log_sum - (smoothing.own + smoothing.total).log()
        of_x, of_weight = ctx.needs_input_grad[3:5]
        x_grad = torch.zeros_like(x)
        weight_grad = torch.empty_like(weight) if of_weight else None
        memory = torch.empty_like(weight[: ctx.size])
        for tile in _tiles(x, weight, inverse, labels, ctx.size):
            cosine = tile.cosine.requires_grad_()
            with torch.set_grad_enabled(exact), _buffers(head, ctx.buffers):
                g = head.non_target_cosines(cosine, ctx.targets, ctx.t)
            plain = g is cosine
            counts = ctx.factor.requires_grad  # then the cosines are needed beside the logits
            z = g.detach().mul_(factor) if plain and not counts else g.detach() * factor
            z.sub_(offset.unsqueeze(1)).exp_()  # probabilities, as far as they count
            if smoothing.each is not None:
                z.sub_(smoothing.each[tile.rows])
            if counts or not plain:
                tile.put(z, torch.zeros_like(gap))
            if counts:
                of_factor += grad * (z * g.detach()).sum_to_size(factor.shape)
            if plain or not exact:
                z.mul_(factor * grad * tile.inverse)
            else:
                z, *more = _gradients(g, (cosine, *leaves), z.mul_(factor * grad))
                found = list(map(_sum, found, more))
                z = z.mul_(tile.inverse)
            tile.put(z, of_target)
            if of_x:
                x_grad.addmm_(z, tile.weight)
            if not of_weight:
                continue
            own = torch.mm(z.T, x, out=weight_grad[tile.rows])
            products = torch.mul(own, tile.weight, out=memory[: len(own)])
            radial = products.sum(1).mul_(tile.inverse**2)
            own.addcmul_(tile.weight, radial.unsqueeze(1), value=-1)
        later, of_embeddings, *of_parameters = map(
            _sum, found, _gradients(ctx.factor, leaves, of_factor)
        )
        if later is not None:  # what a member's non-targets have to do with the target's cosine
            own, norms = unit(weight.index_select(0, labels))
            x_grad += later.unsqueeze(1) * own
            if of_weight:
                weight_grad.index_add_(0, labels, through_unit(later.unsqueeze(1) * x, own, norms))
        x_grad = through_unit(x_grad, x, x_norms)
        return None, None, None, _sum(x_grad, of_embeddings), weight_grad, *of_parameters


@contextmanager
def _buffers(head: "CosineHead", values: dict[str, Tensor]) -> Iterator[None]:
    """Give a head's buffers other values within a block."""
    now = {name: getattr(head, name) for name in values}
    try:
        for name, value in values.items():
            setattr(head, name, value)
        yield
    finally:
        for name, value in now.items():
            setattr(head, name, value)


def _gradients(output: Tensor, inputs: tuple[Tensor, ...], grad: Tensor) -> list[Tensor | None]:
    if not output.requires_grad:
        return [None] * len(inputs)
    return [*torch.autograd.grad(output, inputs, grad, retain_graph=True, allow_unused=True)]


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second


def tiled_cross_entropy(head: "CosineHead", embeddings: Tensor, labels: Tensor, size: int) -> Tensor:
    """The mean loss of embeddings (B, D) with labels (B,), by tiles of `size` classes."""
    others = [p for p in head.parameters() if p is not head.weight and p.requires_grad]
    return _TiledCrossEntropy.apply(head, size, labels, embeddings, head.weight, *others)
