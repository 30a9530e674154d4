"""The calls of the repository that this project grew out of."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from src import losses
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
    for unknown in ("circle", None):
        with pytest.raises(
            ValueError, match=f"^loss_type={unknown}: expected one of arcface, cosface, sphereface$"
        ):
            AngularPenaltySMLoss(3, 10, loss_type=unknown)


def test_the_weights_are_also_a_linear_layers():
    loss = AngularPenaltySMLoss(3, 10)
    assert loss.fc.weight is loss.head.weight and loss.fc.bias is None
    assert (loss.fc.in_features, loss.fc.out_features) == (3, 10)
    x = torch.randn(4, 3)
    torch.testing.assert_close(loss.fc(x), x @ loss.head.weight.T)
    loss.fc.weight.data.zero_()
    assert (loss.head.weight == 0).all()


@pytest.mark.parametrize("loss_type", ["arcface", "cosface", "sphereface"])
def test_the_originals_state_dicts_load_alone_and_inside_a_model(loss_type):
    weight = torch.randn(10, 3)  # that repository's Linear has no bias, and there is nothing else
    loss = AngularPenaltySMLoss(3, 10, loss_type=loss_type, s=12.0, m=1.2)
    given = {"fc.weight": weight}
    assert loss.load_state_dict(given).missing_keys == [] and list(given) == ["fc.weight"]
    assert torch.equal(loss.fc.weight, weight)
    assert loss.head.scale == 12 and loss.head.margin.item() == pytest.approx(1.2)
    model = torch.nn.ModuleDict({"body": torch.nn.Linear(3, 3), "loss": loss})
    inside = {f"body.{k}": v for k, v in model["body"].state_dict().items()}
    model.load_state_dict(inside | {"loss.fc.weight": weight + 1})
    assert torch.equal(loss.fc.weight, weight + 1)
    again = AngularPenaltySMLoss(3, 10, loss_type=loss_type)
    again.load_state_dict(loss.state_dict())  # its own still do
    assert torch.equal(again.fc.weight, weight + 1) and again.head.scale == 12


@pytest.mark.parametrize(
    ("x", "labels", "said"),
    [
        (torch.zeros(4, 5), torch.zeros(4).long(), r"embeddings.shape=\(4, 5\): expected \(B, 3\)"),
        (torch.zeros(3), torch.zeros(1).long(), r"embeddings.shape=\(3,\): expected \(B, 3\)"),
        (torch.zeros(4, 3), torch.zeros(5).long(), r"labels.shape=\(5,\): expected \(4,\)"),
        (torch.zeros(4, 3), torch.zeros(4, 1).long(), r"labels.shape=\(4, 1\): expected \(4,\)"),
        (torch.zeros(4, 3), torch.zeros(4), "labels.dtype=torch.float32: expected torch.int64"),
    ],
)
def test_wrong_shapes_and_types_are_named(x, labels, said):
    with pytest.raises(ValueError, match=said):
        AngularPenaltySMLoss(3, 10)(x, labels)


def test_the_package_says_that_it_is_typed():
    assert (Path(losses.__file__).parent / "py.typed").exists()


def test_adacos_scale():
    assert adacos_scale(10) == pytest.approx(math.sqrt(2) * math.log(9))
    for classes in (1, 2):
        with pytest.raises(ValueError, match=f"^num_classes={classes}: expected at least 3 classes"):
            adacos_scale(classes)


def test_the_sufficient_scale_suffices_and_no_less_does():
    # C prototypes as far apart as can be (a simplex), the sample on its own: cosine 1, others −1/(C−1).
    for classes in (2, 10, 1000):
        s = sufficient_scale(classes, 0.999)
        p = 1 / (1 + (classes - 1) * math.exp(-s * classes / (classes - 1)))
        assert p == pytest.approx(0.999)
