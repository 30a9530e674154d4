"""The loss in tiles against the dense one, in float64, for every member that says that it can."""

import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F

from src import losses
from src.losses import ArcFace, BadArgument, CosFace, CurricularFace, NormFace, SubCenterArcFace
from src.losses.head import LARGE, CosineHead

B, D, C = 9, 6, 37
MEMBERS = [
    member
    for _, member in inspect.getmembers(losses, inspect.isclass)
    if issubclass(member, CosineHead) and vars(member).get("in_tiles")
]
OPTIONS = [
    (ArcFace, {"label_smoothing": 0.1}),
    (ArcFace, {"label_smoothing": 0.2, "class_weights": [0.5 + i / 10 for i in range(C)]}),
    (CosFace, {"class_weights": [1 + i for i in range(C)]}),
    (ArcFace, {"learnable_scale": True}),
    (ArcFace, {"dynamic_scale": True, "scale": 5.0}),
    (ArcFace, {"gradient": "detached"}),
    (ArcFace, {"beyond_pi": "linear"}),
    (CurricularFace, {"gradient": "detached"}),
    (CurricularFace, {"beyond_pi": "paper", "label_smoothing": 0.1, "learnable_scale": True}),
    (losses.SphereFaceR, {"version": "v2"}),
    (losses.SphereFaceR, {"norm": "soft", "gradient": "exact"}),
    (losses.MVSoftmax, {"kind": "am"}),
    (SubCenterArcFace, {"centres": 1}),
    (SubCenterArcFace, {"centres": 5, "label_smoothing": 0.1, "learnable_scale": True}),
    (SubCenterArcFace, {"gradient": "detached", "dynamic_scale": True, "scale": 5.0}),
    (SubCenterArcFace, {"class_weights": [1 + i for i in range(C)], "beyond_pi": "continuous"}),
    (ArcFace, {"inter_topk": 3}),
    (ArcFace, {"inter_topk": C - 1, "gradient": "detached", "label_smoothing": 0.1}),
    (CosFace, {"inter_topk": 5, "inter_topk_margin": 0.3, "learnable_scale": True}),
    (CurricularFace, {"inter_topk": 2, "inter_topk_margin": 1.0}),
    (SubCenterArcFace, {"inter_topk": 3}),
    *((ArcFace, {"scale": scale}) for scale in (1.0, 8.0, 512.0)),
]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def samples(seed: int = 0, batch: int = B, classes: int = C):
    torch.manual_seed(100 + seed)  # other draws than those of the weights
    return torch.randn(batch, D) * 3, torch.randint(classes, (batch,))


def loss_and_gradients(head, tiling, x, y) -> list[torch.Tensor]:
    """Of a copy of the head, so that statistics and draws start alike."""
    head, x = copy.deepcopy(head), x.clone().requires_grad_()
    head.tiling = tiling
    loss = head(x, y)
    loss.backward()
    return [loss.detach(), x.grad, *(p.grad for p in head.parameters()), *head.buffers()]


def assert_same(head, x, y, tilings=(1, 5, C - 1, C, 100), atol=1e-11):
    dense = loss_and_gradients(head, "off", x, y)
    for tiling in tilings:
        for ours, expected in zip(loss_and_gradients(head, tiling, x, y), dense, strict=True):
            assert (ours is None) == (expected is None)
            if ours is not None:
                torch.testing.assert_close(ours, expected, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("member", MEMBERS)
def test_tiles_give_the_loss_the_gradients_and_the_statistics_of_the_dense_path(member):
    assert len(MEMBERS) > 15
    torch.manual_seed(0)
    head = member(D, C)
    if member is losses.ElasticFace:  # a copy has not its generator's state
        head.eval()
    assert_same(head, *samples())


@pytest.mark.parametrize(("member", "options"), OPTIONS)
def test_options_are_the_same_in_tiles(member, options):
    assert_same(member(D, C, **options), *samples(1))


def test_tiles_equal_an_arcface_written_out():
    x, y = samples(2)
    head = ArcFace(D, C, tiling=10)
    ours = loss_and_gradients(head, 10, x, y)
    x, w = x.requires_grad_(), head.weight.detach().requires_grad_()
    cosine = F.normalize(x) @ F.normalize(w).T
    target = cosine[torch.arange(B), y]
    moved = torch.cos(torch.acos(target) + 0.5)
    moved = torch.where(torch.acos(target) + 0.5 > math.pi, -moved - 2, moved)
    z = 64 * cosine.scatter(1, y[:, None], moved[:, None])
    loss = (torch.logsumexp(z, 1) - z[torch.arange(B), y]).mean()
    expected = [loss.detach(), *torch.autograd.grad(loss, (x, w))]
    for ours_, theirs in zip(ours, expected, strict=False):
        torch.testing.assert_close(ours_, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("batch", "classes"), [(1, C), (B, 2), (1, 2), (40, 3)])
def test_small_batches_and_few_classes(batch, classes):
    assert_same(CurricularFace(D, classes), *samples(3, batch, classes), tilings=(1, 2, 3))


def test_all_targets_in_one_tile_and_at_both_ends():
    x, _ = samples(4)
    for label in (0, 4, 5, C - 1):
        assert_same(ArcFace(D, C), x, torch.full((B,), label))


@pytest.mark.parametrize("sign", [1, -1])
def test_samples_at_their_class_and_opposite_to_it(sign):
    head = ArcFace(D, C)
    y = torch.arange(B)
    x = sign * head.weight.detach()[y] * 2
    assert_same(head, x, y, atol=1e-8)  # an angle's slope is up to 1e6 there


def test_vectors_without_a_direction_have_no_gradient():
    head, (x, y) = ArcFace(D, C), samples(5)
    x[0] = 0
    with torch.no_grad():
        head.weight[y[1]] = 0
        head.weight[(y[1] + 1) % C] = 0
    assert_same(head, x, y)


def test_a_target_with_almost_all_of_the_probability_still_has_its_gradient():
    """In float32 the dense p − 1 is a multiple of 6e-8, or nothing."""
    x, y = torch.eye(D)[:2], torch.arange(2)
    head = NormFace(D, D, scale=30, tiling=3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(D))
        head.weight[:, 0] += 0.1
    exact = loss_and_gradients(head, "off", x, y)
    single = loss_and_gradients(head.float(), 3, x.float(), y)
    for ours, expected in zip(single[:3], exact, strict=False):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-15)


