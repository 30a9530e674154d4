"""The one equation behind the family, and what every head shares.

    target      z_y = s · t(θ_y)          t is what a member chooses, from cosine, angle and margin
    non-target  z_j = s · g(cos θ_j)      g(c) = c for most
    loss        = cross entropy(z, y), mean over the batch

Shapes: embeddings x (B, D), labels y (B,) int64 in [0, C), class weights W (C, D). Angles and
margins are radians. Everything here runs in at least float32, whatever autocast says.
"""

import functools
import inspect
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import BadArgument, check_choice, check_number, check_whole, is_number
from .geometry import arccos, cosines, follow, psi, random_directions, real, unit
from .targets import Targets, put_targets, take_targets, with_slope_of
from .tiles import Shard, ShardOfClasses, tiled_cross_entropy

HALVES = (torch.half, torch.bfloat16)
LARGE, TILE = 2**23, 2048  # auto takes tiles from B·C = LARGE on, of TILE classes each
WRITTEN = 2**24  # entries of (B, C) that kernels write at a time, 64 MiB


def full_precision(method):
    """Run a head's method outside autocast, on embeddings of the head's type, at least float32, after
    `check_shapes`."""

    @functools.wraps(method)
    def wrapper(self, embeddings: Tensor, *labels: Tensor):
        check_shapes(self.embedding_dim, embeddings, *labels)
        embeddings = embeddings.to(self.weight.dtype)
        kind = embeddings.device.type
        if not torch.is_autocast_enabled(kind):
            return method(self, embeddings, *labels)
        with torch.autocast(kind, enabled=False):
            return method(self, embeddings, *labels)

    return wrapper


def check_shapes(embedding_dim: int, embeddings: Tensor, labels: Tensor | None = None) -> None:
    """Raise BadArgument unless embeddings are (B, D) and labels, if given, (B,) int64 with B ≥ 1: the
    mean over other labels may be a number all the same."""
    if embeddings.ndim != 2 or embeddings.size(1) != embedding_dim:
        raise BadArgument("embeddings.shape", tuple(embeddings.shape), f"expected (B, {embedding_dim})")
    if labels is None:
        return
    if labels.shape != embeddings.shape[:1]:
        why = f"expected ({len(embeddings)},), one for each embedding"
        raise BadArgument("labels.shape", tuple(labels.shape), why)
    if labels.dtype != torch.int64:
        raise BadArgument("labels.dtype", labels.dtype, "expected torch.int64")
    if len(labels) == 0:
        raise BadArgument("labels.shape", (0,), "expected at least one sample")


def in_digits(values: Tensor) -> str:
    """Return up to three numbers as `print` shows them, `0.35` or `(1, 0.3, 0.2)`; the shape of more."""
    if values.is_meta or values.numel() > 3:
        return f"tensor{tuple(values.shape)}"
    digits = [f"{value:.6g}" for value in values.flatten().tolist()]
    return digits[0] if values.ndim == 0 else f"({', '.join(digits)})"


def check_unread(owner: type, why: str, **options) -> None:
    """Raise BadArgument for an option that another one switches off, unless it has `owner`'s default: it
    would do nothing, and a sweep over it would compare identical runs."""
    defaults = inspect.signature(owner).parameters
    for name, value in options.items():
        if value != defaults[name].default:
            raise BadArgument(name, value, f"changes nothing {why}")


class Head(nn.Module):
    """A classifier that owns the class weights W (C, D) and computes the loss from embeddings.

    Args:
        embedding_dim: D, the dimension of the embeddings.
        num_classes: C, the number of classes.
        label_smoothing: ε in [0, 1); spreads a share ε of each target evenly over all classes.
        class_weights: C finite numbers above 0, the weight of each class's samples; the loss is the
            weighted mean, as in torch. balanced: by inverse class frequency; call `balance` before
            training, or the loss is NaN.
    """

    no_margin = None  # the margin's value that changes nothing; None: this member has no margin
    has_scale = True
    softmax_type = True  # the loss is a cross entropy over classes

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: list[float] | Literal["balanced"] | None = None,
    ):
        super().__init__()
        self.embedding_dim, self.num_classes, self.shard = embedding_dim, num_classes, Shard()
        self.weight = nn.Parameter(random_directions(num_classes, embedding_dim))
        if not self.softmax_type:
            no_entropy = f"{type(self).__name__} has no cross entropy"
            if label_smoothing:
                raise BadArgument("label_smoothing", label_smoothing, f"{no_entropy} to smooth")
            if class_weights is not None:
                raise BadArgument("class_weights", class_weights, f"{no_entropy} to weigh")
        check_number("label_smoothing", label_smoothing, least=0, below=1)
        if class_weights == "balanced":
            class_weights = torch.full((num_classes,), math.nan, dtype=real())
        elif class_weights is not None:
            given = class_weights
            class_weights = torch.tensor(given, dtype=real(), device="cpu")
            positive = (class_weights > 0) & class_weights.isfinite()
            if class_weights.shape != (num_classes,) or not positive.all():
                why = f"expected {num_classes} finite numbers above 0, one for each class"
                raise BadArgument("class_weights", given, why)
            class_weights = class_weights.to(self.weight.device)
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights)

    @torch.no_grad()
    def balance(self, labels: Tensor) -> None:
        """Weigh each class by N / (C · its samples) in the training labels (N,), as if a class without
        samples had one."""
        counts = torch.bincount(labels, minlength=self.num_classes).clamp(min=1)
        self.class_weights.copy_(len(labels) / (self.num_classes * counts))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.described().items())

    def described(self) -> dict[str, object]:
        """Return the settings that `print(head)` shows."""
        return {"embedding_dim": self.embedding_dim, "num_classes": self.num_classes}

    def _apply(self, fn, recurse: bool = True):
        """Stay in float32 under `model.half()` or `.to(bfloat16)`, and move along otherwise."""

        def at_least_float32(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.dtype not in HALVES:
                return moved
            return tensor.to(moved.device, torch.promote_types(tensor.dtype, torch.float32))

        return super()._apply(at_least_float32, recurse)

    def _load_from_state_dict(self, *args) -> None:
        """Load, and return to float32 where `load_state_dict(assign=True)` has put in halves."""
        super()._load_from_state_dict(*args)
        own = [*self.parameters(recurse=False), *self.buffers(recurse=False)]
        if any(tensor.dtype in HALVES for tensor in own):
            self._apply(lambda tensor: tensor)

    @property
    def prototypes(self) -> Tensor:
        """(C, D), one direction of length 1 for each class."""
        return self.prototypes_of(slice(None))

    def prototypes_of(self, classes: slice) -> Tensor:
        """Some of the `prototypes`, without a copy of the others."""
        return unit(self.weight.detach()[classes])[0]

    @full_precision
    def cosines(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C), cos θ of every class."""
        return cosines(embeddings, self.weight)[0]

    def logits(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C) without margin: what inference and accuracy use."""
        raise NotImplementedError

    @full_precision
    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) -> (B, C) as the loss sees them; equal to `logits` where there is no margin."""
        return self.logits(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) int64 in [0, C) -> mean loss, a scalar. Raise BadArgument for other shapes or
        types. Whether labels are in [0, C) is not checked here: that would stop a GPU at every step;
        check them once per data set."""
        return self.cross_entropy(self.margin_logits(embeddings, labels), labels)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C), (B,) -> scalar. For few classes on a CPU, log-softmax over C would leave the vector
        unit half empty, so it runs along the batch (2.7 times faster at C = 10)."""
        if logits.device.type == "cpu" and logits.size(1) <= 32:
            logits, labels = logits.T.unsqueeze(0), labels.unsqueeze(0)
        return F.cross_entropy(
            logits,
            labels,
            weight=self.class_weights,
            ignore_index=torch.iinfo(torch.int64).min,  # torch's −100 is no class here either
            label_smoothing=self.label_smoothing,
        )


class CosineHead(Head):
    """z_j = s cos θ_j: embeddings and class weights count by direction alone.

    Args:
        scale: s > 0; None is the published one.
        learnable_scale: train the scale, as the parameter log s; `scale` is its start.
        dynamic_scale: let the scale follow the training batches as AdaCos's does (arXiv 1905.00292): s
            = ln(B) / cos(min(π/4, median θ_y)), B the batch's mean of Σ_{j≠y} exp(s c_j), at least 1.
        inter_topk: k; the k hardest non-targets of each sample get ψ(θ_j − m'), as if they were nearer
            (Inter-TopK, arXiv 2110.05042). 0: none.
        inter_topk_margin: m' in [0, π] radians.
        gradient: exact is the derivative of the formula. detached is characteristic gradient
            detachment (arXiv 2109.05565): margins count in the loss, and the slope of every logit in
            its own cosine, the targets' and the others', is what that cosine is multiplied by (s, or
            the member's ‖x‖).
        tiling: compute the loss in tiles of so many classes, without (B, C) in memory. auto: on a CPU,
            where (B, C) would be large and this loss allows it; off: never, unless classes are sampled
            or shared by processes; a number: always, that many classes at a time; triton: by kernels
            for NVIDIA GPUs, of losses whose other classes' logits are cosines times a fixed scale.
        sample_rate: r in (0, 1]; below 1, each training step compares with the batch's own classes and
            random others, the share r of all, an approximation (Partial FC, arXiv 2203.15565). `sample`
            then has the rows of W with their gradient, `weight` has none, and the optimizer takes a step
            within `sampled_rows` of src.training.

    Raises ValueError for a scale that is not a finite number above 0, and for options that would do
    nothing: an `inter_topk_margin` with `inter_topk` 0, `gradient` detached where every slope is that
    already, `tiling` or a `sample_rate` of a loss that needs all cosines at once.
    """

    published_scale: float | None = None
    plain_slopes = False  # every logit is a cosine times the factor, plus a constant
    centres = 1  # rows of W for each class
    other_logits = False  # not cosines: AdaCos's scale, which is derived for those, would be meaningless

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float | None = None,
        learnable_scale: bool = False,
        dynamic_scale: bool = False,
        inter_topk: int = 0,
        inter_topk_margin: float = 0.06,
        gradient: Literal["exact", "detached"] = "exact",
        tiling: int | Literal["auto", "off", "triton"] = "auto",
        sample_rate: float = 1.0,
        **options,
    ):
        super().__init__(embedding_dim, num_classes, **options)
        scale = self.published_scale if scale is None else scale
        start = torch.tensor(float(self.check_scale(scale)), dtype=real())
        if learnable_scale:
            self.log_scale = nn.Parameter(start.log())
        else:
            self.register_buffer("fixed_scale", start)
        if not self.has_scale:
            why = f"for {type(self).__name__}, which has no scale"
            check_unread(CosineHead, why, learnable_scale=learnable_scale, dynamic_scale=dynamic_scale)
        if dynamic_scale and self.other_logits:
            why = f"AdaCos's scale is that of cosines, which the logits of {type(self).__name__} are not"
            raise BadArgument("dynamic_scale", dynamic_scale, why)
        if dynamic_scale and learnable_scale:
            raise BadArgument(
                "dynamic_scale", dynamic_scale, "a scale is learnable or dynamic, not both"
            )
        self.learnable_scale, self.dynamic_scale = learnable_scale, dynamic_scale
        check_whole("inter_topk", inter_topk, 0, num_classes - 1)
        check_number("inter_topk_margin", inter_topk_margin, least=0, most=math.pi)
        if not inter_topk:
            check_unread(CosineHead, "with inter_topk=0", inter_topk_margin=inter_topk_margin)
        self.inter_topk, self.inter_topk_margin = inter_topk, inter_topk_margin
        check_choice("gradient", gradient, "exact", "detached")
        self.gradient = gradient
        self.check_detachable(self.plain_slopes)
        if tiling == "triton":
            self.check_kernels()
        elif tiling not in ("auto", "off"):
            check_whole("tiling", tiling, 1)
            if not self.can_be_tiled:
                why = f"changes nothing: {type(self).__name__}, as it is, needs all cosines at once"
                raise BadArgument("tiling", tiling, why)
        self.tiling = tiling
        check_number("sample_rate", sample_rate, above=0, most=1)
        if sample_rate < 1 and not self.can_be_split:
            why = f"{type(self).__name__}, as it is, needs all cosines at once: leave it out"
            raise BadArgument("sample_rate", sample_rate, why)
        if sample_rate < 1 and self.label_smoothing:
            raise BadArgument(
                "sample_rate", sample_rate, "label_smoothing is over all classes: not both"
            )
        self.sample_rate, self.sample = sample_rate, None

    def check_kernels(self) -> None:
        """Raise BadArgument unless the loss can be computed by kernels."""
        if not (self.can_be_tiled and self.others_scaled and self.centres == 1):
            why = f"{type(self).__name__}, as it is, does more to other classes than to scale them: "
        elif self.learnable_scale:
            why = "they do not differentiate a learnable scale: "
        else:
            return
        raise BadArgument("tiling", "triton", why + "use auto")

    def check_detachable(self, plain_slopes: bool) -> None:
        """Raise BadArgument for a detached gradient that would be the exact one."""
        if self.gradient == "detached" and plain_slopes and not self.inter_topk:
            raise BadArgument(
                "gradient",
                self.gradient,
                f"changes nothing for {type(self).__name__}: each logit's slope in its cosine is the "
                "scale already",
            )

    def keep_classes(self, first: int, last: int) -> None:
        """Hold the weights of the classes from `first` to before `last` alone, as one of several
        processes that hold all of them together and give their heads the same embeddings. For losses
        that `can_be_split`."""
        self.weight = nn.Parameter(self.weight.detach()[first:last].clone())
        self.shard = ShardOfClasses(first)

    @property
    def sampling(self) -> bool:
        """True if the loss is that of a sample of the classes."""
        return self.training and self.sample_rate < 1

    @property
    def can_be_tiled(self) -> bool:
        """True if the loss can be computed without all cosines of a sample at once. A class says so for
        itself, by `in_tiles = True`; its subclasses may override what tiles do not call."""
        return vars(type(self)).get("in_tiles", False)

    @property
    def others_scaled(self) -> bool:
        """True if every non-target's logit is its cosine times the scale."""
        own, base = type(self), CosineHead
        scaled = own.non_target_cosines is base.non_target_cosines and own.factor is base.factor
        return scaled and not self.inter_topk

    @property
    def can_be_split(self) -> bool:
        """True if the loss can also be computed with a sample of the classes, or by several processes
        with a part of them each."""
        return self.can_be_tiled and self.centres == 1 and not self.inter_topk

    def classes_at_a_time(self, batch: int, classes: int, device: str) -> int | None:
        """Return the size of the tiles for B embeddings, C classes and a kind of device; None where the
        loss is not tiled."""
        if self.tiling == "triton":
            return max(1, WRITTEN // max(batch, self.weight.shape[-1]))  # rows of W are as large
        if self.sampling or not self.shard.alone:
            return self.tiling if isinstance(self.tiling, int) else TILE
        if self.tiling != "auto":
            return None if self.tiling == "off" else self.tiling
        large = device == "cpu" and batch * classes * self.centres >= LARGE
        fits = large and self.can_be_tiled and not torch.compiler.is_compiling()
        return max(1, TILE // self.centres) if fits else None

    def described(self) -> dict[str, object]:
        scale = {"scale": in_digits(self.scale)} if self.has_scale else {}
        switches = ("learnable_scale", "dynamic_scale", "inter_topk")
        on = {name: getattr(self, name) for name in switches if getattr(self, name)}
        return super().described() | scale | on | {"gradient": self.gradient}

    @property
    def scale(self) -> Tensor:
        """The scale s, a 0-dim tensor."""
        return self.log_scale.exp() if self.learnable_scale else self.fixed_scale

    @staticmethod
    def check_scale(scale: float) -> float:
        """Return the scale. Raise BadArgument unless it is a number above 0 in float32's range."""
        single = torch.finfo(torch.float32)
        if not (is_number(scale) and single.tiny <= scale <= single.max):
            raise BadArgument("scale", scale, "expected a finite number above 0, in float32's range")
        return scale

    # What a member can override.

    def factor(self, embeddings: Tensor) -> Tensor:
        """Return what cosines are multiplied by: the scale, or a member's (B, 1) or (B, C)."""
        return self.scale.clone() if self.dynamic_scale else self.scale  # the buffer changes in place

    def compare_with_weights(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, D), (B,) -> cosines (B, C), and the unit embeddings (B, D) and unit weights of the labels
        (B, D), both as constants."""
        cosine, x, w = cosines(embeddings, self.weight)
        return cosine, x, w.index_select(0, labels)

    def own_rows(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the rows (B,) of W that are those of the labels (B,), of several the nearest. For tiles
        of classes, in place of `compare_with_weights`."""
        return labels

    def update_statistics(self, targets: Targets) -> None:
        """Update running statistics by one training step. Called in training mode only, under `no_grad`.
        A batch that is not finite must leave them finite: see `follow`."""

    def target_cosine(self, targets: Targets) -> Tensor:
        """Return t (B,), which replaces the target's cosine in its logit; autograd differentiates it."""
        return targets.cosine

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        """Return g(cos θ_j) (B, C) of `cosine` (B, C), given t (B,) from `target_cosine`. The targets'
        entries are not used."""
        return cosine

    # What all members share.

    @full_precision
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        size = self.classes_at_a_time(len(embeddings), self.num_classes, embeddings.device.type)
        if size:
            return tiled_cross_entropy(self, embeddings, labels, size)
        return super().forward(embeddings, labels)

    @full_precision
    def logits(self, embeddings: Tensor) -> Tensor:
        return self.factor(embeddings) * self.cosines(embeddings)

    @full_precision
    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine, x, w = self.compare_with_weights(embeddings, labels)
        column = labels.unsqueeze(1)
        untouched, target = take_targets(cosine, column)
        targets = Targets(labels, target, embeddings, x, w)
        if self.training:
            with torch.no_grad():
                if self.dynamic_scale:
                    others = (self.fixed_scale * cosine).scatter(1, column, -math.inf)
                    self.follow_batch(targets, others.logsumexp(1))
                self.update_statistics(targets)
        detached = self.gradient == "detached"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detached):
            t = self.target_cosine(targets)
            others = self._raise_hardest(cosine, labels) if self.inter_topk else cosine
            others = self.non_target_cosines(others, targets, t)
        if detached:
            t = with_slope_of(target, t)
            others = others if others is cosine else with_slope_of(untouched, others)
        factor = self.factor(embeddings)
        if factor.ndim == 0:
            return put_targets(untouched if others is cosine else others, factor, column, t)
        factor = factor.expand_as(cosine)
        return (factor * others).scatter(1, column, factor.gather(1, column) * t.unsqueeze(1))

    def follow_batch(self, targets: Targets, others: Tensor) -> None:
        """Let a dynamic scale follow a batch, given log Σ_{j≠y} exp(s c_j) (B,)."""
        log_mean = others.logsumexp(0) - math.log(len(others))
        median = targets.angle.median().clamp_max(math.pi / 4)
        follow(self.fixed_scale, (log_mean / median.cos()).clamp_min(1.0))

    def _raise_hardest(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """Move the k hardest non-targets of each row of cosines (B, C) nearer by `inter_topk_margin`."""
        rivals = cosine.detach().scatter(1, labels.unsqueeze(1), -math.inf)
        columns = rivals.topk(self.inter_topk, dim=1).indices  # (B, k)
        return cosine.scatter(1, columns, self.nearer(cosine.gather(1, columns)))

    def nearer(self, cosine: Tensor) -> Tensor:
        """Cosines of any shape as if their angles were smaller by `inter_topk_margin`."""
        return psi(arccos(cosine) - self.inter_topk_margin)
