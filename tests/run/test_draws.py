"""A run draws what its seed says: alone, as the second of a process, and through a checkpoint."""

import functools
import gc

import pytest

from src.run.lifecycle import train_run
from tests.conftest import FAST
from tests.run.test_best_epoch import cut_after

RUN = (*FAST, "epochs=3", "plots.figures=false")
VECTORS = ["dataset=synthetic", "dataset.classes=4", "dataset.per_class=20", "dataset.test_per_class=8"]
VECTORS += ["batch_size=16"]
TIMM = [*VECTORS, "model=timm", "model.architecture=test_resnet", "+model.drop_path_rate=0.5"]
TORCHVISION = [*VECTORS, "dataset.per_class=10", "epochs=2", "model=torchvision"]
TORCHVISION += ["model.architecture=efficientnet_b0", "+model.stochastic_depth_prob=0.5"]
BF16 = "device.precision=bf16"
DRAWING = {
    "dropout": [*VECTORS, "neck.dropout=0.3"],
    "dropout in bf16": [*VECTORS, "neck.dropout=0.3", BF16],
    "drop path of timm": [*TIMM, BF16],
    "drop path of torchvision": [*TORCHVISION, BF16],
    "elasticface": [*VECTORS, "loss=elasticface_arc", BF16],
    "augmentation": [*VECTORS, "augment.shift=0.2", "augment.erase=0.5", BF16],
    "sampled classes": [*VECTORS, "loss.sample_rate=0.5", "optimizer=sgd"],
    "drawn images": [*VECTORS, "sampler.images=40"],
    "balanced": [*VECTORS, "sampler.kind=balanced", BF16],
    "classes": [*VECTORS, "sampler.kind=classes", "sampler.samples_per_class=4", BF16],
}


def forget() -> None:
    """Let what happens once in a process happen again."""
    for found in gc.get_objects():
        if type(found) is functools._lru_cache_wrapper and found.__module__.startswith("src."):
            found.cache_clear()


@pytest.mark.parametrize("options", DRAWING.values(), ids=DRAWING)
def test_what_is_drawn_depends_on_the_run_alone(options, composed, tmp_path, monkeypatch):
    config = composed(*RUN, *options)
    forget()
    train_run(config, tmp_path / "alone")
    train_run(config, tmp_path / "second")
    cut_after(1, tmp_path / "resumed", monkeypatch, config)
    forget()
    train_run(config, tmp_path / "resumed")
    for name in ("metrics.csv", "embeddings.npz"):
        alone, second, resumed = (
            (tmp_path / folder / name).read_bytes() for folder in ("alone", "second", "resumed")
        )
        assert second == alone, f"{name} as the second of a process"
        assert resumed == alone, f"{name} through a checkpoint"
