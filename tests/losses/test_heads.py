"""Every member against its formula, in values and gradients, to the ends of the angle."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.api import heads
from src.losses import (
    ArcFace,
    CombinedMargin,
    CosFace,
    KappaFace,
    MagFace,
    MarginHead,
    NormFace,
    Softmax,
    SphereFace,
    SphereFace2,
    SphereFaceR,
)
from tests.losses.conftest import build
from tests.losses.reference import CASES, HEADS, Case, batch, loss_and_logits

# Both ends, and enough between; gradients are compared from INNER on, see there.
THETAS = (0.0, 1e-4, 0.15, 0.4, 1.0, 1.57, 2.0, 2.6, math.pi - 0.5, 2.9, math.pi - 1e-4, math.pi)
# Within 0.15 of 0 and π float32 knows the direction of the gradient to ε/sin θ only, and at the ends
# itself there is none.
INNER = (0.15, 0.4, 1.0, 1.57, 2.0, 2.6, math.pi - 0.5, 2.9)
SIZES = ((2, 2), (10, 3), (10, 512), (1000, 3), (1000, 512))
SCALES = (1.0, 64.0, 512.0)
# Every size at a usual scale; at the others not the last, which takes longer than all before it.
SIZES_AT = {scale: SIZES if scale == 64 else SIZES[:-1] for scale in SCALES}
# A rival, or a sub-centre, that lies nearer than 0.15: see INNER. Li-ArcFace's slope in a rival's
# cosine is 1/sin θ_j. P2SGrad has no margin: near its own class its gradient is a small difference.
LOOSER = {"subcenter_arcface": 10.0, "liarcface": 5.0, "p2sgrad": 3.0}
MEMBERS = [case for case in CASES if not {"inter_topk", "label_smoothing"} & set(case.options)]
# These hold part of their formula constant on purpose, as the reference does and gradcheck cannot.
DIFFERENTIABLE = [case for case in MEMBERS if case.name not in ("circle", "adaface")]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_follow_the_formula_from_0_to_pi(case, scale):
    for classes, dimension in SIZES_AT[scale]:
        head = build(case, classes, dimension, scale)
        rng = np.random.default_rng(0)
        for thetas, one_class in ((THETAS, False), (THETAS, True), ((0.7,), False), ((0.0,), False)):
            x = batch(rng, thetas, head, one_class)
            loss, logits, _ = loss_and_logits(case, x.double(), head)
            found, largest = head.margin_logits(x, head.labels), logits.abs().max().item()
            assert (found - logits).abs().max() <= 1e-5 * max(largest, 1e-3)
            # A loss near 0 is the difference of logits, and inherits their rounding.
            assert head(x, head.labels).item() == pytest.approx(
                loss.item(), rel=1e-5, abs=1e-6 * max(largest, 1e-3)
            )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_follow_the_formula(case, scale):
    # Logits of size s are rounded by s·2⁻²⁴, and softmax turns that into a relative error.
    tolerance = (
        1e-5 * max(1, scale / 64) * LOOSER.get(case.name, 2.5 if case.options.get("inter_topk") else 1)
    )
    for classes, dimension in SIZES_AT[scale]:
        head = build(case, classes, dimension, scale)
        x = batch(np.random.default_rng(0), INNER, head).requires_grad_()
        head(x, head.labels).backward()
        exact = x.detach().double().requires_grad_()
        loss, _, w = loss_and_logits(case, exact, head)
        for found, expected in zip(
            (x.grad, head.weight.grad), torch.autograd.grad(loss, (exact, w)), strict=True
        ):
            error = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)
            assert error <= tolerance, (classes, dimension)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bf16_autocast_agrees_with_float64(case):
    head = build(case, 10, 16)
    x = batch(np.random.default_rng(0), INNER, head)
    loss, logits, _ = loss_and_logits(case, x.double(), head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.logits(x).dtype == torch.float32
        found, rounded = head(x, head.labels), head.margin_logits(x.bfloat16(), head.labels)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(loss.item(), rel=1e-5)
    # A bf16 backbone's embeddings carry 8 bits; the head adds no error to theirs.
    assert (rounded - logits).abs().max() <= 2e-2 * logits.abs().max()


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_float64_gradients_pass_gradcheck(case):
    head = build(case, 4, 3, 8.0).double()
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0, 1])

    def loss(x, weight):
        return torch.func.functional_call(head, {"weight": weight}, (x, y))

    assert torch.autograd.gradcheck(loss, (x, head.weight.detach().clone().requires_grad_()), atol=1e-6)


@pytest.mark.parametrize("name", [n for n, h in HEADS.items() if h.has_scale])
def test_a_learnable_scale_passes_gradcheck(name):
    case = next(case for case in reversed(MEMBERS) if case.name == name)
    head = build(case, 4, 3, 8.0, learnable_scale=True).double()
    x, y = torch.randn(6, 3, dtype=torch.double), torch.tensor([0, 1, 2, 3, 0, 1])

    def loss(log_scale):
        return torch.func.functional_call(head, {"log_scale": log_scale}, (x, y))

    assert torch.autograd.gradcheck(loss, head.log_scale.detach().clone().requires_grad_())
    assert head.scale.item() == pytest.approx(8.0)


def switches(case) -> list[dict]:
    """The named options that change a member's behaviour."""
    found = [{}]
    forms = getattr(HEADS[case.name], "forms", ())
    if case.name == "combined" and case.margin[0] != 1:
        forms = ("paper", "easy")
    if case.name == "adaface" or (case.name == "sphereface2" and case.options["kind"] != "C"):
        forms = ("paper",)
    if case.name == "elasticface_cos" or case.options.get("version") == "v2":
        forms = ()
    if case.name == "mv_am":
        forms = ("easy",)
    found += [{"beyond_pi": form} for form in forms if form != "monotone"]
    return found + [{"gradient": "detached"}] * detachable(case)


