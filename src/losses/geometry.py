"""Unit vectors, cosines and angles whose values and gradients stay exact to both ends."""

import functools
import math

import torch
from torch import Tensor

TINY_NORM = 1e-12  # shorter vectors have no direction: their cosines and gradients are 0
TINY_SINE = 1e-6  # the accuracy of a unit vector's direction in float32


def real() -> torch.dtype:
    """Return the type of parameters and buffers: torch's default, at least float32."""
    return torch.promote_types(torch.get_default_dtype(), torch.float32)


class _Refuse(torch.autograd.Function):
    """Return the first `count` tensors, whose derivative in any of the tensors is refused."""

    @staticmethod
    def forward(ctx, count: int, *tensors: Tensor):
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("heads have first derivatives only: their gradients have none")


def first_derivatives_only(backward):
    """Make a Function's backward refuse to be differentiated in what it is given and has saved.

    torch's `once_differentiable` cuts the graph instead: where a loss has a second path to the same
    tensor, as the one by ‖x‖, second derivatives would be that path's alone, without a word.
    """

    @functools.wraps(backward)
    def wrapper(ctx, *grads):
        with torch.no_grad():
            found = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return found
        found = found if isinstance(found, tuple) else (found,)
        of = [t for t in (*grads, *ctx.saved_tensors) if t is not None and t.requires_grad]
        given = [g for g in found if g is not None]
        refused = iter(_Refuse.apply(len(given), *given, *of))
        return tuple(None if g is None else next(refused) for g in found)

    return wrapper


def lengths(vectors: Tensor) -> Tensor:
    """(N, D) -> (N,); a zero vector has a zero gradient."""
    return torch.linalg.vector_norm(vectors, dim=1)


@torch.no_grad()
def follow(average: Tensor, value: Tensor, weight: float = 1.0) -> None:
    """Move a running average towards a batch's `value`, in place. A value that is not finite does not
    count: a GradScaler skips that batch's step, and one NaN would stay in the average for ever."""
    average.lerp_(torch.where(value.isfinite(), value, average), weight)


def unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (N, D) scaled to length 1, and their divisors (N, 1). A row without a direction is
    divided by infinity. Autograd would not keep such a row's gradient at zero; `cosines` does."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    norms = torch.threshold(norms, TINY_NORM, math.inf)
    return vectors / norms, norms


def random_directions(count: int, dimension: int) -> Tensor:
    """Return vectors of length 1 (N, D), drawn evenly, in the memory of one such matrix."""
    vectors = torch.randn(count, dimension, dtype=real())
    return vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True))


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor):
        given = a, b
        (a, a_norms), (b, b_norms) = unit(a), unit(b)
        ctx.save_for_backward(a, a_norms, b, b_norms, *given)  # those are for `first_derivatives_only`
        ctx.mark_non_differentiable(a, b)
        ctx.set_materialize_grads(False)  # else zeros are made for a and b
        return a @ b.T, a, b

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor | None, *_):
        if grad is None:
            return None, None
        a, a_norms, b, b_norms, *_ = ctx.saved_tensors
        to_a, to_b = ctx.needs_input_grad
        return (
            through_unit(grad @ b, a, a_norms) if to_a else None,
            through_unit(grad.T @ a, b, b_norms) if to_b else None,
        )


def through_unit(grad: Tensor, units: Tensor, norms: Tensor) -> Tensor:
    """Turn the gradient (N, D) of unit rows, in place, into that of the rows before they were scaled:
    without its part along them, and divided by their length."""
    radial = (grad * units).sum(1, keepdim=True)
    return grad.addcmul_(units, radial, value=-1).div_(norms)


def cosines(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, D), (C, D) rows of any length -> cos θ of each pair (B, C), with the longer side last in
    memory, and the rows scaled to length 1, as constants. A zero row has cosines 0 and no gradient."""
    if len(x) <= len(w):
        return _Cosines.apply(x, w)
    cosine, w, x = _Cosines.apply(w, x)
    return cosine.T, x, w


def psi(phi: Tensor) -> Tensor:
    """ψ(φ) = (−1)^k cos φ − 2k with k = ⌊φ/π⌋; φ in radians, any shape.

    The cosine on [0, π], continued so that it keeps falling.
    Source: SphereFace, arXiv 1704.08063, section 3.2.
    """
    k = torch.floor(phi.detach() * (1 / math.pi))
    # (−1)^k cos φ = cos(φ − kπ), which needs no power.
    return torch.sub(torch.cos(torch.sub(phi, k, alpha=math.pi)), k, alpha=2)


class _Arccos(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cosine: Tensor) -> Tensor:
        angle = cosine.clamp(-1, 1).acos_()
        ctx.save_for_backward(angle)
        return angle

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor) -> Tensor:
        (angle,) = ctx.saved_tensors
        # Angles below √ε have the cosine 1, so a sine of 0 means no more than "below √ε".
        least = torch.finfo(angle.dtype).eps ** 0.5
        return grad / torch.sin(angle).clamp_min_(least).neg_()


def arccos(cosine: Tensor) -> Tensor:
    """cos θ -> θ in [0, π] radians, any shape, with a finite gradient everywhere. A cosine that rounding
    put outside [−1, 1] has the angle 0 or π."""
    return _Arccos.apply(cosine)


def chords(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows (B, D), (B, D) -> ‖a − b‖ = 2 sin(θ/2) and ‖a + b‖ = 2 cos(θ/2), both (B,)."""
    return lengths(a - b), lengths(a + b)


def angle_of_chords(cosine: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """θ (B,) in [0, π] radians, π/2 where one row has no direction; `near` and `far` from `chords`.

    Chords give the angle to full precision from 0 to π; arccos(cos θ) and √(1 − cos² θ) lose half
    their digits at both ends. The gradient goes to `cosine` (B,) alone: dθ/dcos θ = −1/sin θ.
    """
    angle = torch.atan2(near, far).mul_(2)
    slope = -2 / (near * far).clamp_min_(2 * TINY_SINE)
    return torch.addcmul(angle, cosine - cosine.detach(), slope)  # adds 0, and the gradient
