"""What memory a training takes, said and checked before it."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.losses import ArcFace
from src.run import memory
from src.run.build import build_run, planned_memory
from src.run.folder import RunFolder
from src.run.memory import GIB, held_by
from tests.conftest import FAST, ROOT


def test_weights_gradients_and_optimizer_are_counted(composed):
    config = composed(*FAST, "model=linear", "model.embedding_dim=16", "loss=cosface", "ema.decay=0.9")
    found = planned_memory(config).parts
    head, backbone = 4 * 10 * 16, 4 * (64 * 16 + 16)
    assert head <= found["weights of the head"] <= head + 100  # with its margin and scale
    assert found["gradients"] == pytest.approx(head + backbone, rel=0.03)
    assert found["optimizer"] == pytest.approx(2 * found["gradients"], rel=0.03)  # Adam
    assert found["moving average"] == pytest.approx(head + backbone, rel=0.03)


def test_what_is_kept_for_the_backward_pass_is_measured_without_weights():
    layer, x = nn.Linear(100, 50), torch.zeros(8, 100, requires_grad=True)
    size, y = held_by(layer, lambda: torch.tanh(layer(x)))
    kept = [4 * 8 * 100, 4 * 8 * 50]  # its input and the result of tanh
    assert y.shape == (8, 50) and size == sum(kept) + 2 * max(kept)


def test_a_training_that_does_not_fit_is_refused_with_what_would(composed, tmp_path, monkeypatch):
    vectors = ("dataset=synthetic", "dataset.classes=4000", "dataset.per_class=2", "model=linear")
    vectors += ("evaluation=open_set", "evaluation.pairs=100", "dataset.test_classes=4")
    config = composed(*FAST, *vectors, "loss.tiling=off", "batch_size=1024")
    needed = planned_memory(config).needed
    monkeypatch.setattr(memory, "used_and_free", lambda device: (0, needed - 1))
    with pytest.raises(
        UserError, match=r"not enough memory: held already 0 MiB; weights .*batch_size=512$"
    ):
        build_run(config, RunFolder(tmp_path))
    monkeypatch.setattr(memory, "used_and_free", lambda device: (GIB, 1000))
    with pytest.raises(UserError, match=r"in all .* of 1.00 GiB that there are; no smaller batch would"):
        build_run(config, RunFolder(tmp_path))
    monkeypatch.setattr(memory, "used_and_free", lambda device: (GIB, None))  # not known
    build_run(config, RunFolder(tmp_path))


def test_an_evaluation_counts_by_as_much_as_it_takes_more_than_a_step(composed):
    vectors = ("dataset=synthetic", "model=linear", "evaluation=open_set", "dataset.test_per_class=500")
    found = planned_memory(composed(*FAST, *vectors, "dataset.test_classes=10")).parts
    evaluation = found["evaluation of 5,000 images"]
    assert evaluation >= 4 * 5000**2  # cosines of all with all


def test_a_plan_refuses_what_a_run_would(composed):
    options = ("loss.sample_rate=0.5", "optimizer.accumulate=2")
    with pytest.raises(UserError, match="accumulate=2"):
        planned_memory(composed(*FAST, *options))


def test_tiles_are_counted_as_tiles():
    heads = ArcFace(16, 1000), ArcFace(16, 2000)
    device = memory.Device(torch.device("cpu"), None, 1)
    small, large = (memory.of_loss(heads, 256, 16, classes, device) for classes in (8000, 10**6))
    assert small > 3 * 4 * 256 * 8000 and large < 4 * 256 * 10**5


def test_a_plan_trains_nothing_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "src.train", "plan=true", f"hydra.run.dir={tmp_path}/a/run"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^held already +\d+ MiB$", said, re.M)
    assert re.search(r"^in all +\d+ MiB of [\d.]+ GiB that there are$", said, re.M)
    assert not list(tmp_path.iterdir())
    swept = [*command[:3], "-m", "plan=true", "seed=0,1", f"hydra.sweep.dir={tmp_path}/sweep"]
    refused = subprocess.run(swept, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode and "hydra.sweeper.plan_only=true" in refused.stderr + refused.stdout
