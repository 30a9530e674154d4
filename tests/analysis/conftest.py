"""Run folders as finished runs leave them, without any training."""

import copy

import numpy as np
import pytest
import yaml

from src.evaluation import METRICS
from src.run.folder import write_json
from tests.conftest import config_of

RNG = np.random.default_rng(0)


@pytest.fixture(scope="session")
def base():
    return config_of("logger=none")


@pytest.fixture
def make(base, tmp_path):
    """make("arcface", 0.3, seed, accuracy) writes a run folder as a finished run leaves it."""

    def run(
        loss,
        margin,
        seed,
        accuracy,
        state="finished",
        scale=64,
        name=None,
        model="small_cnn",
        fold=None,
        folds=None,
        **more,
    ):
        config = copy.deepcopy(base)
        config["seed"], config["loss"]["name"] = seed, loss
        config["margin"]["value"], config["scale"]["value"] = margin, scale
        config["model"]["name"] = model
        if folds:
            config["dataset"] |= {"folds": folds, "fold": fold}
        name = name or f"loss={loss},margin={margin},scale={scale},seed={seed}"
        name += "" if model == "small_cnn" else f",model={model}"
        folder = tmp_path / "sweep" / (name + f",fold={fold}" * bool(folds))
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.dump([f"loss={loss}", f"seed={seed}"]))
        summary = {"state": state, "config": config, "seconds": 1.5, **more}
        if state in ("finished", "collapsed"):
            metrics = dict.fromkeys(METRICS, 0.5) | {"accuracy": accuracy}
            summary |= {
                "metrics": metrics,
                "validation": dict(metrics),
                "classes": ["cat", "dog"],
            }
            rows = [f"{e},{1 / e},{accuracy * e / 3}" for e in (1, 2, 3)]
            (folder / "metrics.csv").write_text("\n".join(["epoch,loss,accuracy", *rows]) + "\n")
            x = RNG.normal(size=(40, 3)).astype(np.float32)
            np.savez(folder / "embeddings.npz", embeddings=x, labels=np.arange(40) % 2,
                     prototypes=np.eye(3)[:2], shown=np.arange(40),
                     thumbnails=RNG.integers(0, 17, (40, 8, 8, 1)).astype(np.uint8))  # fmt: skip
        write_json(folder / "summary.json", summary)
        return folder

    return run
