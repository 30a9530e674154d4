"""A loss of a sample of the classes: Partial FC."""

import math

import pytest
import torch
import torch.nn.functional as F

from src.losses import ArcFace, BadArgument, NormFace, SubCenterArcFace
from src.training import adam, build_optimizer, sgd
from src.training.optimizers import sampled_rows

B, D, C = 6, 5, 40


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, D, generator=generator), torch.tensor([0, 39, 7, 7, 20, 1])


def test_a_sample_of_all_classes_is_the_loss_itself():
    torch.manual_seed(0)
    whole = ArcFace(D, C, class_weights=[1.0 + i % 5 for i in range(C)]).double()
    sampled = ArcFace(D, C, class_weights=[1.0 + i % 5 for i in range(C)], sample_rate=0.999).double()
    sampled.load_state_dict(whole.state_dict())
    (x, y), found = batch(), []
    for head in (whole, sampled):
        embeddings = x.double().requires_grad_()
        loss = head(embeddings, y)
        loss.backward()
        weight = head.weight if head is whole else head.sample.weight
        found.append((loss, embeddings.grad, weight.grad))
    assert sampled.sample.rows.tolist() == list(range(C)) and sampled.weight.grad is None
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_a_sample_has_all_own_classes_and_the_loss_is_that_of_the_sample():
    torch.manual_seed(0)
    head = NormFace(D, C, scale=10.0, sample_rate=0.3).double()
    x, y = batch()
    loss = head(x.double(), y)
    rows = head.sample.rows
    assert len(rows) == math.ceil(0.3 * C) and set(y.tolist()) <= set(rows.tolist())
    cosine = (
        torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(head.weight[rows]).T
    )
    expected = F.cross_entropy(10 * cosine, torch.searchsorted(rows, y))
    torch.testing.assert_close(loss, expected)


def test_few_classes_are_sampled_anew_each_step_and_evaluation_has_all():
    torch.manual_seed(0)
    head = ArcFace(D, C, sample_rate=0.01)
    x, y = batch()
    head(x, y)
    assert head.sample.rows.tolist() == [0, 1, 7, 20, 39]  # the batch's own are more
    head = ArcFace(D, C, sample_rate=0.5)
    drawn = []
    for _ in range(2):
        head(x, y)
        drawn.append(head.sample.rows.tolist())
    assert drawn[0] != drawn[1]
    full = ArcFace(D, C)
    full.load_state_dict(head.state_dict())
    torch.testing.assert_close(head.eval()(x, y), full.eval()(x, y))
    assert head.logits(x).shape == (B, C)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(adam, {"weight_decay": 0.1}), (sgd, {"momentum": 0.9, "weight_decay": 0.1})],
)
def test_other_rows_and_what_the_optimizer_keeps_of_them_stay(optimizer, options):
    torch.manual_seed(0)
    head, backbone = ArcFace(D, C, sample_rate=0.4), torch.nn.Linear(2, 2)
    built = build_optimizer(optimizer, backbone, head, lr=0.1, **options)
    x, y = batch()
    for _ in range(4):
        before = head.weight.detach().clone()
        kept = {k: v.clone() for k, v in built.state.get(head.weight, {}).items()}
        built.zero_grad()
        head(x, y).backward()
        rows = head.sample.rows
        with sampled_rows(built, head):
            built.step()
        others = torch.ones(C, dtype=torch.bool)
        others[rows] = False
        assert (head.weight.detach() != before).any(1).tolist() == (~others).tolist()
        state = built.state[head.weight]
        for name, value in kept.items():
            if value.shape == head.weight.shape:
                assert torch.equal(state[name][others], value[others])
        assert head.sample is None and len(built.state) <= 1
        assert any(p is head.weight for p in built.param_groups[-1]["params"])


def test_rows_that_are_always_sampled_take_the_steps_of_plain_training():
    torch.manual_seed(0)
    heads = [ArcFace(D, C), ArcFace(D, C, sample_rate=0.999)]
    heads[1].load_state_dict(heads[0].state_dict())
    x, y = batch()
    for head in heads:
        built = build_optimizer(adam, torch.nn.Linear(2, 2), head, lr=0.05)
        for _ in range(5):
            built.zero_grad()
            head(x, y).backward()
            with sampled_rows(built, head):
                built.step()
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("member", "options", "why"),
    [
        (ArcFace, {"sample_rate": 0.0}, "sample_rate"),
        (ArcFace, {"sample_rate": 1.1}, "sample_rate"),
        (
            SubCenterArcFace,
            {"sample_rate": 0.5},
            "SubCenterArcFace, as it is, needs all cosines at once",
        ),
        (ArcFace, {"sample_rate": 0.5, "inter_topk": 2}, "needs all cosines at once"),
        (ArcFace, {"sample_rate": 0.5, "label_smoothing": 0.1}, "label_smoothing is over all classes"),
    ],
)
def test_what_cannot_be_sampled_is_refused(member, options, why):
    with pytest.raises(BadArgument, match=why):
        member(D, C, **options)
