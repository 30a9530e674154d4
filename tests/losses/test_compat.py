"""The calls of the repository that this project grew out of."""

import math

import pytest
import torch
import torch.nn.functional as F

from src.losses import AngularPenaltySMLoss, adacos_scale, sufficient_scale


@pytest.mark.parametrize(
    ("loss_type", "s", "m"),
    [("arcface", 64.0, 0.5), ("cosface", 30.0, 0.4), ("sphereface", 64.0, 1.35), ("ArcFace", 64.0, 0.5)],
)
def test_defaults_are_that_repositorys(loss_type, s, m):
    loss = AngularPenaltySMLoss(3, 10, loss_type=loss_type)
    assert (loss.s, loss.m, loss.loss_type) == (s, m, loss_type.lower())
    assert loss.head.scale == s and loss.head.margin.item() == pytest.approx(m)


def test_it_computes_cosface_and_trains_its_weights():
    torch.manual_seed(0)
    loss = AngularPenaltySMLoss(3, 10, loss_type="cosface", eps=1e-7, s=30.0, m=0.4)
    x, y = torch.randn(16, 3), torch.randint(10, (16,))
    cosine = F.normalize(x) @ F.normalize(loss.head.weight).T
    expected = F.cross_entropy(30 * (cosine - 0.4 * F.one_hot(y, 10)), y)
    torch.testing.assert_close(loss(x, y), expected)
    loss(x, y).backward()
    assert [name for name, _ in loss.named_parameters()] == ["head.weight"]
    assert loss.head.weight.grad.abs().sum() > 0


def test_margin_zero_is_zero():
    assert AngularPenaltySMLoss(3, 10, "arcface", m=0).head.margin.item() == 0


def test_an_unknown_type_lists_those_there_are():
    with pytest.raises(ValueError, match="arcface, cosface, sphereface"):
        AngularPenaltySMLoss(3, 10, loss_type="circle")


def test_adacos_scale():
    assert adacos_scale(10) == pytest.approx(math.sqrt(2) * math.log(9))
    for classes in (1, 2):
        with pytest.raises(ValueError, match=f"C = {classes}"):
            adacos_scale(classes)


def test_the_sufficient_scale_suffices_and_no_less_does():
    # C prototypes as far apart as can be (a simplex), the sample on its own: cosine 1, others −1/(C−1).
    for classes in (2, 10, 1000):
        s = sufficient_scale(classes, 0.999)
        p = 1 / (1 + (classes - 1) * math.exp(-s * classes / (classes - 1)))
        assert p == pytest.approx(0.999)
