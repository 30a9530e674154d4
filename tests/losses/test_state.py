"""Running statistics, counters and random margins: they move in training, rest in evaluation, and
survive a checkpoint."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from docs.api import heads
from src.losses import ArcFace, CosFace, ElasticFace, KappaFace, NormFace, adacos_scale
from tests.losses.conftest import build
from tests.losses.reference import MEMBERS_WITH_STATE, Case


def batches(count: int, size: int = 16, classes: int = 5, dimension: int = 3):
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        x = 8 * torch.randn(size, dimension, generator=generator)
        yield x, torch.randint(classes, (size,), generator=generator)


def state(head) -> dict:
    return {key: value.clone() for key, value in head.state_dict().items()}


@pytest.mark.parametrize("case", MEMBERS_WITH_STATE, ids=str)
def test_state_moves_in_training_and_rests_in_evaluation(case):
    head = build(case, 5, 3)
    before = state(head)
    for x, y in batches(3):
        head(x, y), head.logits(x), head.margin_logits(x, y)
    assert all(torch.equal(value, before[key]) for key, value in state(head).items())
    head.train()
    for x, y in batches(3):
        head(x, y)
    assert any(not torch.equal(value, before[key]) for key, value in state(head).items())


@pytest.mark.parametrize("case", MEMBERS_WITH_STATE, ids=str)
def test_a_run_cut_in_two_by_a_checkpoint_goes_on_bit_for_bit(case, tmp_path):
    whole = build(case, 5, 3).train()
    first, data = copy.deepcopy(whole), list(batches(6))
    if hasattr(whole, "generator"):
        first.set_extra_state(whole.get_extra_state())
    expected = [whole(x, y) for x, y in data]
    found = [first(x, y) for x, y in data[:3]]
    torch.save(first.state_dict(), tmp_path / "head.pt")
    torch.manual_seed(99)  # another process, another seed
    second = build(case, 5, 3).train()
    second.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    found += [second(x, y) for x, y in data[3:]]
    assert torch.equal(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("case", MEMBERS_WITH_STATE, ids=str)
def test_a_batch_of_one_works(case):
    head = build(case, 5, 3).train()
    for x, y in batches(4, size=1):
        loss = head(x.requires_grad_(), y)
        loss.backward()
        assert loss.isfinite() and x.grad.isfinite().all()
    assert all(value.double().isfinite().all() for value in head.state_dict().values())


def margins_of(head, cosine) -> torch.Tensor:
    """The margins that an ElasticFace of kind cos put on samples at these target cosines."""
    head.weight.data.copy_(torch.eye(2))
    x = torch.stack([cosine, (1 - cosine**2).sqrt()], 1)
    z = head.margin_logits(x, torch.zeros(len(cosine), dtype=torch.long))
    return (cosine - z[:, 0] / head.scale).detach()


def test_elastic_margins_are_normal_around_m():
    head = build(Case("elasticface_cos", 0.35, {"kind": "cos", "sigma": 0.05}), 2, 2, 1.0).train()
    drawn = margins_of(head, torch.linspace(-0.9, 0.9, 20_000))
    assert drawn.mean().item() == pytest.approx(0.35, abs=0.002)
    assert drawn.std().item() == pytest.approx(0.05, rel=0.02)
    assert not torch.equal(drawn, margins_of(head, torch.linspace(-0.9, 0.9, 20_000)))
    rest = margins_of(head.eval(), torch.linspace(-0.9, 0.9, 5))
    torch.testing.assert_close(rest, torch.full((5,), 0.35))


def test_elastic_plus_gives_harder_samples_larger_draws():
    case = Case("elasticface_cos", 0.35, {"kind": "cos", "sigma": 0.05, "plus": True})
    cosine = torch.tensor([0.5, -0.5, 0.9, 0.0])
    drawn = margins_of(build(case, 2, 2, 1.0).train(), cosine)
    assert drawn[cosine.argsort(descending=True)].diff().min() > 0


def test_elastic_draws_depend_on_the_seed_alone():
    case, cosine = Case("elasticface_cos", 0.35, {"kind": "cos"}), torch.linspace(-0.9, 0.9, 9)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        head = build(case, 2, 2, 1.0).train()
        torch.rand(seed * 3)  # whatever else draws meanwhile
        drawn.append(margins_of(head, cosine))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_an_elastic_margin_is_drawn_once_a_step_also_for_the_linear_form():
    head = ElasticFace(2, 2, margin=0.5, sigma=0.1, scale=1.0, beyond_pi="linear").train()
    head.weight.data.copy_(torch.eye(2))
    theta = torch.linspace(0.01, math.pi - 0.01, 200).double()
    generator = torch.Generator()
    generator.set_state(head.get_extra_state())
    x = torch.stack([theta.cos(), theta.sin()], 1).float()
    z = head.margin_logits(x, torch.zeros(200, dtype=torch.long))[:, 0].double()
    m = 0.5 + 0.1 * torch.randn(200, generator=generator).double()
    expected = torch.where(theta + m > math.pi, theta.cos() - m * m.sin(), (theta + m).cos())
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-5)
    assert torch.equal(head.get_extra_state(), generator.get_state())


def test_adaface_follows_the_lengths():
    head = build(Case("adaface", 0.4), 5, 3).train()
    mean, deviation = 20.0, 100.0
    for x, y in batches(5):
        head(x, y)
        norm = x.norm(dim=1).double().numpy()
        mean = 0.99 * mean + 0.01 * norm.mean()
        deviation = 0.99 * deviation + 0.01 * norm.std(ddof=1)
    assert head.mean.item() == pytest.approx(mean, rel=1e-5)
    assert head.deviation.item() == pytest.approx(deviation, rel=1e-5)


def test_adafaces_quality_has_no_gradient():
    head = build(Case("adaface", 0.4, state={"mean": 9.0, "deviation": 5.0}), 5, 3)
    x, y = next(batches(1))
    head(x.requires_grad_(), y).backward()
    assert (x.grad * x).sum(1).abs().max() < 1e-4  # nothing along the embedding


def test_curricularface_averages_the_target_cosine():
    head = build(Case("curricularface", 0.5), 5, 3).train()
    expected = 0.0
    for x, y in batches(5):
        head(x, y)
        cosine = F.cosine_similarity(x, head.weight[y]).double().mean().item()
        expected = 0.99 * expected + 0.01 * cosine
    assert head.easiness.item() == pytest.approx(expected, rel=1e-4)


def test_asoftmax_anneals():
    head = build(Case("asoftmax", 4.0), 5, 3).train()
    for step, (x, y) in enumerate(batches(3), start=1):
        head(x, y)
        assert head.annealing.item() == pytest.approx(1000 / (1 + 0.12 * step))
    head.steps.fill_(1e6)
    assert head.annealing.item() == 5


def test_subcentres_count_their_wins_and_prototypes_are_the_dominant_ones():
    head = build(Case("subcenter_arcface", 0.5, {"centres": 3}), 5, 3).train()
    wins = np.zeros((5, 3), int)
    for x, y in batches(5):
        head(x, y)
        for row, label in zip(x, y, strict=True):
            wins[label, F.cosine_similarity(row, head.weight[label]).argmax()] += 1
    np.testing.assert_array_equal(head.wins, wins)
    torch.testing.assert_close(head.prototypes, head.weight.detach()[torch.arange(5), wins.argmax(1)])


def test_kappaface_finds_scattered_and_rare_classes():
    head = build(Case("kappaface", 0.8), 3, 8).train()
    head.resultants.zero_(), head.counts.zero_()
    centres, generator = torch.eye(8)[:3], torch.Generator().manual_seed(3)
    spread = torch.tensor([0.1, 0.3, 0.1])
    seen = {label: [] for label in range(3)}
    for _ in range(300):  # class 0 dense and frequent, 1 scattered and frequent, 2 dense and rare
        y = torch.tensor([0] * 6 + [1] * 6 + [2])
        x = centres[y] + spread[y, None] * torch.randn(13, 8, generator=generator)
        head(x, y)
        for row, label in zip(F.normalize(x).double(), y.tolist(), strict=True):
            seen[label].append(row)
    lengths = [torch.stack(rows[-200:]).mean(0).norm().item() for rows in seen.values()]
    for label in range(3):
        assert head.resultants[label].item() == pytest.approx(lengths[label], abs=0.02)
    assert head.counts.tolist() == [1800, 1800, 300]
    frequent, scattered, rare = head.calibration.tolist()
    assert frequent < scattered and frequent < rare
    assert min(head.calibration) >= 0 and max(head.calibration) <= 1


def test_kappaface_has_the_whole_margin_for_its_first_samples_and_the_printed_formula_never():
    for given, whole in (({}, 6), ({"first_samples": 48}, 3), ({"formula": "paper"}, 0)):
        head = build(Case("kappaface", 0.8), 5, 3, momentum=0.02, **given).train()
        head.resultants.zero_(), head.counts.zero_()
        for step, (x, y) in enumerate(batches(20), start=1):
            head(x, y)
            assert (head.calibration == 1).all() == (step <= whole), (given, step)


def test_lsoftmax_anneals():
    head = build(Case("lsoftmax", 4.0), 5, 3).train()
    for step, (x, y) in enumerate(batches(3), start=1):
        head(x, y)
        assert head.annealing.item() == pytest.approx(1000 * (1 + 2.5e-5 * step) ** -35)
    head.steps.fill_(1e6)
    assert head.annealing.item() == pytest.approx(0, abs=1e-20)


def test_a_dynamic_scale_is_adacoss():
    head = NormFace(3, 5, scale=adacos_scale(5), dynamic_scale=True).train()
    scale = math.sqrt(2) * math.log(4)
    for x, y in batches(4):
        z = head.margin_logits(x, y)
        cosine = F.cosine_similarity(x[:, None].double(), head.weight[None].double(), dim=2)
        hot = F.one_hot(y, 5).bool()
        mean = torch.exp(scale * cosine).masked_fill(hot, 0).sum(1).mean()
        angle = cosine[hot].acos().float().median().clamp(max=math.pi / 4)
        scale = max(1.0, (mean.log() / angle.cos()).item())
        assert head.scale.item() == pytest.approx(scale, rel=1e-4)
        torch.testing.assert_close(z, (scale * cosine).float(), rtol=1e-4, atol=1e-4)
    head.eval()
    head.margin_logits(*next(batches(1)))
    assert head.scale.item() == pytest.approx(scale, rel=1e-4)


def test_half_precision_models_keep_their_heads_whole():
    head = ArcFace(3, 5, margin=0.5, scale=64.0)
    before = state(head)
    head.bfloat16().half()
    assert all(torch.equal(value, before[key]) for key, value in state(head).items())
    assert head.double().weight.dtype == torch.float64


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("case", MEMBERS_WITH_STATE, ids=str)
def test_a_batch_whose_step_a_grad_scaler_skips_poisons_no_statistics(case, bad):
    head = build(case, 5, 3).train()
    first, second, (x, y) = batches(3)
    head(torch.full_like(first[0], bad), first[1])  # as float16 leaves it after an overflow
    head(*first)
    head(second[0].index_fill(0, torch.tensor(3), bad), second[1])
    assert all(value.double().isfinite().all() for value in state(head).values())
    loss = head(x.requires_grad_(), y)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all() and head.weight.grad.isfinite().all()


def types_of(head) -> set[torch.dtype]:
    return {t.dtype for t in (*head.parameters(), *head.buffers()) if t.is_floating_point()}


@pytest.mark.parametrize("member", heads(), ids=lambda member: member.__name__)
def test_heads_are_float32_under_any_default_type_and_after_assigned_halves(member):
    torch.set_default_dtype(torch.bfloat16)
    try:
        head = member(8, 30)
        y = torch.arange(4)
        assert types_of(head) == {torch.float32} and head(torch.randn(4, 8), y).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    assert str(head) == str(member(8, 30))  # its numbers were not rounded to bfloat16
    kept = head.state_dict()
    numbers = {k: v for k, v in kept.items() if torch.is_tensor(v) and v.is_floating_point()}
    halves = {k: v.half() for k, v in numbers.items()}
    head.load_state_dict(kept | halves, assign=True)
    assert types_of(head) == {torch.float32}
    assert torch.equal(head.weight, halves["weight"].float()) and head.weight.requires_grad
    assert head(torch.randn(4, 8), y).dtype == torch.float32


def test_class_weights_have_the_heads_type():
    torch.set_default_dtype(torch.float64)
    try:
        head = CosFace(3, 2, class_weights=[1.0, 2.0])
        assert head(torch.randn(4, 3), torch.arange(4) % 2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("member", heads(), ids=lambda member: member.__name__)
def test_a_head_can_be_built_on_the_meta_device(member):
    options = {"class_weights": [1.0] * 30} if member.softmax_type and member.has_scale else {}
    with torch.device("meta"):
        head = member(8, 30, **options)
    assert all(t.is_meta for t in (*head.parameters(), *head.buffers()))
    whole = member(8, 30, **options)
    head.load_state_dict(whole.state_dict(), assign=True)
    x, y = torch.randn(4, 8), torch.arange(4)
    assert torch.equal(head.eval()(x, y), whole.eval()(x, y))


def test_kappaface_of_one_class_has_a_margin():
    head = KappaFace(3, 1, first_samples=0).train()
    for _ in range(3):
        loss = head(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    assert loss.isfinite() and head.calibration.isfinite().all()


def test_a_gradient_too_large_for_float16_overflows_as_a_grad_scaler_needs_it():
    head = ArcFace(3, 5)
    for length, finite in ((1.0, True), (1e-6, False)):
        x = (length * torch.randn(4, 3)).half().requires_grad_()
        head(x, torch.arange(4)).backward()
        assert x.grad.isfinite().all() == finite
