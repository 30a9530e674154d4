"""A run that ends where nothing is told apart says so, in its folder, its log and the comparison."""

import math

import pytest
import torch

from src.analysis import compare_sweeps
from src.errors import Diverged
from src.evaluation import collapse
from src.losses import NormFace
from src.run.lifecycle import train_run
from tests import faults
from tests.conftest import FAST, summary_of

COLLAPSING = ("epochs=10", "schedule=constant", "optimizer.lr=0.1", "model=small_cnn")
WELL = {"target_angle_mean": 0.3, "accuracy": 0.9}


def directions(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], 1)


PROTOTYPES = directions(0, 120, 240)
SEPARATED = directions(*(10 * i for i in range(36)))


@pytest.mark.parametrize(
    ("metrics", "embeddings", "prototypes", "said"),
    [
        ({}, SEPARATED, PROTOTYPES, None),
        ({"target_angle_mean": 2.8, "accuracy": 0.7}, SEPARATED, PROTOTYPES, None),
        ({"accuracy": 1 / 3}, SEPARATED, PROTOTYPES, "accuracy 33.3% is no better than chance"),
        ({}, directions(1, 2, 3), PROTOTYPES, "all embeddings lie in one direction"),
        ({}, SEPARATED, directions(1, 2, 3), "all prototypes lie in one direction"),
        ({}, directions(1, 2, 30), directions(1, 2, 30), None),
    ],
)
def test_collapse_is_told_from_separation(metrics, embeddings, prototypes, said):
    head = NormFace(2, len(prototypes))
    head.weight.data = prototypes
    found = collapse(WELL | metrics, embeddings, head)
    assert found is None if said is None else said in found


def test_a_collapsed_run_warns_at_once_counts_and_is_named(composed, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    config = composed(*FAST, *COLLAPSING)
    objective = train_run(config, tmp_path / "sweep" / "bad")
    warning = next(line for line in caplog.messages if "training has collapsed" in line)
    assert "epoch 2: " in warning and warning.endswith("try scale=adacos")
    summary = summary_of(tmp_path / "sweep" / "bad")
    assert summary["state"] == "collapsed" and "one direction" in summary["collapse"]
    assert summary["validation"]["accuracy"] == objective
    assert train_run(config, tmp_path / "sweep" / "bad") == objective  # done, not tried again

    train_run(composed(*FAST, "loss=cosface"), tmp_path / "sweep" / "good")
    assert summary_of(tmp_path / "sweep" / "good")["state"] == "finished"
    found = compare_sweeps([tmp_path / "sweep"])
    assert len(found.settings) == 2 and not found.failures
    said = " ".join(capsys.readouterr().out.split())
    assert "arcface (1 collapsed)" in said
    assert "since 1 of 2 runs collapsed (arcface 1): python -m src.train " in said


@pytest.mark.parametrize("value", [math.nan, 1e38])
def test_a_run_whose_last_step_breaks_its_weights_has_diverged(value, composed, tmp_path, monkeypatch):
    """Its losses were all finite. The large weights are, too, and their embeddings are not."""
    config = composed(*FAST, "optimizer._target_=tests.faults.Adam", "loss=softmax")
    steps = []

    def break_weights(optimizer, *_):
        if len(steps) == 40:  # two epochs of twenty
            with torch.no_grad():
                for weights in optimizer.param_groups[0]["params"]:
                    weights.fill_(value)

    def count(optimizer):
        if not steps:
            optimizer.register_step_post_hook(break_weights)
        steps.append(optimizer)

    monkeypatch.setattr(faults, "strike", count)
    with pytest.raises(Diverged, match=r"(weights|embeddings) .*not finite numbers.*learning rate"):
        train_run(config, tmp_path)
    summary = summary_of(tmp_path)
    assert summary["state"] == "diverged" and "metrics" not in summary
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2  # the first epoch's
    monkeypatch.setattr(faults, "strike", lambda optimizer: None)
    train_run(config, tmp_path)  # asked again, it goes on after its last good epoch
    assert summary_of(tmp_path)["resumed_after_epoch"] == 1
