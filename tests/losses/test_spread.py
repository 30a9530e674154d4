"""Penalties that spread class weights: their values, and runs with them."""

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.losses.spread import energy, nearest_cosine, spread
from src.run.build import build_run, check_config, planned_memory
from src.run.epochs import train
from src.run.folder import RunFolder
from src.run.memory import of_penalty
from src.tracking import Tracker
from tests.conftest import FAST

RNG = np.random.default_rng(0)


def test_the_penalties_are_those_of_the_papers():
    w = RNG.normal(size=(7, 4))
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    nearest = [max(unit[i] @ unit[j] for j in range(7) if j != i) for i in range(7)]
    far = [1 / np.sum((unit[i] - unit[j]) ** 2) for i in range(7) for j in range(7) if j != i]
    weight = torch.from_numpy(w)
    assert float(nearest_cosine(weight)) == pytest.approx(np.mean(nearest), rel=1e-5)
    assert float(energy(weight)) == pytest.approx(np.mean(far), rel=1e-5)
    both = 3 * np.mean(nearest) + 0.5 * np.mean(far)
    assert float(spread(weight, 3, 0.5)) == pytest.approx(both, rel=1e-5)
    assert float(spread(5 * weight, 3, 0.0)) == pytest.approx(3 * np.mean(nearest), rel=1e-5)


@pytest.mark.parametrize("penalty", [nearest_cosine, energy])
def test_equal_weights_have_finite_penalties_and_gradients(penalty):
    weight = torch.ones(4, 3, requires_grad=True)
    value = penalty(weight)
    value.backward()
    assert value.isfinite() and weight.grad.isfinite().all()


def test_the_nearest_weights_are_pushed_apart_also_in_bf16_autocast():
    near = torch.tensor([[1.0, 0.0], [1.0, 0.03], [0.0, 1.0]], requires_grad=True)
    expected = energy(near)
    with torch.autocast("cpu", torch.bfloat16):
        value = energy(near)
    assert value.dtype == torch.float32 and value == expected
    value.backward()
    assert near.grad[0, 1] > 1 and near.grad[1, 1] < -1


@pytest.mark.parametrize("key", ["regularface", "mhe"])
def test_class_weights_end_further_apart(key, composed, tmp_path):
    nearest = []
    for factor in (0, 20):
        given = [f"spread.{key}={factor}", "loss=normface", "scale.value=2", "model.embedding_dim=8"]
        run = build_run(composed(*FAST, "epochs=4", *given), RunFolder(tmp_path))
        train(run, Tracker())
        nearest.append(float(nearest_cosine(run.head.weight.detach())))
    assert nearest[1] < nearest[0] - 0.02


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["loss=subcenter_arcface"], "loss=subcenter_arcface has several weights for each class"),
        (["loss=arcface", "loss.sample_rate=0.5"], "loss.sample_rate trains a part"),
        (["device.class_parallel=true"], "device.class_parallel trains the class weights in parts"),
    ],
)
def test_weights_that_cannot_be_spread_are_refused_before_a_sweep(given, why, composed):
    with pytest.raises(UserError, match=rf"spread.mhe=1: {why}"):
        check_config(composed(*FAST, "spread.mhe=1", *given))


def test_the_memory_of_all_pairs_is_planned(composed):
    data = [
        "dataset=synthetic",
        "dataset.classes=3000",
        "dataset.per_class=2",
        "dataset.test_per_class=1",
    ]
    plain, spread = (
        planned_memory(composed(*FAST, *data, "loss=normface", f"spread.mhe={factor}"))
        for factor in (0, 1)
    )
    before = torch.get_rng_state()
    assert of_penalty(composed(*FAST, "spread.mhe=1"), 10) > of_penalty(composed(*FAST), 10) == 0
    assert torch.equal(torch.get_rng_state(), before), "weights would start elsewhere"
    more = spread.parts["loss"] - plain.parts["loss"]
    assert 4 * 4 * 3000**2 < more < 10 * 4 * 3000**2