def detachable(case) -> bool:
    plain = ("softmax", "normface", "cosface", "elasticface_cos", "uniface", "p2sgrad")
    return case.name not in plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loss_and_gradients_are_finite_everywhere(case, dtype):
    for options in switches(case):
        for scale in SCALES:
            for training in (False, True):
                head = build(case, 4, 3, scale, **options).train(training)
                w = F.normalize(head.weight.detach().reshape(-1, 3))
                near = 1e-7 + w[0]
                x = torch.stack([w[0], -w[0], 1e-30 * w[0], 1e4 * w[0], torch.zeros(3), w[1], near])
                x = x.to(dtype).requires_grad_()
                y = torch.zeros(len(x), dtype=torch.long)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
                    loss = head(x, y)
                loss.backward()
                assert loss.dtype == torch.float32 and loss.isfinite(), (options, scale)
                assert x.grad.isfinite().all() and head.weight.grad.isfinite().all(), (options, scale)


@pytest.mark.parametrize("case", MEMBERS, ids=str)
def test_a_zero_vector_alone_is_safe(case):
    head = build(case, 3, 2).train()
    x = torch.zeros(1, 2, requires_grad=True)
    loss = head(x, torch.tensor([1]))
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and head.weight.grad.isfinite().all()
    if case.name not in ("softmax", "lsoftmax", "asoftmax"):
        assert (x.grad == 0).all()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name not in ("softmax", "p2sgrad")], ids=str
)
def test_the_target_logit_strictly_falls_with_the_angle(case):
    steps = np.linspace(0, math.pi, 401)
    head = build(case, 3, 2, 1.0).double()
    own = torch.tensor([1.0, 0.0], dtype=torch.double)
    with torch.no_grad():
        head.weight.copy_(torch.randn_like(head.weight))
        head.weight[0] = own  # each sub-centre, where there are several
    x = torch.tensor(np.column_stack([np.cos(steps), np.sin(steps)]))
    z = head.margin_logits(x, torch.zeros(401, dtype=torch.long))[:, 0]
    # MV's kinds and the rest at their largest margin touch a flat point of ψ at most at an end.
    assert (z.diff() < 0).all()


NEUTRAL = [
    Case(name, HEADS[name].no_margin if kind != {"kind": "M"} else 1.0, kind)
    for name, kind in [
        *((n, {}) for n in ("sphereface", "cosface", "arcface", "combined", "kappaface", "adaface")),
        ("subcenter_arcface", {"centres": 1}),
        ("sphereface_r", {"version": "v1"}),
        ("sphereface_r", {"version": "v2"}),
        ("elasticface_arc", {"kind": "arc"}),
        ("elasticface_cos", {"kind": "cos"}),
        ("mv_arc", {"kind": "arc", "emphasis": 0.0}),
        ("mv_am", {"kind": "am", "emphasis": 0.0}),
        ("magface", {"lambda_g": 0.0}),
    ]
]