def test_auto_takes_tiles_where_the_logits_would_be_large():
    head = ArcFace(D, C)
    assert head.classes_at_a_time(B, C, "cpu") is None
    assert head.classes_at_a_time(LARGE // C + 1, C, "cpu") == 2048
    assert SubCenterArcFace(D, C, centres=4).classes_at_a_time(LARGE // C // 4 + 1, C, "cpu") == 512
    assert losses.SoftTriple(D, C).classes_at_a_time(LARGE, C, "cpu") is None
    assert ArcFace(D, C, tiling="off").classes_at_a_time(LARGE, C, "cpu") is None


@pytest.mark.parametrize(
    ("member", "options"),
    [
        (losses.SoftTriple, {}),
        (losses.NPCFace, {}),
        (losses.UniFace, {}),
    ],
)
def test_a_loss_that_needs_all_cosines_at_once_refuses_tiles(member, options):
    with pytest.raises(BadArgument, match="needs all cosines at once") as error:
        member(D, C, tiling=10, **options)
    assert error.value.argument == "tiling"
    with pytest.raises(BadArgument):
        ArcFace(D, C, tiling=0)


def test_sub_centres_take_no_sample_of_the_classes():
    with pytest.raises(BadArgument, match="needs all cosines at once") as error:
        SubCenterArcFace(D, C, sample_rate=0.5)
    assert error.value.argument == "sample_rate"


def test_a_subclass_is_not_tiled_unless_it_says_so():
    class Own(ArcFace):
        pass

    assert Own(D, C).classes_at_a_time(LARGE, C, "cpu") is None


class Coupled(CosFace):
    """Non-targets that depend on t, on the target's cosine and on the length, with gradients."""

    in_tiles = True

    def non_target_cosines(self, cosine, targets, t):
        return cosine * (1 + 0.1 * t.unsqueeze(1) + 0.2 * (targets.cosine * targets.norm).unsqueeze(1))


def test_non_targets_may_depend_on_the_target_with_a_gradient():
    assert_same(Coupled(D, C), *samples(6))


def test_statistics_that_go_on_before_the_gradient_do_not_change_it():
    """Two batches, one gradient, as where gradients are accumulated."""
    found = []
    for tiling in ("off", 5):
        torch.manual_seed(0)
        head = CurricularFace(D, C, momentum=0.5, tiling=tiling)
        (x, y), (other, others) = samples(7), samples(8)
        (head(x, y) + head(other, others)).backward()
        found.append([head.weight.grad, head.easiness])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


def test_labels_outside_the_classes_fail_as_in_the_dense_path():
    x, y = samples()
    for label in (-1, C, -100):
        y[3] = label
        with pytest.raises((IndexError, RuntimeError)):
            ArcFace(D, C, tiling=5)(x, y)


@pytest.mark.parametrize("frozen", ["weight", "embeddings"])
def test_what_needs_no_gradient_gets_none(frozen):
    head, (x, y) = ArcFace(D, C, learnable_scale=True), samples()
    found = []
    for tiling in ("off", 5):
        own, given = copy.deepcopy(head), x.clone().requires_grad_(frozen == "weight")
        own.tiling = tiling
        own.weight.requires_grad_(frozen != "weight")
        own(given, y).backward()
        found.append([given.grad, own.weight.grad, own.log_scale.grad])
    for ours, expected in zip(*found, strict=True):
        assert (ours is None) == (expected is None)
        if ours is not None:
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


def test_second_derivatives_are_refused():
    head, (x, y) = ArcFace(D, C, tiling=5), samples()
    x.requires_grad_()
    (grad,) = torch.autograd.grad(head(x, y), x, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        grad.sum().backward()


@pytest.mark.parametrize("size", [7, 64])
def test_gradients_are_as_exact_as_with_all_logits(size):
    torch.manual_seed(0)
    weight, x, y = torch.randn(30, 8), torch.randn(32, 8), torch.randint(30, (32,))

    def gradients(tiling, dtype):
        head = ArcFace(8, 30, tiling=tiling).to(dtype)
        head.weight.data = weight.to(dtype)
        embeddings = x.to(dtype, copy=True).requires_grad_()
        head(embeddings, y).backward()
        return torch.cat([embeddings.grad, head.weight.grad]).double()

    exact = gradients("off", torch.float64)
    assert (gradients(size, torch.float32) - exact).norm() < 1e-6 * exact.norm()  # once 2e-6
