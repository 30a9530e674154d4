"""The one equation behind the family, and what every head shares.

    target      z_y = s · t(θ_y)          t is what a member chooses, from cosine, angle and margin
    non-target  z_j = s · cos θ_j
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


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """`F.cross_entropy` of (B, C) and (B,), faster for few classes on a CPU: there the log-softmax
    over C leaves the vector unit half empty, so it runs along the batch instead (2.7× at C = 10)."""
    if logits.device.type == "cpu" and logits.size(1) <= 32:
        return F.cross_entropy(logits.T.unsqueeze(0), labels.unsqueeze(0))
    return F.cross_entropy(logits, labels)


def full_precision(method):
    """Run a head's method outside autocast, on embeddings of at least float32."""

    @functools.wraps(method)
    def wrapper(self, embeddings: Tensor, *args):
        dtype = torch.promote_types(embeddings.dtype, self.weight.dtype)
        embeddings = embeddings.to(torch.promote_types(dtype, torch.float32))
        kind = embeddings.device.type
        if not torch.is_autocast_enabled(kind):
            return method(self, embeddings, *args)
        with torch.autocast(kind, enabled=False):
            return method(self, embeddings, *args)

    return wrapper


class _MarginLogits(torch.autograd.Function):
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


class TargetPair:
    """What a member chooses its target logit from: B unit embeddings and their classes' unit weights.

    Holds numbers without a graph: `cosine`, `angle` and `sine` of θ_y, each (B,).
    """

    def __init__(self, cosine: Tensor, x: Tensor, w: Tensor):
        self.cosine, self._x, self._w = cosine, x, w

    @functools.cached_property
    def _chords(self) -> tuple[Tensor, Tensor]:
        # ‖x̂ − ŵ‖ = 2 sin(θ/2) and ‖x̂ + ŵ‖ = 2 cos(θ/2) know the angle to full precision from 0 to π;
        # acos(c) and √(1 − c²) lose half their digits at both ends.
        norm = torch.linalg.vector_norm
        return norm(self._x - self._w, dim=1), norm(self._x + self._w, dim=1)

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


class Head(nn.Module):
    """A classifier that owns the class weights W (C, D) and computes the loss from embeddings."""

    no_margin = None  # the margin's value that changes nothing; None: this member has no margin
    has_scale = True

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__()
        self.embedding_dim, self.num_classes = embedding_dim, num_classes
        self.weight = nn.Parameter(unit(torch.randn(num_classes, embedding_dim)))

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def logits(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C) without margin: what inference and accuracy use."""
        raise NotImplementedError

    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) -> (B, C) as the loss sees them; equal to `logits` where there is no margin."""
        return self.logits(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) int64 in [0, C) -> mean loss, a scalar. Labels are not checked here: that
        would stop a GPU at every step; check them once per data set."""
        return cross_entropy(self.margin_logits(embeddings, labels), labels)


class CosineHead(Head):
    """z_j = s cos θ_j: embeddings and class weights count by direction alone.

    `scale` s > 0; with `learnable_scale` it is the start of a parameter, kept positive as exp(log s).
    Raises ValueError for a scale that is not a finite number above 0.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        learnable_scale: bool = False,
    ):
        super().__init__(embedding_dim, num_classes)
        log_scale = torch.tensor(float(self.check_scale(scale))).log()
        if learnable_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("fixed_scale", torch.tensor(float(scale)))

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

    @full_precision
    def logits(self, embeddings: Tensor) -> Tensor:
        return self.scale * (cosines(unit(embeddings), unit(self.weight)))


class MarginHead(CosineHead):
    """A cosine head whose target logit carries a margin: z_y = s·t; a member defines `target`.

    `margin` is a buffer, so it can change during training (`head.margin.fill_(0.3)`), differ per
    sample (a tensor (B,)) and be saved. `straight_through`: the margin changes the loss but not its
    derivative, dz_y/dc_y = s, as some public training code does; default is the exact derivative.
    Raises ValueError for a margin outside `margin_range`.
    """

    no_margin = 0.0
    margin_range = (0.0, math.pi)

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float,
        scale: float,
        learnable_scale: bool = False,
        straight_through: bool = False,
    ):
        super().__init__(embedding_dim, num_classes, scale=scale, learnable_scale=learnable_scale)
        self.register_buffer("margin", torch.tensor(self.check_margin(margin)))
        self.straight_through = straight_through

    @classmethod
    def check_margin(cls, margin: float) -> float:
        low, high = cls.margin_range
        if isinstance(margin, bool) or not isinstance(margin, (int, float)):
            raise ValueError(f"{cls.__name__}'s margin is one number, got {margin!r}")
        if not (math.isfinite(margin) and low <= margin <= high):
            limit = "" if high == math.inf else f" and ≤ {high:.4g}"
            raise ValueError(f"{cls.__name__}'s margin is finite, ≥ {low:g}{limit}, got {margin}")
        return float(margin)

    def target(self, pair: TargetPair) -> tuple[Tensor, Tensor]:
        """t (B,), the target's cosine after the margin, and its derivative dt/dcos θ_y (B,)."""
        raise NotImplementedError

    @full_precision
    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        x, w = unit(embeddings), unit(self.weight)
        cosine = cosines(x, w)
        column = labels.unsqueeze(1)
        with torch.no_grad():
            pair = TargetPair(cosine.gather(1, column).squeeze(1), x, w.index_select(0, labels))
        t, slope = self.target(pair)
        if self.straight_through:
            slope = torch.ones_like(slope)
        return _MarginLogits.apply(cosine, self.scale, column, t, slope)


class AngularMarginHead(MarginHead):
    """A margin inside the cosine: t = ψ(φ), a member defines φ. The moved angle φ can pass π, where
    cos φ would turn and reward the worst samples. `beyond_pi` says what happens there:

    monotone  ψ(φ), which keeps falling (default)
    paper     cos φ, unguarded, as printed
    easy      cos φ where the sample is within 90° of its class, plain cos θ elsewhere
    """

    def __init__(self, *args, beyond_pi: str = "monotone", **options):
        super().__init__(*args, **options)
        if beyond_pi not in ("monotone", "paper", "easy"):
            raise ValueError(f"beyond_pi is monotone, paper or easy, got {beyond_pi!r}")
        self.beyond_pi = beyond_pi

    def moved_angle(self, angle: Tensor) -> tuple[Tensor, Tensor | float]:
        """θ (B,) -> φ (B,) and dφ/dθ."""
        raise NotImplementedError

    def target(self, pair: TargetPair) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            angle, sine = pair.angle, pair.sine
        phi, rate = self.moved_angle(angle)
        t, fall = psi(phi) if self.beyond_pi == "monotone" else (torch.cos(phi), torch.sin(phi))
        slope = fall * rate / sine
        if self.beyond_pi == "easy":
            near = pair.cosine > 0
            t, slope = torch.where(near, t, pair.cosine), slope.where(near, torch.ones_like(slope))
        return t, slope
