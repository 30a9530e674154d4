"""Run folders as finished runs leave them, without any training."""

import functools
from contextlib import suppress

import numpy as np
import pytest
import yaml

from src.config import Config, identity, setting
from src.config.compose import CONF, choices_in
from src.evaluation import METRICS
from src.run.code import Code
from src.run.folder import write_json
from src.run.summary import Summary
from tests.conftest import config_of, summary_of

RNG = np.random.default_rng(0)
CODE = Code(commit=None, dirty=False, sources="c" * 12)


@functools.cache
def config_named(**chosen: str) -> Config:
    """The configuration of some choices, by their groups; a name that no choice has stands for the
    default's."""
    known = {group: name for group, name in chosen.items() if name in choices_in(CONF / group)}
    config = config_of("logger=csv", *(f"{group}={name}" for group, name in known.items()))
    return config.model_copy(update={"choices": config.choices | chosen})


def leave(
    folder, config: Config, summary: dict, rows: list[str], overrides: list[str], **arrays
) -> None:
    """Write what a run leaves: its configuration, its rows of epoch, loss and accuracy, and embeddings
    if there are any."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.dump(overrides))
    (folder / "metrics.csv").write_text("\n".join(["epoch,loss,accuracy", *rows]) + "\n")
    if arrays:
        np.savez(folder / "embeddings.npz", **arrays)
    write_json(folder / "summary.json", Summary.of(config, CODE).plain() | {"seconds": 1.5} | summary)


def edit(folder, change) -> None:
    """Let `change` work on a run's summary, and give it the identity of what it says then."""
    summary = summary_of(folder)
    change(summary)
    with suppress(ValueError, KeyError):
        config = Config.model_validate(summary["config"])
        summary |= {"identity": identity(config), "setting": setting(config)}
    write_json(folder / "summary.json", summary)


@pytest.fixture
def make(tmp_path):
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
        config = config_named(loss=loss, model=model)
        config = config.replace(seed=seed, margin={"value": margin}, scale={"value": scale})
        config = config.replace(dataset={"folds": folds, "fold": fold}) if folds else config
        name = name or f"loss={loss},margin={margin},scale={scale},seed={seed}"
        name += "" if model == "small_cnn" else f",model={model}"
        folder = tmp_path / "sweep" / (name + f",fold={fold}" * bool(folds))
        summary, rows, arrays = {"state": state, **more}, [], {}
        if state in ("finished", "collapsed"):
            metrics = dict.fromkeys(METRICS, 0.5) | {"accuracy": accuracy}
            summary |= {
                "metrics": metrics,
                "validation": dict(metrics),
                "classes": ["cat", "dog"],
            }
            rows = [f"{e},{1 / e},{accuracy * e / 3}" for e in (1, 2, 3)]
            arrays = {
                "embeddings": RNG.normal(size=(40, 3)).astype(np.float32),
                "labels": np.arange(40) % 2,
                "prototypes": np.eye(3)[:2],
                "shown": np.arange(40),
                "thumbnails": RNG.integers(0, 17, (40, 8, 8, 1)).astype(np.uint8),
            }
        leave(folder, config, summary, rows, [f"loss={loss}", f"seed={seed}"], **arrays)
        return folder

    return run
