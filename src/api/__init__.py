"""The project from Python, as in a notebook: train, sweep, compare, and use what was trained.

Installed as `angular_penalty.api`, with the packages of the extra `sweeper`, and usable from any
directory. Training and sweeping run in processes of their own, so they neither leave anything behind in
this one nor end with it unnoticed.
"""

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

from angular_penalty_cli import NAME, PROGRAM, ROOT, environment, lacks, python

if lacks():
    raise ImportError(lacks())

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # a folder called src beside a notebook is not this project's
os.environ[PROGRAM] = NAME  # commands that are printed can be typed anywhere

import numpy as np

from src.analysis import Across, Comparison, compare_sweeps
from src.config.compose import quoted
from src.errors import UserError
from src.run.embedding import images_split
from src.run.load import Trained, load_trained

COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR")

__all__ = ["Comparison", "Trained", "UserError", "compare", "embed", "load", "sweep", "train"]


def train(*overrides: str, folder: str | Path | None = None) -> Path:
    """Train one run, as `angular-penalty train <overrides>` does, with what it prints; return its
    folder, for `load`. `folder` is where, by default a new one in `outputs/`. Raises UserError with the
    last lines that it printed if it fails."""
    place = Path(folder) if folder else new_folder("outputs")
    run_command("train", *overrides, f"hydra.run.dir={quoted(str(place))}")
    return place


def sweep(*overrides: str, folder: str | Path | None = None) -> Path:
    """Run a sweep, as `angular-penalty train -m <overrides>` does, and compare its runs; return its
    folder, for `compare`, by default a new one in `multirun/`. Raises UserError if any run failed."""
    place = Path(folder) if folder else new_folder("multirun")
    run_command("train", "-m", *overrides, f"hydra.sweep.dir={quoted(str(place))}")
    return place


def compare(
    *folders: str | Path, metric: str | None = None, baseline: str | None = None
) -> Comparison | Across:
    """Compare the runs in sweeps' folders, print the answer and write `comparison/` into the first.
    Raises UserError if there is nothing to compare."""
    return compare_sweeps([Path(folder) for folder in folders], metric, baseline)


def load(run: str | Path) -> Trained:
    """The model in a run's folder, or that of `best:<sweep>`: `backbone`, `head`, `classes`, and
    `data(config)`. Raises UserError if no model is there."""
    return load_trained(Path(run))


def embed(model: Trained, *images: str | Path) -> tuple[np.ndarray, list[str]]:
    """Embeddings (N, D) of image files, or of all images in folders, and what each is called (N). Raises
    UserError for one that cannot be read."""
    split, _ = images_split(model, [Path(image) for image in images], skip_broken=False)
    return model.embed(split).cpu().numpy(), split.names.tolist()


def new_folder(parent: str) -> Path:
    return Path(parent) / datetime.datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")


def run_command(name: str, *words: str) -> None:
    """Run a command, print what it prints, and hand an interruption of the notebook on to it."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # Jupyter asks for colours, with which a progress bar takes this for a terminal.
    how["env"] = {key: value for key, value in environment().items() if key not in COLOURS}
    lines: list[str] = []
    with subprocess.Popen([*python(name), *words], **how) as process:
        while True:
            try:
                for line in process.stdout:
                    lines.append(line.rstrip())
                    print(line, end="", flush=True)
                break
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
    if process.returncode:
        raise UserError("\n".join(lines[-5:]) or f"{name}: exit code {process.returncode}")
