"""Triton kernels for the loss in tiles of classes. Each fuses a matrix product with the step after it,
so that logits are never stored.

The kernels are for losses whose non-targets' logits are cosines times one scale. Each computes blocks of
logits, of x (B, D), rows of W (C, D), and `columns` (C,): the scale over each row's length.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = {"ROWS": 128, "CLASSES": 128, "STEP": 32}  # of logits, and of the product's depth
LAUNCH = {"num_warps": 8, "num_stages": 3}  # with which registers suffice on Hopper
PARTS = 64  # of the classes, which programs share


@triton.jit
def _logits(
    x,
    weight,
    columns,
    rows,
    classes,
    here,
    there,
    D: tl.constexpr,
    STEP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The logits of some `rows` and `classes`, as far as they are `here` and `there`."""
    steps = tl.arange(0, STEP)
    of_x = x + rows[:, None].to(tl.int64) * D + steps[None, :]
    of_weight = weight + classes[None, :].to(tl.int64) * D + steps[:, None]
    z = tl.zeros((rows.shape[0], classes.shape[0]), x.dtype.element_ty)
    for first in range(0, D, STEP):
        inside = steps < D - first
        one = tl.load(of_x + first, here[:, None] & inside[None, :], 0.0)
        other = tl.load(of_weight + first, there[None, :] & inside[:, None], 0.0)
        z = tl.dot(one, other, z, input_precision=PRECISION, out_dtype=x.dtype.element_ty)
    return z * tl.load(columns + classes, there, 0.0)[None, :]


@triton.jit
def _sums(
    x,
    weight,
    columns,
    each,
    targets,
    highest,
    sums,
    weighted,
    batch,
    count,
    LOWEST: tl.constexpr,
    SIZE: tl.constexpr,
    D: tl.constexpr,
    SMOOTHED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    STEP: tl.constexpr,
):
    """Of some rows and SIZE classes, without the rows' targets: the highest logit, Σ exp(z − highest)
    and, if SMOOTHED, Σ each z."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here, part = rows < batch, tl.program_id(1)
    target = tl.load(targets + rows, here, -1)
    top = tl.full((ROWS,), LOWEST, x.dtype.element_ty)
    total = tl.zeros((ROWS,), x.dtype.element_ty)
    pulled = tl.zeros((ROWS,), x.dtype.element_ty)
    for first in range(0, SIZE, CLASSES):
        classes = part * SIZE + first + tl.arange(0, CLASSES)
        there = classes < count
        z = _logits(x, weight, columns, rows, classes, here, there, D, STEP, PRECISION)
        others = there[None, :] & (classes[None, :] != target[:, None])
        if SMOOTHED:
            share = tl.load(each + classes, there, 0.0)
            pulled += tl.sum(tl.where(others, z, 0.0) * share[None, :], 1)
        z = tl.where(others, z, float("-inf"))
        above = tl.maximum(top, tl.max(z, 1))
        total = total * tl.exp(top - above) + tl.sum(tl.exp(z - above[:, None]), 1)
        top = above
    place = part * batch + rows
    tl.store(highest + place, top, here)
    tl.store(sums + place, total, here)
    if SMOOTHED:
        tl.store(weighted + place, pulled, here)


@triton.jit
def _slopes(
    x,
    weight,
    columns,
    each,
    targets,
    of_targets,
    highest,
    rest,
    back,
    slopes,
    stride,
    batch,
    count,
    D: tl.constexpr,
    SMOOTHED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    STEP: tl.constexpr,
):
    """(exp(z − highest − rest) − each) times `back`, and at the rows' targets `of_targets`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    classes = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    here, there = rows < batch, classes < count
    z = _logits(x, weight, columns, rows, classes, here, there, D, STEP, PRECISION)
    slope = tl.exp(
        z - tl.load(highest + rows, here, 0.0)[:, None] - tl.load(rest + rows, here, 0.0)[:, None]
    )
    if SMOOTHED:
        slope -= tl.load(each + classes, there, 0.0)[None, :]
    slope *= tl.load(back + classes, there, 0.0)[None, :]
    own = classes[None, :] == tl.load(targets + rows, here, -1)[:, None]
    slope = tl.where(own, tl.load(of_targets + rows, here, 0.0)[:, None], slope)
    place = slopes + rows[:, None].to(tl.int64) * stride + classes[None, :]
    tl.store(place, slope, here[:, None] & there[None, :])


def _precision() -> str:
    """Return the precision of products of float32, which is torch's."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def sums_of_others(
    x: Tensor, weight: Tensor, columns: Tensor, targets: Tensor, each: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return of each sample's non-targets the highest logit (B,), Σ exp(z − highest) (B,) and, with
    weights `each` (C,), Σ each z (B,); `targets` (B,) are rows of W, or none of them."""
    batch, count = len(x), len(weight)
    size = triton.cdiv(triton.cdiv(count, PARTS), BLOCK["CLASSES"]) * BLOCK["CLASSES"]
    parts = triton.cdiv(count, size)
    highest, sums, weighted = x.new_zeros(3, parts, batch)
    lowest, smoothed = torch.finfo(x.dtype).min, each is not None
    given = x.contiguous(), weight.contiguous(), columns, each if smoothed else columns, targets
    grid = triton.cdiv(batch, BLOCK["ROWS"]), parts
    sizes = batch, count, lowest, size, x.shape[1]
    _sums[grid](*given, highest, sums, weighted, *sizes, smoothed, _precision(), **BLOCK, **LAUNCH)
    top = highest.amax(0)
    return top, (sums * (highest - top).exp()).sum(0), weighted.sum(0)


def write_slopes(
    slopes: Tensor,
    x: Tensor,
    weight: Tensor,
    columns: Tensor,
    back: Tensor,
    each: Tensor | None,
    targets: Tensor,
    of_targets: Tensor,
    highest: Tensor,
    rest: Tensor,
) -> None:
    """Write the slopes (B, C) of the loss in the products of x (B, D) and rows of W (C, D): (exp(z −
    highest − rest) − each) times `back` (C,), and `of_targets` (B,) at the rows' `targets` (B,), those
    that there are."""
    batch, count, smoothed = len(x), len(weight), each is not None
    given = x.contiguous(), weight.contiguous(), columns, each if smoothed else columns, targets
    of_samples = of_targets, highest, rest, back
    grid = triton.cdiv(batch, BLOCK["ROWS"]), triton.cdiv(count, BLOCK["CLASSES"])
    shape = slopes.stride(0), batch, count, x.shape[1]
    _slopes[grid](*given, *of_samples, slopes, *shape, smoothed, _precision(), **BLOCK, **LAUNCH)