@pytest.mark.parametrize("case", NEUTRAL, ids=str)
def test_no_margin_is_normface(case):
    head = build(case, 10, 3)
    plain = NormFace(3, 10, scale=64.0)
    plain.weight.data.copy_(head.weight.data.reshape(10, 3))
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    torch.testing.assert_close(head(x, y), plain(x, y), rtol=1e-5, atol=1e-5)


def test_no_margin_is_the_margin_free_form_of_the_others():
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    rows, length = torch.arange(64), x.norm(dim=1, keepdim=True)

    head = build(Case("lsoftmax", 1.0), 10, 3)  # softmax without bias
    torch.testing.assert_close(head(x, y), F.cross_entropy(x @ head.weight.T, y), rtol=1e-5, atol=1e-5)
    head = build(Case("asoftmax", 1.0), 10, 3)
    free = length * F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(x, y), F.cross_entropy(free, y), rtol=1e-5, atol=1e-5)

    cosine = F.cosine_similarity(x[:, None], head.weight[None], dim=2).detach()
    head = build(Case("circle", 0.0), 10, 3)
    head.weight.data.copy_(build(Case("asoftmax", 1.0), 10, 3).weight)
    cosine = head.cosines(x).detach()
    z = cosine.clamp_min(0) * cosine
    z[rows, y] = (1 - cosine[rows, y]) * (cosine[rows, y] - 1)
    torch.testing.assert_close(head(x, y), F.cross_entropy(64 * z, y), rtol=1e-5, atol=1e-5)

    head = build(Case("liarcface", 0.0), 10, 3)
    z = 64 * (1 - 2 * head.cosines(x).detach().acos() / math.pi)
    torch.testing.assert_close(head(x, y), F.cross_entropy(z, y), rtol=1e-5, atol=1e-5)

    head = build(Case("curricularface", 0.0, state={"easiness": 0.3}), 10, 3)
    cosine = head.cosines(x).detach()
    own = cosine[rows, y][:, None]
    z = torch.where(cosine > own, cosine * (0.3 + cosine), cosine)
    torch.testing.assert_close(head(x, y), F.cross_entropy(64 * z, y), rtol=1e-5, atol=1e-5)

    hot = F.one_hot(y, 10).float()
    head = build(Case("uniface", 0.0), 10, 3)
    z = 64 * head.cosines(x) - head.bias
    expected = F.binary_cross_entropy_with_logits(z, hot, reduction="none").sum(1).mean()
    torch.testing.assert_close(head(x, y), expected, rtol=1e-5, atol=1e-5)
    for kind, none in (("C", 0.0), ("A", 0.0), ("M", 1.0)):
        head = build(Case("sphereface2", none, {"kind": kind}), 10, 3)
        z = 64 * (2 * ((head.cosines(x) + 1) / 2) ** 3 - 1) + head.bias
        weight = 0.7 * hot + 0.3 * (1 - hot)
        expected = (
            F.binary_cross_entropy_with_logits(z, hot, weight, reduction="none").sum(1).mean() / 64
        )
        torch.testing.assert_close(head(x, y), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("single", "margin", "triple"),
    [
        (CosFace, 0.35, (1.0, 0.0, 0.35)),
        (ArcFace, 0.5, (1.0, 0.5, 0.0)),
        (SphereFace, 1.35, (1.35, 0.0, 0.0)),
    ],
)
def test_combined_equals_each_member_exactly(single, margin, triple):
    one = single(3, 10, margin=margin, scale=64.0)
    all_three = CombinedMargin(3, 10, margin=triple, scale=64.0)
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


def published(name: str, m, theta: float, beyond_pi: str) -> float:
    """The target's cosine in the named forms, one angle at a time."""
    m1, m2, m3 = {
        "arcface": (1, m, 0),
        "sphereface": (m, 0, 0),
        "combined": m,
        "sphereface_r": (m, 0, 0),
    }[name]
    if beyond_pi == "easy" and theta >= math.pi / 2:
        return math.cos(theta) - m3
    phi = m1 * theta + m2
    return math.cos(min(phi, math.pi) if name == "sphereface_r" and beyond_pi == "paper" else phi) - m3


