"""Shared: compose a configuration as the command line would, and train it in a temporary folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from src.config import to_dict

ROOT = Path(__file__).parents[1]
FAST = ("model=mlp", "epochs=2", "logger=none", "device=cpu", "device.threads=1")

torch.set_num_threads(2)


@pytest.fixture
def composed():
    """composed("loss=cosface", …) -> the resolved configuration, a dict."""

    def of(*overrides: str) -> dict:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return to_dict(compose("train", overrides=list(overrides)))

    return of


@pytest.fixture
def command(tmp_path):
    """command("loss=cosface", …) runs `python -m src.train` in a process of its own, without a W&B
    key, in which runs land under tmp_path."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HYDRA"))
        }
        home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
        multirun = "-m" in arguments
        where = f"hydra.{'sweep' if multirun else 'run'}.dir={tmp_path / 'out'}"
        return subprocess.run(
            [sys.executable, "-m", "src.train", *arguments, where],
            cwd=ROOT,
            env=kept | home | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def data_root() -> Path:
    """The folder of real data sets; tests that need it say so when it is not given."""
    root = os.environ.get("DATA_ROOT")
    if not root or not (Path(root) / "FashionMNIST").is_dir():
        pytest.skip("set DATA_ROOT to a folder that holds FashionMNIST/raw")
    return Path(root)
