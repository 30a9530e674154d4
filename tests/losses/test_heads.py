"""Every head against the formula, in values and gradients, to the ends of the angle."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.losses import HEADS, ArcFace, CombinedMargin, CosFace, MarginHead, NormFace, Softmax, SphereFace
from tests.losses import reference

MARGINS = {
    "cosface": (0.0, 0.35, 2.0),
    "arcface": (0.0, 0.5, math.pi),
    "sphereface": (1.0, 1.35, 4.0),
    "combined": ((1.0, 0.0, 0.0), (1.0, 0.3, 0.2), (0.9, 0.4, 0.15), (1.5, 0.0, 0.0)),
}
CASES = [(name, m) for name, margins in MARGINS.items() for m in margins]
THETAS = (0.0, 1e-4, 0.02, 0.4, 1.0, 1.57, 2.0, 2.6, math.pi - 0.5, 2.9, 3.1, math.pi - 1e-4, math.pi)


def make(name, classes, dimension, margin=None, scale=64.0, **options):
    if name == "softmax":
        return Softmax(dimension, classes)
    margin = {} if name == "normface" else {"margin": margin}
    return HEADS[name](dimension, classes, scale=scale, **margin, **options)


def placed(head, w):
    head.weight.data.copy_(torch.from_numpy(w))
    return head


def tolerance(scale: float, precision: float = 2.0**-24) -> float:
    """Logits of size s carry a rounding error of s·2⁻²⁴ times a few; the loss inherits it."""
    return max(1e-5, 16 * scale * precision)


@pytest.mark.parametrize("scale", [1.0, 30.0, 64.0, 512.0])
@pytest.mark.parametrize(("name", "margin"), [("normface", None), *CASES])
def test_values_follow_the_formula_from_0_to_pi(name, margin, scale):
    rng = np.random.default_rng(0)
    for classes, dimension in ((2, 2), (10, 3), (10, 512), (300, 3)):
        x, w, y = reference.batch(rng, THETAS, classes, dimension)
        head = placed(make(name, classes, dimension, margin, scale), w)
        z = head.margin_logits(torch.from_numpy(x), torch.from_numpy(y)).detach().numpy()
        expected = reference.logits(name, x.astype(float), w.astype(float), y, scale, margin)
        assert np.abs(z - expected).max() <= 1e-5 * max(np.abs(expected).max(), scale) / 4
        loss = head(torch.from_numpy(x), torch.from_numpy(y)).item()
        assert loss == pytest.approx(reference.cross_entropy(expected, y), rel=1e-5, abs=1e-6 * scale)


@pytest.mark.parametrize("scale", [1.0, 64.0, 512.0])
@pytest.mark.parametrize(("name", "margin"), [("normface", None), *CASES])
def test_gradients_follow_the_formula(name, margin, scale):
    # Where a target angle is 0 or π, or the moved one a multiple of π, a derivative does not exist.
    thetas = [t for t in THETAS if 0.01 < t < math.pi - 0.01]
    if name != "normface" and name != "cosface":
        m1, m2 = (
            margin[:2] if name == "combined" else (margin, 0) if name == "sphereface" else (1, margin)
        )
        thetas = [t for t in thetas if abs(math.remainder(m1 * t + m2, math.pi)) > 0.01]
    rng = np.random.default_rng(1)
    for classes, dimension in ((2, 2), (5, 3)):
        x, w, y = reference.batch(rng, thetas, classes, dimension)
        head = placed(make(name, classes, dimension, margin, scale), w)
        x_ = torch.from_numpy(x).requires_grad_()
        head(x_, torch.from_numpy(y)).backward()
        x, w = x.astype(float), w.astype(float)

        def of_x(v, w=w, y=y):
            return reference.loss(name, v, w, y, scale, margin)

        def of_w(v, x=x, y=y):
            return reference.loss(name, x, v, y, scale, margin)

        for got, function, at in ((x_.grad, of_x, x), (head.weight.grad, of_w, w)):
            expected = reference.gradient(function, at, 2e-5)
            error = np.abs(got.numpy() - expected).max() / np.abs(expected).max()
            assert error <= tolerance(scale), (classes, dimension)


@pytest.mark.parametrize(("name", "margin"), [("normface", None), *CASES])
def test_float64_gradients_pass_gradcheck(name, margin):
    torch.manual_seed(0)
    head = make(name, 4, 3, margin, 8.0).double()
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0, 1])

    def loss(x, weight):
        return torch.func.functional_call(head, {"weight": weight}, (x, y))

    assert torch.autograd.gradcheck(loss, (x, head.weight.detach().clone().requires_grad_()), atol=1e-6)


def test_learnable_scale_passes_gradcheck():
    torch.manual_seed(0)
    head = ArcFace(3, 4, margin=0.5, scale=8.0, learnable_scale=True).double()
    x, y = torch.randn(6, 3, dtype=torch.double), torch.tensor([0, 1, 2, 3, 0, 1])

    def loss(log_scale):
        return torch.func.functional_call(head, {"log_scale": log_scale}, (x, y))

    assert torch.autograd.gradcheck(loss, head.log_scale.detach().clone().requires_grad_())
    assert head.scale.item() == pytest.approx(8.0)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 64.0, 512.0])
def test_loss_and_gradients_are_finite_everywhere(name, dtype, scale):
    for margin in MARGINS.get(name, (None,)):
        for options in ({}, {"beyond_pi": "paper"}, {"beyond_pi": "easy"}, {"straight_through": True}):
            if options and not (issubclass(HEADS[name], MarginHead) and name != "cosface"):
                continue
            torch.manual_seed(0)
            head = make(name, 4, 3, margin, scale, **options)
            w = F.normalize(head.weight.detach())
            x = torch.stack([w[0], -w[0], 1e-30 * w[0], 1e4 * w[0], torch.zeros(3), w[1], 1e-7 + w[0]])
            x = x.to(dtype).requires_grad_()
            y = torch.zeros(len(x), dtype=torch.long)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
                loss = head(x, y)
            loss.backward()
            assert loss.dtype == torch.float32 and loss.isfinite()
            assert x.grad.isfinite().all() and head.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_a_zero_vector_has_finite_loss_and_no_gradient_in_normalised_heads(name):
    head = make(name, 3, 2, MARGINS.get(name, (None,))[-1])
    x = torch.zeros(1, 2, requires_grad=True)
    loss = head(x, torch.tensor([1]))
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()
    if name != "softmax":
        assert (x.grad == 0).all()


@pytest.mark.parametrize(("name", "margin"), [("softmax", None), ("normface", None), *CASES])
def test_bf16_autocast_computes_in_float32(name, margin):
    torch.manual_seed(0)
    head = make(name, 10, 16, margin)
    x, y = torch.randn(32, 16), torch.randint(10, (32,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, logits = head(x, y), head.logits(x)
    assert loss.dtype == logits.dtype == torch.float32
    assert torch.equal(loss, head(x, y)) and torch.equal(logits, head.logits(x))
    # Embeddings that a bf16 backbone rounded: 8 bits are lost there, and none in the head.
    rounded = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(rounded, y), head(rounded.float(), y))


@pytest.mark.parametrize(("name", "margin"), CASES)
def test_the_target_logit_falls_with_the_angle(name, margin):
    steps = np.linspace(0, math.pi, 401)
    x = torch.tensor(np.column_stack([np.cos(steps), np.sin(steps)]))
    head = make(name, 2, 2, margin, 1.0).double()
    head.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    z = head.margin_logits(x, torch.zeros(401, dtype=torch.long))[:, 0]
    assert (z.diff() < 0).all()


@pytest.mark.parametrize(("name", "margin"), CASES)
def test_no_margin_is_normface(name, margin):
    torch.manual_seed(0)
    head = make(name, 10, 3, HEADS[name].no_margin)
    plain = placed(NormFace(3, 10, scale=64.0), head.weight.detach().numpy())
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    torch.testing.assert_close(head(x, y), plain(x, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("single", "margin", "triple"),
    [
        (CosFace, 0.35, (1.0, 0.0, 0.35)),
        (ArcFace, 0.5, (1.0, 0.5, 0.0)),
        (SphereFace, 1.35, (1.35, 0.0, 0.0)),
    ],
)
def test_combined_equals_each_member_exactly(single, margin, triple):
    torch.manual_seed(0)
    one, all_three = (
        single(3, 10, margin=margin, scale=64.0),
        CombinedMargin(3, 10, margin=triple, scale=64.0),
    )
    all_three.weight.data.copy_(one.weight.data)
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    gradients = []
    for head in (one, all_three):
        x_ = x.clone().requires_grad_()
        head(x_, y).backward()
        gradients.append((x_.grad, head.weight.grad))
    assert torch.equal(one(x, y), all_three(x, y))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("beyond_pi", ["paper", "easy"])
@pytest.mark.parametrize(("name", "margin"), [c for c in CASES if c[0] != "cosface"])
def test_the_published_forms_are_there_by_name(name, margin, beyond_pi):
    rng = np.random.default_rng(2)
    # At 90° exactly, easy's two branches differ: stay off it.
    x, w, y = reference.batch(rng, [t for t in THETAS if abs(t - 1.57) > 0.01], 10, 3)
    head = placed(make(name, 10, 3, margin, beyond_pi=beyond_pi), w)
    z = head.margin_logits(torch.from_numpy(x), torch.from_numpy(y)).detach().numpy()
    expected = reference.logits(name, x.astype(float), w.astype(float), y, 64.0, margin, beyond_pi)
    assert np.abs(z - expected).max() <= 2e-4


def test_straight_through_keeps_the_value_and_takes_the_plain_slope():
    torch.manual_seed(0)
    exact = ArcFace(3, 10, margin=0.5, scale=64.0)
    through = ArcFace(3, 10, margin=0.5, scale=64.0, straight_through=True)
    through.weight.data.copy_(exact.weight.data)
    x, y = torch.randn(64, 3, requires_grad=True), torch.randint(10, (64,))
    assert torch.equal(exact(x, y), through(x, y))
    # The reference: margin added as a constant to plain cosines.
    plain = 64 * F.linear(F.normalize(x), F.normalize(through.weight))
    shift = (through.margin_logits(x, y) - plain).detach()
    expected = torch.autograd.grad(F.cross_entropy(plain + shift, y), x)[0]
    torch.testing.assert_close(torch.autograd.grad(through(x, y), x)[0], expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(torch.autograd.grad(exact(x, y), x)[0], expected, rtol=1e-2)


def test_a_margin_per_sample_is_each_samples_own():
    torch.manual_seed(0)
    head = ArcFace(3, 10, margin=0.5, scale=64.0)
    x, y, margins = torch.randn(4, 3), torch.randint(10, (4,)), torch.tensor([0.0, 0.1, 0.5, 1.0])
    together = ArcFace(3, 10, margin=0.5, scale=64.0)
    together.weight.data.copy_(head.weight.data)
    together.margin = margins
    rows = []
    for i in range(4):
        head.margin.fill_(margins[i])
        rows.append(head.margin_logits(x[i : i + 1], y[i : i + 1]))
    torch.testing.assert_close(together.margin_logits(x, y), torch.cat(rows))


def test_logits_know_no_margin_and_softmax_is_linear():
    torch.manual_seed(0)
    x, w = torch.randn(5, 3), torch.randn(4, 3)
    for name, margin in CASES:
        head = placed(make(name, 4, 3, margin), w.numpy())
        torch.testing.assert_close(head.logits(x), 64 * F.cosine_similarity(x[:, None], w[None], dim=2))
    head = placed(Softmax(3, 4), w.numpy())
    head.bias.data.copy_(torch.randn(4))
    torch.testing.assert_close(head.logits(x), x @ w.T + head.bias)


@pytest.mark.parametrize(
    ("member", "margin"),
    [
        (ArcFace, -0.1),
        (ArcFace, 4.0),
        (ArcFace, float("nan")),
        (ArcFace, True),
        (ArcFace, [0.5]),
        (CosFace, float("inf")),
        (CosFace, 2.5),
        (SphereFace, 0.5),
        (CombinedMargin, 0.5),
        (CombinedMargin, (1.0, 0.5)),
        (CombinedMargin, (0.0, 0.5, 0.0)),
        (CombinedMargin, (1.0, float("nan"), 0.0)),
    ],
)
def test_illegal_margins_are_refused(member, margin):
    with pytest.raises(ValueError, match=f"{member.__name__}'s margin"):
        member(3, 10, margin=margin, scale=64.0)


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), None, True])
def test_illegal_scales_are_refused(scale):
    with pytest.raises(ValueError, match="a scale is"):
        NormFace(3, 10, scale=scale)


def test_a_head_survives_save_and_load():
    head, again = ArcFace(3, 10, margin=0.5, scale=64.0), ArcFace(3, 10, margin=0.1, scale=1.0)
    again.load_state_dict(head.state_dict())
    x, y = torch.randn(8, 3), torch.randint(10, (8,))
    assert torch.equal(head(x, y), again(x, y))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "margin"), [("normface", None), *CASES])
def test_a_step_on_the_gpu_agrees_with_the_cpu_and_never_waits(name, margin):
    torch.manual_seed(0)
    head = make(name, 10, 3, margin)
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    expected = head(x, y)
    head, x, y = head.cuda(), x.cuda().requires_grad_(), y.cuda()
    head(x, y).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = head(x, y)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-4)