@pytest.mark.parametrize("beyond_pi", ["paper", "easy"])
@pytest.mark.parametrize(
    ("name", "margin"),
    [
        ("arcface", 0.5),
        ("arcface", math.pi),
        ("sphereface", 1.35),
        ("combined", (1.0, 0.3, 0.2)),
        ("sphereface_r", 1.5),
    ],
)
def test_the_published_forms_are_there_by_name(name, margin, beyond_pi):
    head = build(Case(name, margin), 10, 3, beyond_pi=beyond_pi)
    x = batch(np.random.default_rng(2), THETAS, head)
    z = head.margin_logits(x, head.labels).detach()
    for row, (theta, label) in enumerate(zip(THETAS, head.labels, strict=True)):
        assert z[row, label].item() == pytest.approx(
            64 * published(name, margin, theta, beyond_pi), abs=2e-4
        )


@pytest.mark.parametrize("name", ["lsoftmax", "asoftmax"])
def test_the_papers_that_print_psi_mean_it(name):
    monotone = build(Case(name, 4.0, state={"steps": 5000.0} if name == "asoftmax" else {}), 10, 3)
    paper = build(Case(name, 4.0), 10, 3, beyond_pi="paper")
    paper.load_state_dict(monotone.state_dict())
    x = batch(np.random.default_rng(2), THETAS, monotone)
    y = monotone.labels
    assert torch.equal(paper.margin_logits(x, y), monotone.margin_logits(x, y))


def test_adafaces_published_form_clips_the_angle():
    case = Case("adaface", 1.0, {"h": 2.0}, {"mean": 9.0, "deviation": 5.0})
    head = build(case, 10, 3, beyond_pi="paper")
    x = batch(np.random.default_rng(2), THETAS, head)
    z = head.margin_logits(x, head.labels).detach()
    quality = (2 * (x.norm(dim=1).double() - 9) / 5.001).clamp(-1, 1)
    phi = (torch.tensor(THETAS).double() - quality).clamp(0, math.pi)
    expected = 64 * (phi.cos() - 1 - quality)
    assert (z[range(len(x)), head.labels] - expected).abs().max() < 2e-3  # phi from rounded embeddings


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in MEMBERS
        if issubclass(HEADS[case.name], MarginHead) and not isinstance(case.margin, tuple)
    ],
    ids=str,
)
def test_every_members_margin_may_differ_per_sample(case):
    head = build(case, 5, 3)
    for count in (5, 8):  # as many as classes, and not
        x, y = 5 * torch.randn(count, 3), torch.randint(5, (count,))
        margins = case.margin + 0.1 * torch.arange(count) / count
        head.margin = margins
        together = head.margin_logits(x, y)
        for i in range(count):
            head.margin = margins[i]
            alone = head.margin_logits(x[i : i + 1], y[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_a_margin_per_sample_is_each_samples_own():
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


@pytest.mark.parametrize("case", MEMBERS, ids=str)
def test_logits_are_scaled_cosines_and_know_no_margin(case):
    head = build(case, 4, 3)
    x = torch.randn(5, 3)
    if case.name == "softmax":
        expected = x @ head.weight.T + head.bias
    else:
        w = head.weight.reshape(4, -1, 3)
        cosine = F.cosine_similarity(x[:, None, None], w[None], dim=3).amax(2)
        torch.testing.assert_close(head.cosines(x), cosine)
        length = x.norm(dim=1, keepdim=True)
        soft = case.name == "asoftmax" or case.options.get("norm") == "soft"
        factor = length if soft else length * head.weight.norm(dim=1) if case.name == "lsoftmax" else 64
        expected = cosine * (1 if case.name == "p2sgrad" else factor)
    torch.testing.assert_close(head.logits(x), expected)
    assert head.prototypes.shape == (4, 3)


def test_label_smoothing_and_class_weights_are_torchs():
    head = build(Case("arcface", 0.5), 4, 3, label_smoothing=0.1, class_weights=[1.0, 0.1, 2.0, 0.5])
    for batch_size in (7, 64):
        x, y = torch.randn(batch_size, 3), torch.randint(4, (batch_size,))
        expected = F.cross_entropy(
            head.margin_logits(x, y), y, torch.tensor([1.0, 0.1, 2.0, 0.5]), label_smoothing=0.1
        )
        torch.testing.assert_close(head(x, y), expected)


def test_inter_topk_moves_the_k_hardest_non_targets_only():
    head = build(Case("normface"), 6, 3, 1.0, inter_topk=2, inter_topk_margin=0.2)
    x, y = torch.randn(8, 3), torch.randint(6, (8,))
    plain, moved = head.logits(x).detach(), head.margin_logits(x, y).detach()
    for row in range(8):
        others = [j for j in range(6) if j != y[row]]
        hardest = sorted(others, key=lambda j: -plain[row, j])[:2]
        for j in range(6):
            angle = math.acos(plain[row, j])
            nearer = math.cos(angle - 0.2) if angle >= 0.2 else 2 - math.cos(0.2 - angle)
            assert moved[row, j].item() == pytest.approx(
                nearer if j in hardest else plain[row, j].item(), abs=1e-5
            )


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_shape_type_labels_and_options_give_finite_losses_and_gradients(data):
    case = data.draw(st.sampled_from(MEMBERS))
    classes, dimension = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 24))
    count, seed = data.draw(st.integers(1, 33)), data.draw(st.integers(0, 10**6))
    scale = data.draw(st.floats(0.1, 512))
    dtype = data.draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    options = data.draw(st.sampled_from(switches(case)))
    if case.name not in ("p2sgrad", "uniface", "sphereface2"):
        options = options | {"label_smoothing": data.draw(st.sampled_from([0.0, 0.1]))}
    torch.manual_seed(seed)
    head = build(case, classes, dimension, scale, **options).train(data.draw(st.booleans()))
    head.to(data.draw(st.sampled_from([torch.float32, torch.bfloat16])))
    stretch = 10.0 ** data.draw(st.integers(-6, 3))
    x = (stretch * torch.randn(count, dimension)).to(dtype).requires_grad_()
    y = torch.randint(classes, (count,))
    loss = head(x, y)
    loss.backward()
    assert loss.shape == () and loss.isfinite()
    assert x.grad.dtype == dtype and x.grad.shape == x.shape
    assert head.weight.grad.isfinite().all() and not x.grad.isnan().any()
    assert x.grad.isfinite().all() or dtype == torch.float16  # whose range ends at 65504
    assert head.logits(x).shape == head.margin_logits(x, y).shape == (count, classes)


