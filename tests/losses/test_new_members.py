"""The members of reweighted, class_margins and proxies against references of their own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.losses import ArcFace, MarginHead, NormFace, ProxyNCA
from tests.losses.reference import Case, batch
from tests.losses.reference_new import CASES, HEADS, MEMBERS_WITH_STATE, loss_of

NEAR, MIDDLE, FULL = (0.15, 0.3, 0.5), (0.9, 1.57, 2.2), (2.7, 2.9, math.pi - 0.15)
SIZES = {
    "near": ((10, 16), (1000, 512)),
    "middle": ((10, 512), (1000, 16)),
    "full": ((10, 16), (1000, 512)),
    "random": ((10, 512), (1000, 16)),
}
SCALED = {"qamface": 6.0, "soft_triple": 20.0, "proxy_nca": 18.0, "proxy_anchor": 32.0}


def build(case, classes: int, dimension: int, scale: float | None = None, **options):
    member = HEADS[case.name]
    given = dict(case.options) | options
    if issubclass(member, MarginHead):
        given["margin"] = case.margin
    scale = SCALED.get(case.name, 64.0) if scale is None else scale
    head = member(dimension, classes, scale=scale, **given).eval()
    with torch.no_grad():
        head.weight.mul_(torch.rand(*head.weight.shape[:-1], 1) * 2 + 0.5)  # of any length
    return head


def inputs(head, angles: str, count: int = 24):
    """Float64 embeddings and labels at random, or at near, middle or full angles to their classes."""
    rng = np.random.default_rng(3)
    if angles == "random":
        return torch.from_numpy(rng.normal(size=(count, head.embedding_dim)) * 3), torch.from_numpy(
            rng.integers(head.num_classes, size=count)
        )
    thetas = {"near": NEAR, "middle": MIDDLE, "full": FULL}[angles] * (count // 3)
    return batch(rng, thetas, head).double(), head.labels


@pytest.mark.parametrize("angles", ["near", "middle", "full", "random"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_the_references(case, angles):
    scale = SCALED.get(case.name, 64.0) / (16 if angles == "near" else 1)  # else p is 1, gradients 0
    for classes, dimension in SIZES[angles]:
        if case.name == "soft_triple":
            classes = min(classes, 100)  # of ten centres each
        head = build(case, classes, dimension, scale).double()
        x, y = inputs(head, angles)
        found_x, x = x.clone().requires_grad_(), x.requires_grad_()
        w = head.weight.detach().clone().requires_grad_()
        found, expected = head(found_x, y), loss_of(case, x, w, head, y)
        found.backward(), expected.backward()
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        for ours, theirs in ((found_x.grad, x.grad), (head.weight.grad, w.grad)):
            error = (ours - theirs).abs().max()
            assert error <= 1e-6 * theirs.abs().max(), (classes, dimension)


@pytest.mark.parametrize("case", MEMBERS_WITH_STATE, ids=str)
def test_thirty_training_steps_follow_the_reference(case):
    head = build(case, 10, 16, margin_weight=5.0).double().train()
    w = head.weight.detach().clone().requires_grad_()
    margins = head.margins.detach().clone().requires_grad_()
    ours = torch.optim.SGD(head.parameters(), lr=0.3)
    theirs = torch.optim.SGD([w, margins], lr=0.3)
    y = torch.arange(32) % 7 % 5  # five classes that are never seen, whose margins go to 1
    for step in range(30):
        x = torch.randn(32, 16, generator=torch.Generator().manual_seed(step), dtype=torch.double)
        margins.data.clamp_(0, 1)
        c = F.normalize(x) @ F.normalize(w).T
        z = 64 * (c - F.one_hot(y, 10) * margins[y][:, None])
        expected = F.cross_entropy(z, y) + 5 * (1 - margins.mean())
        found = head(x, y)
        ours.zero_grad(), theirs.zero_grad()
        found.backward(), expected.backward()
        ours.step(), theirs.step()
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(head.margins, margins, rtol=1e-6, atol=1e-9)
    assert head.margins.max() > 1  # until the next step puts it back
    before = head.margins.detach().clone()
    head.eval()(x, y)
    assert torch.equal(head.margins, before)
    head.train()(x, y)
    assert head.margins.max() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loss_and_gradients_are_finite_everywhere(case, dtype):
    for scale in (1.0, 64.0, 512.0):
        for training in (False, True):
            head = build(case, 4, 3, scale).train(training)
            with torch.no_grad():
                head.weight[3] = 0
            w = F.normalize(head.weight.detach().reshape(-1, 3))
            x = torch.stack([w[0], -w[0], 1e-30 * w[0], 1e4 * w[0], torch.zeros(3), w[1], 1e-7 + w[0]])
            x = x.to(dtype).requires_grad_()
            y = torch.tensor([0, 0, 0, 0, 0, 3, 0])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
                loss = head(x, y)
            loss.backward()
            assert loss.dtype == torch.float32 and loss.isfinite(), scale
            assert all(p.grad.isfinite().all() for p in (x, *head.parameters())), scale


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_sample_and_a_zero_vector_are_safe(case):
    head = build(case, 3, 2).train()
    for x in (torch.zeros(1, 2, requires_grad=True), torch.randn(1, 2, requires_grad=True)):
        loss = head(x, torch.tensor([1]))
        loss.backward()
        assert loss.isfinite() and x.grad.isfinite().all() and head.weight.grad.isfinite().all()
        assert not (x == 0).all() or (x.grad == 0).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bf16_autocast_agrees_with_float64(case):
    head = build(case, 10, 16)
    x, y = inputs(head, "middle")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.logits(x.float()).dtype == torch.float32
        found = head(x.float(), y)
    expected = loss_of(case, x, head.weight.detach().double(), head, y)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_are_scaled_cosines_and_know_no_margin(case):
    head = build(case, 4, 3)
    x = torch.randn(5, 3)
    cosine = F.cosine_similarity(x[:, None, None], head.weight.reshape(4, -1, 3)[None], dim=3)
    if case.name == "soft_triple":
        cosine = torch.softmax(cosine / head.gamma, 2) * cosine
    torch.testing.assert_close(head.cosines(x), cosine.sum(2))
    torch.testing.assert_close(head.logits(x), head.scale * cosine.sum(2))
    torch.testing.assert_close(head.prototypes.norm(dim=1), torch.ones(4))


# SFace has no such logit, and an easy margin a jump at 90°.
MONOTONE = [case for case in CASES if case.name != "sface" and "beyond_pi" not in case.options]


@pytest.mark.parametrize("case", MONOTONE, ids=str)
def test_the_target_logit_strictly_falls_with_the_angle(case):
    angles = torch.linspace(0, math.pi, 401, dtype=torch.double)
    head = build(case, 3, 2, 1.0).double()
    with torch.no_grad():
        head.weight[0] = torch.tensor([1.0, 0.0])
    x = torch.stack([angles.cos(), angles.sin()], 1)
    z = head.margin_logits(x, torch.zeros(401, dtype=torch.long))[:, 0]
    if case.name == "npcface":  # the margin changes with the hard non-targets, never by much
        assert z[0] == z.max() and z[-1] <= z.min() + 0.1
    else:
        assert (z.diff() < 0).all()


def test_sface_lets_go_of_what_is_near_enough_and_far_enough():
    head = build(Case("sface"), 2, 2, 1.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    for theta, moves in ((0.5, False), (1.2, True)):
        x = torch.tensor([[math.cos(theta), math.sin(theta)]], requires_grad=True)
        head(x, torch.tensor([0])).backward()
        assert (x.grad.norm() > 1e-3).item() == moves


def test_proxy_nca_is_normface_with_twice_the_inverse_temperature():
    ours, plain = ProxyNCA(3, 10, scale=18.0), NormFace(3, 10, scale=18.0)
    plain.load_state_dict(ours.state_dict())
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    assert torch.equal(ours(x, y), plain(x, y))


def test_dyn_arcface_with_crowded_classes_is_arcface():
    dynamic = HEADS["dyn_arcface"](3, 500, margin=0.5, scale=64.0)
    plain = ArcFace(3, 500, margin=0.5, scale=64.0)
    plain.load_state_dict(dynamic.state_dict())
    x, y = torch.randn(64, 3), torch.randint(500, (64,))
    assert dynamic(x, y).item() == pytest.approx(plain(x, y).item(), rel=1e-3)
    dynamic.weight.data[0] *= -1
    far = HEADS["dyn_arcface"](3, 2, margin=0.5, scale=64.0)
    far.weight.data.copy_(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]))
    assert far.neighbour_angle(torch.tensor([0, 1])).tolist() == pytest.approx([math.pi] * 2, abs=1e-3)


def test_soft_triple_merges_centres():
    head = build(Case("soft_triple", 0.01, {"centres": 2, "tau": 1.0}), 3, 8).train()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    before = head.spread().item()
    for _ in range(60):
        optimizer.zero_grad()
        head.spread().backward()
        optimizer.step()
    assert head.spread().item() < 0.1 * before


@pytest.mark.parametrize("name", ["sface", "proxy_anchor"])
@pytest.mark.parametrize("option", ["label_smoothing", "inter_topk", "class_weights"])
def test_options_without_an_effect_are_not_taken(name, option):
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(TypeError, match=option):
        build(case, 10, 3, **{option: 0})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_training_step_on_the_gpu_never_waits_and_is_captured(case):
    head = build(case, 10, 3).train()
    x, y = torch.randn(64, 3), torch.randint(10, (64,))
    expected = head(x, y)
    head, x, y = head.cuda(), x.cuda().requires_grad_(), y.cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            head(x, y).backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            head(x, y).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        loss = head(x, y)
        loss.backward()
    graph.replay()
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-4)
