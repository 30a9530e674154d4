"""The exact loss of many classes without its (B, C) logits: tiles of classes, one after the other.

A first pass over the tiles sums up each sample's log-sum-exp, a second one computes each tile again and
with it the gradients. That is four products of B×C×D in place of three, and memory for one tile; the
hardest non-targets of Inter-TopK, and AdaCos's dynamic scale in training, take one product more each.
What a member does to targets is differentiated by autograd on B numbers, what it does to non-targets on
a tile. The length of a class's weights, and the scale where it is all that a member does to non-targets,
are folded into the columns, so there is no second copy of W.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .geometry import TINY_NORM, first_derivatives_only, through_unit, unit
from .targets import Targets, with_slope_of

if TYPE_CHECKING:
    from .head import CosineHead


class Shard:
    """The classes that one of several processes holds, from `first` on, and sums and maxima over all of
    them, which may overwrite what they are given. This is the share of a process alone."""

    first, alone = 0, True

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def highest(self, tensor: Tensor) -> Tensor:
        return tensor


class ShardOfClasses(Shard):
    """One of several processes' share of the classes; torch.distributed connects them."""

    alone = False

    def __init__(self, first: int):
        self.first = first

    def sum(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def highest(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor


class _Tile(NamedTuple):
    """T `classes`, and their K `rows` each of W: their weights (T K, D) and cosines (B, T K) in memory
    that the next tile will use; with more than one row to a class, the `nearest` (B, T) of each, whose
    `cosine` (B, T) counts. And the column (B, 1) of each sample's target, with whether it is in this
    tile."""

    classes: slice
    rows: slice
    weight: Tensor
    cosine_of_rows: Tensor
    cosine: Tensor
    nearest: Tensor | None
    column: Tensor
    inside: Tensor

    def put(self, matrix: Tensor, values: Tensor) -> None:
        """Write a value a sample (B,) to the targets' places in a matrix (B, T)."""
        _put(matrix, self.column, self.inside, values)

    def with_nearer(self, head: "CosineHead", hardest: Tensor | None) -> Tensor:
        """The cosines (B, T), of which those of the `hardest` classes (B, k) are `nearer`."""
        if hardest is None:
            return self.cosine
        column = hardest - self.classes.start
        rows, places = ((column >= 0) & (column < self.cosine.shape[1])).nonzero(as_tuple=True)
        if not len(rows):
            return self.cosine
        there = rows, column[rows, places]
        return self.cosine.index_put(there, head.nearer(self.cosine[there]))

    def of_rows(self, values: Tensor, columns: Tensor, near: Tensor, of_targets: Tensor) -> Tensor:
        """Values (B, T) of classes as those (B, T K) of their nearest rows, the others' 0, times
        `columns` (R,) of W's rows; with `of_targets` (B,) in the rows `near` (B,) of W. Overwrites the
        cosines of rows."""
        if self.nearest is not None:
            self.put(values, torch.zeros_like(of_targets))
            spread = self.cosine_of_rows.zero_().unflatten(1, (self.nearest.shape[1], -1))
            values = spread.scatter_(2, self.nearest.unsqueeze(2), values.unsqueeze(2)).flatten(1)
        values = values.mul_(columns[self.rows])
        column = (near - self.rows.start).unsqueeze(1).clamp(0, len(self.weight) - 1)
        _put(values, column, self.inside, of_targets)
        return values


def _put(matrix: Tensor, column: Tensor, inside: Tensor, values: Tensor) -> None:
    there = matrix.gather(1, column)
    matrix.scatter_(1, column, torch.where(inside, values.unsqueeze(1), there))


def _tiles(
    x: Tensor, weight: Tensor, columns: Tensor | None, labels: Tensor, size: int, centres: int
) -> Iterator[_Tile]:
    """Tiles of at most `size` classes, of each of which W has so many rows; all share one piece of
    memory, since new memory takes longer than what is computed in it. `columns` (R,) is 1/‖w‖, or that
    times the scale: then a tile has logits where it says cosines; if it is None, the memory alone."""
    memory = x.new_empty(len(x), min(size * centres, len(weight)))
    for first in range(0, len(weight) // centres, size):
        rows = slice(first * centres, (first + size) * centres)
        own = weight[rows]
        of_rows = memory[:, : len(own)]
        if columns is not None:
            torch.mm(x, own.T, out=of_rows).mul_(columns[rows])
        cosine, nearest, count = of_rows, None, len(own) // centres
        if centres > 1:
            cosine, nearest = of_rows.unflatten(1, (count, centres)).max(2)
        column = (labels - first).unsqueeze(1)
        inside = (column >= 0) & (column < count)
        target = column.clamp(0, count - 1), inside
        classes = slice(first, first + size)
        yield _Tile(classes, rows, own, of_rows, cosine, nearest, *target)


def _hardest(count: int, tiles: Iterator[_Tile]) -> Tensor | None:
    """The classes (B, `count`) of each sample's hardest non-targets; None for none."""
    if not count:
        return None
    cosine, classes = None, None
    for tile in tiles:
        tile.put(tile.cosine, torch.full_like(tile.cosine[:, 0], -torch.inf))
        found, place = tile.cosine.topk(min(count, tile.cosine.shape[1]))
        place = place + tile.classes.start
        if cosine is not None:
            found, place = torch.cat([cosine, found], 1), torch.cat([classes, place], 1)
        cosine, among = found.topk(min(count, found.shape[1]))
        classes = place.gather(1, among)
    return classes


class _Smoothing(NamedTuple):
    """The weights of a cross entropy: sample i counts with `own` (B,) times −log p_y and, with label
    smoothing, Σ_j `each` (C,) times −log p_j, of which `of_own` (B,) are its label's. `each` are of the
    classes held here, `total` is the sum of all."""

    own: Tensor
    of_own: Tensor | None
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
        if not epsilon:
            return cls(own, None, None, 0.0)
        return cls(own, each[labels], each[head.shard.first :][: len(head.weight)], each.sum())

    def of_tile(self, tile: _Tile) -> Tensor | None:
        return None if self.each is None else self.each[tile.classes]


class _Sums:
    """Sums up the logits z of the non-targets over tiles: Σ exp(z − highest) as `sums` (B,), which
    float32 holds better than a log-sum-exp; and `weighted`, Σ z (B,) with the weights `each` (C,)."""

    def __init__(self, like: Tensor, each: Tensor | None = None):
        self.zero, self.nothing = torch.zeros_like(like), torch.full_like(like, -torch.inf)
        self.highest = torch.full_like(like, torch.finfo(like.dtype).min)
        self.sums, self.weighted, self.each = self.zero, self.zero, each

    def add(self, tile: _Tile, z: Tensor) -> None:
        """Add a tile's logits (B, T), which are overwritten."""
        if self.each is not None:
            tile.put(z, self.zero)
            self.weighted = self.weighted + z @ self.each[tile.classes]
        tile.put(z, self.nothing)
        self.raise_to(torch.maximum(self.highest, z.amax(1)))
        self.sums = self.sums + z.sub_(self.highest.unsqueeze(1)).exp_().sum(1)

    def add_all(self, head: "CosineHead", x, weight, columns, here, size: int) -> None:
        """Add the logits of all rows of W, which are products of x (B, D) with them times `columns`
        (R,)."""
        if head.tiling == "triton":
            from .kernels import sums_of_others  # which needs triton

            self.highest, self.sums, self.weighted = sums_of_others(x, weight, columns, here, self.each)
            return
        for tile in _tiles(x, weight, columns, here, size, head.centres):
            self.add(tile, tile.cosine)

    def raise_to(self, highest: Tensor) -> None:
        self.sums = self.sums * (self.highest - highest).exp_()
        self.highest = highest

    def over(self, shard: Shard) -> "_Sums":
        """The same over the classes of all processes."""
        self.raise_to(shard.highest(self.highest.clone()))
        self.sums = shard.sum(self.sums)
        return self

    @property
    def log_sum_exp(self) -> Tensor:
        return self.highest + self.sums.log()


class _TiledCrossEntropy(torch.autograd.Function):
    """Computes the loss from embeddings (B, D), rows of W (R, D), and the head's other parameters.
    `here` (B,) is the place of each label among the classes of these rows, `near` (B,) the row of W that
    is nearest to the sample among the rows of its class."""

    @staticmethod
    def forward(ctx, head: "CosineHead", size: int, labels, here, near, embeddings, weight, *parameters):
        x, x_norms = unit(embeddings)
        shard, centres = head.shard, head.centres
        own, own_norms = _own_weights(shard, weight, near)
        # Autograd differentiates what lies between these and the targets' logits, and the factor.
        leaves = (x * own).sum(1).requires_grad_(), embeddings.detach().requires_grad_(), *parameters
        targets = Targets(labels, leaves[0], leaves[1], x, own)
        norms = torch.linalg.vector_norm(weight, dim=1)
        inverse = torch.where(norms > TINY_NORM, norms.reciprocal(), 0.0)
        if head.training and head.dynamic_scale:
            sums = _Sums(leaves[0])
            sums.add_all(head, x, weight, inverse * head.fixed_scale, here, size)
            head.follow_batch(targets, sums.over(shard).log_sum_exp)
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
        hardest = _hardest(head.inter_topk, _tiles(x, weight, inverse, here, size, centres))
        if head.others_scaled:
            sums.add_all(head, x, weight, inverse * factor.detach(), here, size)
        else:
            for tile in _tiles(x, weight, inverse, here, size, centres):
                cosine = tile.with_nearer(head, hardest)
                sums.add(tile, head.non_target_cosines(cosine, targets, t) * factor)
        sums.over(shard)
        below, log_sums = logit - sums.highest, sums.sums.log()
        gap = log_sums - below  # exact also where the target has almost all of the probability
        surprise = torch.logaddexp(gap, torch.zeros_like(gap))  # −log p_y
        loss, rest = (smoothing.own * surprise).sum(), torch.logaddexp(log_sums, below)
        if smoothing.each is not None:
            pulled = shard.sum(sums.weighted) + smoothing.of_own * logit
            loss += (smoothing.total * (sums.highest + rest) - pulled).sum()
        ctx.head, ctx.size, ctx.smoothing, ctx.targets = head, size, smoothing, targets
        ctx.hardest = hardest
        ctx.buffers = {  # as they are now; running statistics go on, and a margin may be set anew
            name: buffer.clone()
            for name, buffer in head.named_buffers(recurse=False)
            if buffer.numel() <= max(head.num_classes, len(labels))
        }
        ctx.leaves, ctx.logit, ctx.t, ctx.factor = leaves, logit, t, factor
        rows = here, near, weight, own, own_norms, inverse
        ctx.save_for_backward(*rows, x, x_norms, gap, sums.highest, rest)
        return loss

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        head, smoothing, leaves = ctx.head, ctx.smoothing, ctx.leaves
        here, near, weight, own, own_norms, inverse, *of_samples = ctx.saved_tensors
        x, x_norms, gap, highest, rest = of_samples
        shard, held = head.shard, (near >= 0) & (near < len(weight))
        near_or_any = near.clamp(0, len(weight) - 1)
        factor, exact = ctx.factor.detach(), head.gradient == "exact"
        of_logit = -smoothing.own * torch.sigmoid(gap)  # 1 − p_y, without cancellation
        if smoothing.each is not None:
            of_logit += smoothing.total * torch.sigmoid(-gap) - smoothing.of_own
        found = _gradients(ctx.logit, leaves, grad * of_logit)
        of_target = torch.zeros_like(gap) if found[0] is None else found[0] * inverse[near_or_any]
        found[0] = None
        of_tiles: list[Tensor | None] = [None] * len(found)
        of_factor, rest = torch.zeros_like(factor), rest - (smoothing.own + smoothing.total).log()
        highest, rest = highest.unsqueeze(1), rest.unsqueeze(1)
        of_x, of_weight = ctx.needs_input_grad[5:7]
        if head.tiling == "triton":
            from .kernels import write_slopes  # which needs triton
        x_grad = torch.zeros_like(x)
        weight_grad = torch.empty_like(weight) if of_weight else None
        memory = torch.empty_like(weight[: ctx.size * head.centres])
        counts = ctx.factor.requires_grad  # then the cosines are needed beside the logits
        scaled, by_kernels = head.others_scaled and not counts, head.tiling == "triton"
        columns = inverse * factor if scaled else inverse
        back = columns * grad if scaled else columns
        computed = None if by_kernels else columns
        for tile in _tiles(x, weight, computed, here, ctx.size, head.centres):
            z = cosine = tile.cosine
            if by_kernels:
                given = columns[tile.rows], back[tile.rows], smoothing.of_tile(tile)
                place = near - tile.rows.start
                write_slopes(z, x, tile.weight, *given, place, of_target, highest, rest)
            elif scaled:
                _probabilities(z, highest, rest, smoothing.of_tile(tile))
            else:
                with torch.set_grad_enabled(exact), _buffers(head, ctx.buffers):
                    cosine.requires_grad_()
                    g = head.non_target_cosines(tile.with_nearer(head, ctx.hardest), ctx.targets, ctx.t)
                z = _probabilities(g.detach() * factor, highest, rest, smoothing.of_tile(tile))
                tile.put(z, torch.zeros_like(gap))
                if counts:
                    of_factor += grad * (z * g.detach()).sum_to_size(factor.shape)
                z.mul_(factor * grad)
                if exact:
                    z, *more = _gradients(g, (cosine, *leaves), z)
                    of_tiles = list(map(_sum, of_tiles, more))
            if not by_kernels:
                z = tile.of_rows(z, back, near, of_target)
            if of_x:
                x_grad.addmm_(z, tile.weight)
            if not of_weight:
                continue
            tile_grad = torch.mm(z.T, x, out=weight_grad[tile.rows])
            products = torch.mul(tile_grad, tile.weight, out=memory[: len(tile_grad)])
            radial = products.sum(1).mul_(inverse[tile.rows] ** 2)
            tile_grad.addcmul_(tile.weight, radial.unsqueeze(1), value=-1)
        x_grad = shard.sum(x_grad)
        found = map(_sum, found, [one if one is None else shard.sum(one.clone()) for one in of_tiles])
        of_factor = shard.sum(of_factor) if counts else of_factor
        later, of_embeddings, *of_parameters = map(
            _sum, found, _gradients(ctx.factor, leaves, of_factor)
        )
        if later is not None:  # what a member's non-targets have to do with the target's cosine
            x_grad += later.unsqueeze(1) * own
            if of_weight:
                of_own = through_unit(later.unsqueeze(1) * x, own, own_norms)
                weight_grad.index_add_(0, near_or_any, of_own * held.unsqueeze(1))
        x_grad = through_unit(x_grad, x, x_norms)
        return None, None, None, None, None, _sum(x_grad, of_embeddings), weight_grad, *of_parameters


def _probabilities(z: Tensor, highest: Tensor, rest: Tensor, each: Tensor | None) -> Tensor:
    """Turn logits (B, T) into probabilities, as far as they count."""
    z.sub_(highest).sub_(rest).exp_()
    return z if each is None else z.sub_(each)


def _own_weights(shard: Shard, weight: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """The unit weights of the labels (B, D), which stand at the rows `here` (B,) of W, and their lengths
    (B, 1); of classes that other processes hold, any lengths."""
    if shard.alone:
        return unit(weight.index_select(0, here))  # which refuses labels outside
    held = (here >= 0) & (here < len(weight))
    own, norms = unit(weight.index_select(0, here.clamp(0, len(weight) - 1)))
    return shard.sum(own * held.unsqueeze(1)), norms


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
    """The mean loss of embeddings (B, D) with labels (B,), by tiles of `size` classes; where it is
    `sampling`, of a new `head.sample` of them."""
    weight, here = head.weight, labels - head.shard.first
    near = head.own_rows(embeddings, here)
    if weight.ndim == 3:
        weight = weight.flatten(0, 1)
    if head.sampling:
        head.sample = Sample.drawn(
            head.weight, here, head.sample_rate, head.shard.first, head.num_classes
        )
        weight, here = head.sample.weight, head.sample.places_of(here)
        near = here
    others = [p for p in head.parameters() if p is not head.weight and p.requires_grad]
    return _TiledCrossEntropy.apply(head, size, labels, here, near, embeddings, weight, *others)


class Sample(NamedTuple):
    """Some rows (R,) of W, in order, and their weights (R, D), which have a gradient of their own."""

    rows: Tensor
    weight: nn.Parameter

    @classmethod
    def drawn(cls, weight: Tensor, here: Tensor, rate: float, first: int, classes: int) -> "Sample":
        """All rows `here` (B,) that are in W, and random others, together the share `rate` of W or more.
        Each process draws for all classes, so that generators stay the same."""
        score = torch.rand(classes, device=weight.device)[first : first + len(weight)]
        score[here[(here >= 0) & (here < len(weight))]] = 2
        count = max(math.ceil(rate * len(weight)), int((score == 2).sum()))
        rows = score.topk(count, sorted=False).indices.sort().values
        return cls(rows, nn.Parameter(weight.detach()[rows]))

    def places_of(self, here: Tensor) -> Tensor:
        """Where rows `here` (B,) of W stand among `rows`; -1 for those that do not."""
        places = torch.searchsorted(self.rows, here).clamp_max(len(self.rows) - 1)
        return torch.where(self.rows[places] == here, places, -1)
