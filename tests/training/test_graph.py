"""Steps as a graph: the same bits as without. The recorder is a CPU's, see replay.py, and where there is
a GPU also CUDA's."""

import random

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.run.build import build_run
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.training import Step, load_checkpoint, optimizers
from src.training import graph as graphs
from tests.conftest import FAST, summary_of
from tests.run.test_best_epoch import cut_after
from tests.training.replay import FakeGraphs

# The kinds of state that a loss has: none, running statistics, random margins, trained margins, a memory
# of each class, counts.
LOSSES = ("arcface", "adaface", "elasticface_arc", "adam_softmax", "kappaface", "subcenter_arcface")
SHORT = (*FAST, "epochs=2", "model=small_cnn", "seed=1")
EVERYTHING = (
    *("augment.flip=0.5", "augment.crop=1", "augment.rotate=10", "augment.erase=0.5"),
    *("ema.decay=0.9", "optimizer.accumulate=2", "optimizer.clip_norm=1", "neck.dropout=0.3"),
    *(
        "margin=warmup",
        "margin.value=0.5",
        "margin.epochs=1",
        "schedule=cosine",
        "schedule.warmup=0.5",
    ),
)


@pytest.fixture
def recorders(monkeypatch):
    """Runs on a CPU take their steps as a graph; a list of what recorded them."""
    made = []

    def recorder(step):
        made.append(FakeGraphs())
        return made[-1]

    monkeypatch.setattr(graphs, "recorder_for", recorder)
    return made


def trained(config, folder) -> tuple[str, dict]:
    train_run(config, folder)
    saved = load_checkpoint(folder / "checkpoint.pt")
    return (folder / "metrics.csv").read_text(), saved["backbone"] | saved["head"]


def assert_equal(one, other):
    assert one[0] == other[0]
    for key, value in one[1].items():
        assert not torch.is_tensor(value) or torch.equal(value, other[1][key]), key


@pytest.mark.parametrize("loss", LOSSES)
def test_a_graph_is_the_step_bit_for_bit(loss, composed, tmp_path, monkeypatch):
    config = composed(*SHORT, "model=mlp", f"loss={loss}")
    eager = trained(config, tmp_path / "eager")
    recorder = FakeGraphs()
    monkeypatch.setattr(graphs, "recorder_for", lambda step: recorder)
    assert_equal(trained(config, tmp_path / "graph"), eager)
    assert recorder.replays > 20


@pytest.mark.parametrize(
    "changes",
    [
        EVERYTHING,
        ("optimizer=adamw", "schedule=cosine"),
        (
            "optimizer=sgd",
            "optimizer.nesterov=false",
            "schedule=step",
            "schedule.every=1",
        ),
        ("sampler.kind=balanced", "loss.class_weights=balanced"),
        ("device.precision=bf16",),
    ],
    ids=lambda changes: changes[0],
)
def test_so_it_is_with_everything_else_in_a_step(changes, composed, tmp_path, recorders, monkeypatch):
    config = composed(*SHORT, *changes)
    graph = trained(config, tmp_path / "graph")
    assert recorders[0].replays > 10
    monkeypatch.setattr(graphs, "recorder_for", lambda step: None)
    assert_equal(graph, trained(config, tmp_path / "eager"))


def test_streamed_images_are_replayed_too(composed, folder_of, tmp_path, recorders, monkeypatch):
    data = ("dataset=image_folder", f"dataset.root={folder_of('people', people=12, images=6)}")
    config = composed(*SHORT, *data, "dataset.memory=0", "batch_size=8", "evaluation.pairs=200")
    graph = trained(config, tmp_path / "graph")
    assert recorders[0].replays > 0
    monkeypatch.setattr(graphs, "recorder_for", lambda step: None)
    assert_equal(graph, trained(config, tmp_path / "eager"))


@pytest.mark.parametrize("resumed_as", ["graph", "eager"])
def test_a_run_goes_on_as_a_graph_or_without(resumed_as, composed, tmp_path, recorders, monkeypatch):
    config = composed(*SHORT, *EVERYTHING, "epochs=3")
    cut_after(1, tmp_path / "cut", monkeypatch, config)
    assert recorders[0].replays
    if resumed_as == "eager":
        monkeypatch.setattr(graphs, "recorder_for", lambda step: None)
    resumed = trained(config, tmp_path / "cut")
    assert summary_of(tmp_path / "cut")["resumed_after_epoch"] == 1
    assert len(recorders) == (1 if resumed_as == "eager" else 2) and recorders[-1].replays
    monkeypatch.setattr(graphs, "recorder_for", lambda step: None)
    assert_equal(resumed, trained(config, tmp_path / "whole"))


class Waits(nn.Module):
    """Looks at its images in Python."""

    def __init__(self, image_shape):
        super().__init__()
        self.layer = nn.Linear(image_shape[1] * image_shape[2], 16)

    def forward(self, images):
        x = self.layer(images.flatten(1))
        return x if x.mean().item() < 1e9 else -x


