"""Shared: compose a configuration as the command line would, and train it in a temporary folder."""

import functools
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from PIL import Image

from src.config import Config, read
from src.config.compose import CONF, Composer
from src.durable import write_bytes
from src.run.folder import RunFolder
from tests.template import Template

ROOT = Path(__file__).parents[1]
FAST = ("model=mlp", "epochs=2", "logger=csv", "device=cpu", "device.threads=1")

torch.set_num_threads(1)  # of two processes, see the Makefile
os.environ["TRITON_INTERPRET"] = "1"  # kernels for GPUs run here, too; read when triton is imported


def pytest_configure(config) -> None:
    """One font cache for all tests of an environment, whose fonts are its own, and for the processes
    they start in other home directories: matplotlib builds one anew for each, which takes seconds and a
    line on stderr."""
    environment = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    cache = Path(tempfile.gettempdir()) / f"matplotlib-of-tests-{os.getuid()}-{environment}"
    cache.mkdir(exist_ok=True)
    os.environ.setdefault("MPLCONFIGDIR", str(cache))
    if not hasattr(config, "workerinput"):  # before workers and their children can race for it
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], capture_output=True)


# A shell's background jobs start with SIGINT ignored, and so would what they start; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def blank_figures(request, monkeypatch):
    """Figures that are drawn in this process are a white dot: drawing those of a run takes longer than
    training it. Those of comparisons are made all the same, and not rendered. Tests of plots, and those
    marked `figures`, draw; so does every command."""
    folder = request.node.path.parent.name
    if folder == "plots" or request.node.get_closest_marker("figures"):
        return
    monkeypatch.setattr("src.plots.style.png", lambda figure: DOT)
    if folder != "analysis":
        monkeypatch.setattr("src.plots.draw", draw_dots)


def white_dot() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(content, "PNG")
    return content.getvalue()


DOT = white_dot()


def draw_dots(pictures, folder: Path) -> dict[str, Path]:
    return {Path(name).stem: write_bytes(folder / name, DOT) for name in pictures}


def config_of(*overrides: str) -> Config:
    """The configuration of some overrides."""
    return read(composer().compose(list(overrides)), overrides)


def summary_of(folder: Path) -> dict:
    """What a run's summary.json holds."""
    return json.loads((folder / "summary.json").read_text())


def rows_of(folder: Path) -> list[dict]:
    """The rows of a run's metrics.csv."""
    return RunFolder(folder).rows()


@functools.cache
def composer() -> Composer:
    """It composes as Hydra does (tests/sweeps/test_compose.py), a thousand times in these tests, and
    faster."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        master = hydra.compose_config("train", [], run_mode=RunMode.MULTIRUN)
    return Composer(hydra.config_loader, master)


@pytest.fixture
def composed():
    """composed("loss=cosface", …) -> `config_of`."""
    return config_of


@pytest.fixture(scope="session")
def template():
    """template.start("src.train", "loss=cosface", …) starts a process, see tests/template.py."""
    started = Template()
    yield started
    started.close()


@pytest.fixture
def command(tmp_path, template):
    """command("loss=cosface", …) runs `python -m src.train` in a process of its own, without a W&B
    key, in which runs land under tmp_path."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HYDRA"))
        }
        home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
        multirun = "-m" in arguments
        where = f"hydra.{'sweep' if multirun else 'run'}.dir={tmp_path / 'out'}"
        return template.start("src.train", *arguments, where, env=kept | home | environment).finished()

    return run


@pytest.fixture
def unprivileged():
    """(folder, bound): in a block `with bound()` the test owns the folder and all in it, and permissions
    bind it, which they do not bind root. What it imports there may be out of its reach."""
    folder = Path(tempfile.mkdtemp())

    @contextmanager
    def bound():
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, 65534, 65534)
            os.seteuid(65534)
        try:
            yield
        finally:
            if os.getuid() == 0:
                os.seteuid(0)

    yield folder, bound
    shutil.rmtree(folder)


@pytest.fixture
def data_root() -> Path:
    """The folder of real data sets; tests that need it say so when it is not given."""
    root = os.environ.get("DATA_ROOT")
    if not root or not (Path(root) / "FashionMNIST").is_dir():
        pytest.skip("set DATA_ROOT to a folder that holds FashionMNIST/raw")
    return Path(root)


@pytest.fixture
def folder_of(tmp_path):
    """folder_of("faces", people=5, images=4, …) writes `<person>/<person>_0001.png` …, each person
    grey of another brightness, and returns the folder."""

    def write(
        name: str, people: int = 8, images: int = 4, size=(12, 10), mode: str = "L", first: int = 0
    ) -> Path:
        rng = np.random.default_rng(first)
        for person in range(first, first + people):
            of = tmp_path / name / f"p{person:02d}"
            of.mkdir(parents=True)
            for image in range(1, images + 1):
                shape = size if mode == "L" else (*size, 3)
                pixels = 25 * (person % 8) + rng.integers(0, 50, shape)
                Image.fromarray(pixels.astype(np.uint8), mode).save(
                    of / f"p{person:02d}_{image:04d}.png"
                )
        return tmp_path / name

    return write


@pytest.fixture
def faces(folder_of) -> Path:
    """Eight people, four images each, and a `pairs.txt` of two folds over the first four."""
    folder = folder_of("faces")
    same = [[f"p{a:02d}\t1\t{b}" for a, b in pair] for pair in (((0, 2), (1, 3)), ((2, 4), (3, 2)))]
    other = [[f"p{a:02d}\t1\tp{b:02d}\t{i}" for a, b, i in trio] for trio in
             (((0, 1, 1), (1, 2, 3)), ((2, 3, 1), (3, 0, 4)))]  # fmt: skip
    lines = ["2\t2", *same[0], *other[0], *same[1], *other[1]]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder
