"""The one equation behind the family, and what every head shares.

    target      z_y = s · t(θ_y)          t is what a member chooses, from cosine, angle and margin
    non-target  z_j = s · g(cos θ_j)      g(c) = c for most
    loss        = cross entropy(z, y), mean over the batch

Shapes: embeddings x (B, D), labels y (B,) int64 in [0, C), class weights W (C, D). Angles and
margins are radians. Everything here runs in at least float32, whatever autocast says.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY_NORM = 1e-12  # shorter vectors have no direction: their cosines are 0, and so are their gradients
TINY_SINE = 1e-6  # float32 knows a unit vector's direction no better than this


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vectors: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        norms.masked_fill_(norms < TINY_NORM, math.inf)
        units = vectors / norms
        ctx.save_for_backward(units, norms)
        return units

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        units, norms = ctx.saved_tensors
        radial = (grad * units).sum(1, keepdim=True)
        return torch.addcmul(grad, units, radial, value=-1).div_(norms)


def unit(vectors: Tensor) -> Tensor:
    """Rows of (N, D) scaled to length 1; a zero row stays zero, with zero gradient."""
    return _Unit.apply(vectors)


def psi(phi: Tensor) -> tuple[Tensor, Tensor]:
    """ψ(φ) = (−1)^k cos φ − 2k, k = ⌊φ/π⌋, and how fast it falls, −dψ/dφ = |sin φ|; any shape.

    The cosine on [0, π], continued so that it keeps falling; (−1)^k cos φ is written cos(φ − kπ).
    Source: SphereFace, arXiv 1704.08063, section 3.2.
    """
    k = torch.floor(phi * (1 / math.pi))
    within = torch.sub(phi, k, alpha=math.pi)
    return torch.sub(torch.cos(within), k, alpha=2), torch.sin(within)


def cosines(x: Tensor, w: Tensor) -> Tensor:
    """(B, D), (C, D) unit rows -> (B, C), laid out with the longer side last in memory."""
    return (w @ x.T).T if x.size(0) > w.size(0) else x @ w.T


def full_precision(method):
    """Run a head's method outside autocast, on embeddings of the head's type, at least float32."""

    @functools.wraps(method)
    def wrapper(self, embeddings: Tensor, *args):
        limit = torch.finfo(embeddings.dtype).max
        embeddings = embeddings.to(self.weight.dtype)
        if limit < 1e5 and embeddings.requires_grad:  # float16 cannot hold the gradient of a tiny vector
            embeddings.register_hook(lambda grad: grad.clamp(-limit, limit))
        kind = embeddings.device.type
        if not torch.is_autocast_enabled(kind):
            return method(self, embeddings, *args)
        with torch.autocast(kind, enabled=False):
            return method(self, embeddings, *args)

    return wrapper


class _WithSlope(torch.autograd.Function):
    """`value`, with the derivative `slope` with respect to `cosine` (all of one shape), besides
    whatever graph `value` has of its own."""

    @staticmethod
    def forward(ctx, cosine: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        return grad * ctx.saved_tensors[0], grad, None


with_slope = _WithSlope.apply


class _TargetLogits(torch.autograd.Function):
    """z = s·c (B, C) with z_y = s·t, where dt/dc_y = `slope`: one pass over B×C each way, as plain
    scaling would take. `t` (B,) may have a graph of its own, for whatever else it depends on."""

    @staticmethod
    def forward(ctx, cosine: Tensor, scale: Tensor, column: Tensor, t: Tensor, slope: Tensor):
        logits = (cosine * scale).scatter_(1, column, (t * scale).unsqueeze(1))
        ctx.save_for_backward(scale, column, slope, logits if ctx.needs_input_grad[1] else None)
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        scale, column, slope, logits = ctx.saved_tensors
        grad_scale = None if logits is None else (grad * logits).sum() / scale
        grad_t = grad.gather(1, column) * scale
        grad_cosine = (grad * scale).scatter_(1, column, grad_t * slope.unsqueeze(1))
        return grad_cosine, grad_scale, None, grad_t.squeeze(1), None


class Target:
    """B samples and their own classes: what a member chooses the target logits from.

    `labels` (B,); `cosine`, `angle` and `sine` of θ_y, (B,), numbers without a graph, whose
    derivative a member states; `norm` (B,), the embeddings' lengths, with a graph.
    """

    def __init__(self, embeddings: Tensor, labels: Tensor, cosine: Tensor, x: Tensor, w: Tensor):
        self.labels, self.cosine = labels, cosine
        self.unit_embeddings, self._embeddings, self._w = x.detach(), embeddings, w.detach()

    @functools.cached_property
    def _chords(self) -> tuple[Tensor, Tensor]:
        # ‖x̂ − ŵ‖ = 2 sin(θ/2) and ‖x̂ + ŵ‖ = 2 cos(θ/2) know the angle to full precision from 0 to π;
        # acos(c) and √(1 − c²) lose half their digits at both ends.
        norm = torch.linalg.vector_norm
        return norm(self.unit_embeddings - self._w, dim=1), norm(self.unit_embeddings + self._w, dim=1)

    @property
    def angle(self) -> Tensor:
        """θ_y in [0, π]; π/2 where a vector has no direction."""
        near, far = self._chords
        return 2 * torch.atan2(near, far + TINY_NORM)

    @property
    def sine(self) -> Tensor:
        """sin θ_y, kept above the precision of the unit vectors, so that 1/sin θ_y is finite."""
        near, far = self._chords
        return (near * far).mul_(0.5).clamp_min_(TINY_SINE)

    @property
    def norm(self) -> Tensor:
        return torch.linalg.vector_norm(self._embeddings, dim=1)


class Head(nn.Module):
    """A classifier that owns the class weights W (C, D) and computes the loss from embeddings.

    `label_smoothing` ε spreads a share ε of each target evenly over all classes; `class_weights`
    (C numbers) weigh samples by their class, the mean taken over the weights, as in torch.
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
        class_weights: list[float] | None = None,
    ):
        super().__init__()
        self.embedding_dim, self.num_classes = embedding_dim, num_classes
        self.weight = nn.Parameter(unit(torch.randn(num_classes, embedding_dim)))
        if not self.softmax_type and (label_smoothing or class_weights is not None):
            raise ValueError(f"{type(self).__name__} has no cross entropy to smooth or weigh")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is from 0 to below 1, got {label_smoothing}")
        if class_weights is not None:
            class_weights = torch.tensor(class_weights, dtype=torch.float32)
            if (
                class_weights.shape != (num_classes,)
                or not (class_weights > 0).any()
                or (class_weights < 0).any()
            ):
                raise ValueError(f"class_weights are {num_classes} numbers, none negative, not all 0")
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights)

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def _apply(self, fn, recurse: bool = True):
        """Under `model.half()` or `.to(bfloat16)` a head moves along and stays float32."""

        def at_least_float32(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in (torch.half, torch.bfloat16) else moved

        return super()._apply(at_least_float32, recurse)

    @property
    def prototypes(self) -> Tensor:
        """(C, D), a direction of length 1 for each class."""
        return unit(self.weight.detach())

    @full_precision
    def cosines(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C), cos θ of every class."""
        return cosines(unit(embeddings), unit(self.weight))

    def logits(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C) without margin: what inference and accuracy use."""
        raise NotImplementedError

    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) -> (B, C) as the loss sees them; equal to `logits` where there is no margin."""
        return self.logits(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) int64 in [0, C) -> mean loss, a scalar. Labels are not checked here: that
        would stop a GPU at every step; check them once per data set."""
        return self.cross_entropy(self.margin_logits(embeddings, labels), labels)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C), (B,) -> scalar. For few classes on a CPU, log-softmax over C leaves the vector unit
        half empty, so it runs along the batch instead (2.7× faster at C = 10)."""
        if logits.device.type == "cpu" and logits.size(1) <= 32:
            logits, labels = logits.T.unsqueeze(0), labels.unsqueeze(0)
        return F.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing
        )


class CosineHead(Head):
    """z_j = s cos θ_j: embeddings and class weights count by direction alone.

    `scale` s > 0. With `learnable_scale` it is the start of a parameter, kept positive as exp(log s);
    with `dynamic_scale` it follows the training batches as AdaCos's does (arXiv 1905.00292):
    s = ln(B) / cos(min(π/4, median θ_y)), B the batch's mean of Σ_{j≠y} exp(s c_j), at least 1.
    `inter_topk` k and `inter_topk_margin` m' (radians): the k hardest non-targets of each sample
    get ψ(θ_j − m'), as if they were nearer (Inter-TopK, arXiv 2110.05042).
    Raises ValueError for a scale that is not a finite number above 0.
    """

    straight_through = False

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        learnable_scale: bool = False,
        dynamic_scale: bool = False,
        inter_topk: int = 0,
        inter_topk_margin: float = 0.06,
        **options,
    ):
        super().__init__(embedding_dim, num_classes, **options)
        log_scale = torch.tensor(float(self.check_scale(scale))).log()
        if learnable_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("fixed_scale", torch.tensor(float(scale)))
        if dynamic_scale and learnable_scale:
            raise ValueError("a scale is learnable or dynamic, not both")
        self.dynamic_scale = dynamic_scale
        if not isinstance(inter_topk, int) or not 0 <= inter_topk < num_classes:
            raise ValueError(
                f"inter_topk is a whole number from 0 to {num_classes - 1}, got {inter_topk}"
            )
        if not 0 <= inter_topk_margin <= math.pi:
            raise ValueError(f"inter_topk_margin is an angle in [0, π], got {inter_topk_margin}")
        self.inter_topk, self.inter_topk_margin = inter_topk, inter_topk_margin

    @property
    def scale(self) -> Tensor:
        """The scale s, a 0-dim tensor."""
        return self.log_scale.exp() if hasattr(self, "log_scale") else self.fixed_scale

    @staticmethod
    def check_scale(scale: float) -> float:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise ValueError(f"a scale is a number, got {scale!r}")
        if not 0 < scale < math.inf:
            raise ValueError(f"a scale is finite and above 0, got {scale}")
        return scale

    # What a member can change, each with what most do.

    def factor(self, embeddings: Tensor) -> Tensor:
        """What cosines are multiplied with: the scale, or (B, 1), or (B, C)."""
        return self.scale.clone() if self.dynamic_scale else self.scale  # the buffer moves on

    def compare(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings (B, D) -> cosines (B, C), and the weights of their own classes (B, D)."""
        w = unit(self.weight)
        return cosines(x, w), w.detach().index_select(0, labels)

    def observe(self, target: Target, cosine: Tensor) -> None:
        """Move running statistics by one training step; called in training mode only."""
        if self.dynamic_scale:
            others = (self.fixed_scale * cosine).scatter(1, target.labels.unsqueeze(1), -math.inf)
            log_mean = others.logsumexp((0, 1)) - math.log(len(cosine))
            median = target.angle.median().clamp_max(math.pi / 4)
            self.fixed_scale.copy_((log_mean / median.cos()).clamp_min(1.0))

    def target(self, target: Target) -> tuple[Tensor, Tensor]:
        """t (B,), the target's cosine after the margin, and its derivative dt/dcos θ_y (B,)."""
        return target.cosine, torch.ones_like(target.cosine)

    def plain_slope(self, target: Target) -> Tensor:
        """dt/dcos θ_y (B,) as it is without a margin: what `straight_through` uses."""
        return torch.ones_like(target.cosine)

    def others(self, cosine: Tensor, target: Target, t: Tensor) -> Tensor:
        """g(cos θ_j) (B, C); the target's column is not used."""
        return cosine

    # What all share.

    @full_precision
    def logits(self, embeddings: Tensor) -> Tensor:
        return self.factor(embeddings) * self.cosines(embeddings)

    @full_precision
    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        x = unit(embeddings)
        cosine, own = self.compare(x, labels)
        column = labels.unsqueeze(1)
        target = Target(embeddings, labels, cosine.detach().gather(1, column).squeeze(1), x, own)
        if self.training:
            with torch.no_grad():
                self.observe(target, cosine)
        t, slope = self.target(target)
        if self.straight_through:
            t, slope = t.detach(), self.plain_slope(target)
        others = self.nearer(cosine, target) if self.inter_topk else cosine
        others, factor = self.others(others, target, t), self.factor(embeddings)
        if others is cosine and factor.ndim == 0:
            return _TargetLogits.apply(cosine, factor, column, t, slope)
        t = with_slope(cosine.gather(1, column), t.unsqueeze(1), slope.unsqueeze(1))
        factor = factor.expand_as(cosine)
        return (factor * others).scatter(1, column, factor.gather(1, column) * t)

    def nearer(self, cosine: Tensor, target: Target) -> Tensor:
        """The k hardest non-targets' cosines moved by `inter_topk_margin` towards the sample."""
        with torch.no_grad():
            rivals = cosine.scatter(1, target.labels.unsqueeze(1), -math.inf)
            columns = rivals.topk(self.inter_topk, dim=1).indices  # (B, k)
            angle = rivals.gather(1, columns).clamp(-1, 1).acos()
            value, fall = psi(angle - self.inter_topk_margin)
            slope = fall / torch.sin(angle).clamp_min(TINY_SINE)
        return cosine.scatter(1, columns, with_slope(cosine.gather(1, columns), value, slope))


class MarginHead(CosineHead):
    """A cosine head whose target logit carries a margin.

    `margin` is a buffer, so it can change during training (`head.margin.fill_(0.3)`), differ per
    sample (a tensor (B,)) and be saved. `straight_through`: the margin changes the loss but not its
    derivative, dz_y/dc_y = s, as some public training code does; default is the exact derivative.
    Raises ValueError for a margin outside `margin_range`.
    """

    no_margin = 0.0
    margin_range = (0.0, math.pi)

    def __init__(self, *args, margin: float, straight_through: bool = False, **options):
        super().__init__(*args, **options)
        self.register_buffer("margin", torch.tensor(self.check_margin(margin)))
        self.straight_through = straight_through

    @property
    def column_margin(self) -> Tensor:
        """The margin, a sample's own as (B, 1), to act on a row of (B, C)."""
        return self.margin.unsqueeze(-1) if self.margin.ndim else self.margin

    @classmethod
    def check_margin(cls, margin: float) -> float:
        low, high = cls.margin_range
        if not is_number(margin):
            raise ValueError(f"{cls.__name__}'s margin is one number, got {margin!r}")
        if not (math.isfinite(margin) and low <= margin <= high):
            limit = "" if high == math.inf else f" and ≤ {high:.4g}"
            raise ValueError(f"{cls.__name__}'s margin is finite, ≥ {low:g}{limit}, got {margin}")
        return float(margin)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class AngularMarginHead(MarginHead):
    """A margin inside the cosine: t = ψ(φ), a member defines φ. The moved angle φ can pass π, where
    cos φ would turn and reward the worst samples. `beyond_pi` says what happens there:

    monotone  ψ(φ), which keeps falling (default)
    paper     as the paper or its authors' code has it; cos φ, unguarded, for most
    easy      cos φ where the sample is within 90° of its class, plain cos θ elsewhere
    """

    def __init__(self, *args, beyond_pi: str = "monotone", **options):
        super().__init__(*args, **options)
        if beyond_pi not in ("monotone", "paper", "easy"):
            raise ValueError(f"beyond_pi is monotone, paper or easy, got {beyond_pi!r}")
        self.beyond_pi = beyond_pi

    def moved_angle(self, target: Target) -> tuple[Tensor, Tensor | float]:
        """φ (B,) and dφ/dθ."""
        raise NotImplementedError

    def printed(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """The published cosine of φ (B,), and how fast it falls."""
        return torch.cos(phi), torch.sin(phi)

    def target(self, target: Target) -> tuple[Tensor, Tensor]:
        phi, rate = self.moved_angle(target)
        t, fall = _FORMS[self.beyond_pi](self, phi)
        slope = fall.detach() * rate / target.sine
        if self.beyond_pi == "easy":
            near = target.cosine > 0
            t, slope = torch.where(near, t, target.cosine), slope.where(near, torch.ones_like(slope))
        return t, slope


_FORMS = {
    "monotone": lambda head, phi: psi(phi),
    "paper": lambda head, phi: head.printed(phi),
    "easy": AngularMarginHead.printed,
}
