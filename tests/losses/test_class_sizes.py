"""Margins by the sizes of classes: LDAM's, and the dynamic margins for landmarks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src import losses
from src.errors import UserError
from src.losses import ArcFace, BadArgument, CosFace, MagFace, SubCenterArcFace
from src.run.build import build_run, check_config
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.load import load_trained
from tests.conftest import FAST, config_of

SIZES = (100, 10, 3, 50, 1)
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(SIZES))


def inputs(head):
    torch.manual_seed(0)
    return torch.randn(40, head.embedding_dim).double(), torch.arange(40) % head.num_classes


def test_with_cosface_and_a_power_of_a_quarter_it_is_ldam():
    """LDAM: margins C/n^1/4, scaled so that the largest is m, subtracted from the target's cosine."""
    head = CosFace(8, 5, margin=0.5, scale=30.0).double()
    head.margins_by_size(LABELS)
    x, y = inputs(head)
    m = 1 / np.sqrt(np.sqrt(np.array(SIZES, float)))
    m = torch.from_numpy(m * (0.5 / m.max()))
    w = head.weight.detach().clone().requires_grad_()
    z = F.normalize(x) @ F.normalize(w).T
    expected = F.cross_entropy(30 * (z - F.one_hot(y, 5) * m[y][:, None]), y)
    found = head(x, y)
    found.backward(), expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(head.weight.grad, w.grad, rtol=1e-7, atol=1e-12)


def test_with_sub_centres_and_a_floor_it_is_that_of_landmarks():
    """a n^−λ + b, with a 0.5, b 0.05, λ 1/4; the smallest class has one image."""
    head = SubCenterArcFace(8, 5, margin=0.55, scale=30.0, beyond_pi="paper").double().eval()
    head.margins_by_size(LABELS, 0.25, 0.05)
    x, y = inputs(head)
    m = torch.tensor([0.5 * n**-0.25 + 0.05 for n in SIZES], dtype=torch.double)
    c = (F.normalize(x) @ F.normalize(head.weight.detach().flatten(0, 1)).T).unflatten(1, (5, 3))
    c = c.amax(2)
    own = c.gather(1, y[:, None])[:, 0]
    z = c.scatter(1, y[:, None], torch.cos(own.acos() + m[y])[:, None])
    torch.testing.assert_close(head(x, y), F.cross_entropy(30 * z, y), rtol=1e-7, atol=0)


@pytest.mark.parametrize("options", [{"tiling": 2}, {"gradient": "detached"}])
def test_tiles_and_detached_gradients_have_the_same_margins(options):
    """Tiles as dense; a detached gradient has the value of the exact one."""
    heads = [ArcFace(8, 5, margin=0.5, scale=30.0, **each).double() for each in ({}, options)]
    for head in heads:
        head.load_state_dict(heads[0].state_dict())
        head.margins_by_size(LABELS)
    x, y = inputs(heads[0])
    first, second = (head(x, y) for head in heads)
    torch.testing.assert_close(first, second, rtol=1e-9, atol=0)
    if "tiling" in options:
        first.backward(), second.backward()
        torch.testing.assert_close(heads[0].weight.grad, heads[1].weight.grad, rtol=1e-8, atol=1e-12)
    assert heads[0].margin.ndim == 0  # as it was


def test_margins_of_classes_are_part_of_a_heads_state():
    head, other = (ArcFace(8, 5, margin=0.5, scale=30.0) for _ in range(2))
    head.margins_by_size(LABELS)
    other.load_state_dict(head.state_dict())
    x, y = inputs(head)
    assert torch.equal(head(x.float(), y), other(x.float(), y))
    assert "class_margins=tensor(5,)" in repr(other)
    with pytest.raises(BadArgument, match="labels"):
        head(x.float(), y.int())


def test_a_margin_that_is_set_later_moves_those_of_all_classes():
    head = CosFace(8, 5, margin=0.5, scale=30.0)
    head.margins_by_size(LABELS)
    before = head.class_margins
    head.margin.fill_(0.25)
    torch.testing.assert_close(head.class_margins, before / 2)
    x, y = inputs(head)
    other = CosFace(8, 5, margin=0.25, scale=30.0)
    other.weight.data = head.weight.data
    other.margins_by_size(LABELS)
    torch.testing.assert_close(head(x.float(), y), other(x.float(), y))
    with pytest.raises(BadArgument, match="labels=5: expected labels below 5"):
        head.margins_by_size(torch.arange(6))


def test_a_run_that_starts_from_another_has_margins_of_its_own(tmp_path):
    given = (*FAST, "loss=cosface", "margin=class_sizes", "scale.value=30")
    train_run(check_config(config_of(*given, "margin.value=0.5")), tmp_path / "a")
    config = check_config(config_of(*given, "margin.value=0.1", f"init.from={tmp_path / 'a'}"))
    head = build_run(config, RunFolder(tmp_path / "b")).head
    assert float(head.class_margins.max()) == pytest.approx(0.1)


def test_a_floor_is_checked_as_strictly_as_a_margin():
    given = (*FAST, "loss=sphereface2", "margin=class_sizes", "margin.floor=5")
    with pytest.raises(UserError, match=r"margin\.floor=5: .* 2 for kind C"):
        check_config(config_of(*given))


def test_what_cannot_differ_by_class_is_refused():
    for head, options, said in (
        (MagFace(8, 5), {}, "one number can differ by class"),
        (ArcFace(8, 5, margin=0.5, scale=30.0), {"power": 0}, "power"),
        (ArcFace(8, 5, margin=0.5, scale=30.0), {"floor": 4}, "margin"),
    ):
        with pytest.raises(BadArgument, match=said):
            head.margins_by_size(LABELS, **options)


def test_a_negative_margin_of_cosface_adds_to_the_targets_cosine():
    head = CosFace(8, 5, margin=-0.3, scale=10.0).double()
    x, y = inputs(head)
    z = 10 * (head.cosines(x) + 0.3 * F.one_hot(y, 5))
    torch.testing.assert_close(head(x, y), F.cross_entropy(z, y), rtol=1e-9, atol=0)
    with pytest.raises(BadArgument, match="≥ 0"):
        losses.UniFace(8, 5, margin=-0.3, scale=10.0)


def test_a_run_has_margins_by_its_training_images_and_is_loaded_with_them(tmp_path):
    given = (*FAST, "loss=cosface", "margin=class_sizes", "margin.value=0.5", "scale.value=30")
    config = check_config(config_of(*given))
    run = build_run(config, RunFolder(tmp_path / "other"))
    counts = torch.bincount(run.data.train.labels).double()
    expected = 0.5 * (counts / counts.min()) ** -0.25
    torch.testing.assert_close(run.head.class_margins.double(), expected, rtol=1e-6, atol=0)
    train_run(config, tmp_path / "run")
    loaded = load_trained(tmp_path / "run").head
    torch.testing.assert_close(loaded.class_margins, run.head.class_margins)