class Whim(Waits):
    """Draws in Python, which a graph does not see."""

    def forward(self, images):
        return self.layer(images.flatten(1)) * random.uniform(0.5, 2)


class Counts(Waits):
    """Counts in Python, which a graph does not see, and nobody is told."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return self.layer(images.flatten(1)) * self.calls


@pytest.fixture
def stranger(composed):
    def of(cls):
        return composed(*SHORT, f"model._target_={__name__}.{cls.__name__}", "~model.width")

    return of


@pytest.mark.parametrize(("body", "why"), [(Waits, "Python waits"), (Whim, "Python draws")])
def test_a_step_that_is_no_graph_goes_on_without(
    body, why, stranger, tmp_path, recorders, monkeypatch, caplog
):
    random.seed(0)
    graph = trained(stranger(body), tmp_path / "graph")
    said = [line for line in caplog.messages if "no CUDA graph" in line]
    assert len(said) == 1 and why in said[0] and not recorders[0].replays
    monkeypatch.setattr(graphs, "recorder_for", lambda step: None)
    random.seed(0)
    assert_equal(graph, trained(stranger(body), tmp_path / "eager"))


def test_the_fake_would_notice_what_python_does(stranger, tmp_path, recorders, monkeypatch):
    graph = trained(stranger(Counts), tmp_path / "graph")
    assert recorders[0].replays
    monkeypatch.setattr(graphs, "recorder_for", lambda step: None)
    assert graph[0] != trained(stranger(Counts), tmp_path / "eager")[0]


def test_a_recording_that_fails_ends_the_run_in_one_line(composed, tmp_path, recorders, monkeypatch):
    def fails(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(FakeGraphs, "record", fails)
    with pytest.raises(UserError, match=r"not permitted .*\): start it again with device.graph=off$"):
        train_run(composed(*SHORT), tmp_path)


def test_an_optimizer_that_is_not_fused_has_no_graph(composed, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(optimizers, "kernels", lambda optimizer, on_gpu: {})
    run = build_run(composed(*FAST), RunFolder(tmp_path))
    device = run.device._replace(graph=True)
    step = Step(run.data.train, run.backbone, run.head, run.optimizer, run.schedule, device)
    assert graphs.replayed(step) is step
    assert "no CUDA graph: this optimizer has no fused=True" in caplog.text


# On a GPU, with CUDA's own graphs.

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = ("device=cuda", "logger=csv", "epochs=2", "seed=1")


@pytest.fixture
def recorded(monkeypatch):
    """A list with an entry for each graph that CUDA has recorded."""
    done, record = [], graphs.CudaGraphs.record

    def counting(self, work):
        result = record(self, work)
        done.append(self)
        return result

    monkeypatch.setattr(graphs.CudaGraphs, "record", counting)
    return done


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_gpus_graph_is_the_step_bit_for_bit(loss, precision, composed, tmp_path, recorded):
    options = (*GPU, f"loss={loss}", f"device.precision={precision}")
    eager = trained(composed(*options, "device.graph=off"), tmp_path / "eager")
    assert not recorded
    assert_equal(trained(composed(*options), tmp_path / "graph"), eager)
    assert len(recorded) == 1


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_gpus_graph_has_everything_in_a_step(optimizer, composed, tmp_path, recorded):
    options = (*GPU, *EVERYTHING, f"optimizer={optimizer}")
    eager = trained(composed(*options, "device.graph=off"), tmp_path / "eager")
    assert_equal(trained(composed(*options), tmp_path / "graph"), eager)
    assert len(recorded) == 1


@pytest.mark.gpu
@on_gpu
def test_a_gpus_graph_goes_on_from_a_checkpoint(composed, tmp_path, recorded, monkeypatch):
    config = composed(*GPU, *EVERYTHING, "loss=elasticface_arc", "epochs=3")
    cut_after(1, tmp_path / "cut", monkeypatch, config)
    assert_equal(trained(config, tmp_path / "cut"), trained(config, tmp_path / "whole"))
    assert len(recorded) == 3


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("faster", ["deterministic=false", "tf32=true", "compile=true"])
def test_a_gpus_graph_learns_with_what_is_faster(faster, composed, tmp_path, recorded):
    assert train_run(composed(*GPU, f"device.{faster}", "epochs=10"), tmp_path) > 0.8
    assert len(recorded) == 1


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(("body", "why"), [(Waits, "Python waits"), (Whim, "Python draws")])
def test_on_a_gpu_too_some_steps_are_no_graph(body, why, stranger, tmp_path, recorded, caplog):
    trained(stranger(body).replace(device={"kind": "cuda"}), tmp_path)
    assert f"no CUDA graph: {why}" in caplog.text and not recorded