@pytest.mark.parametrize("count", [4, 32])  # fewer than classes, and more: laid out differently
def test_a_compiled_head_has_the_same_gradients(count):
    head = build(Case("liarcface", 0.45), 10, 3)
    x, y = torch.randn(count, 3, requires_grad=True), torch.randint(10, (count,))
    compiled = torch.compile(head, backend="aot_eager")
    found, expected = (torch.autograd.grad(way(x, y), x)[0] for way in (compiled, head))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("member", [ArcFace, MagFace, SphereFace2, KappaFace])
def test_a_head_compiles_to_one_graph(member):
    head = member(3, 10).train()
    torch.compile(head, backend="eager", fullgraph=True)(torch.randn(4, 3), torch.arange(4)).backward()
    assert head.weight.grad.isfinite().all()


FIRST_ONLY = [(member, {}) for member in heads() if member is not Softmax]
FIRST_ONLY += [(ArcFace, {"learnable_scale": True}), (SphereFace2, {"learnable_scale": True})]
FIRST_ONLY += [(SphereFaceR, {"norm": "soft"})]


@pytest.mark.parametrize(("member", "options"), FIRST_ONLY, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_second_derivative_is_refused_and_never_wrong(member, options):
    head = member(3, 10, **options).double().eval()
    x, y = torch.randn(4, 3, dtype=torch.double, requires_grad=True), torch.arange(4)
    inputs = [x, *head.parameters()]
    plain = torch.autograd.grad(head(x, y), inputs)
    first = torch.autograd.grad(head(x, y), inputs, create_graph=True)
    for found, expected in zip(first, plain, strict=True):
        assert torch.equal(found, expected)  # the first is what it is without a graph
    of = {"": x, **dict(head.named_parameters())}
    for name, gradient in zip(of, first, strict=True):
        for by in inputs if name != "bias" else ():  # of a bias they are right
            with pytest.raises(RuntimeError, match="heads have first derivatives only"):
                torch.autograd.grad(gradient.sum(), by, retain_graph=True)
    with pytest.raises(RuntimeError, match="heads have first derivatives only"):
        (plain[0].sum() + first[0].square().sum()).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_on_the_gpu_agrees_with_the_cpu_and_never_waits(case):
    head = build(case, 10, 3)
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


def test_softmax_needs_no_scale():
    assert not Softmax.has_scale and Softmax.no_margin is None
