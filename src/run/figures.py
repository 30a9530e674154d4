"""The figures of a run, drawn from what lies in its folder: by the run itself once it is finished, and
by `python -m src.draw` at any time."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..durable import written_aside
from ..errors import UserError
from ..evaluation import metric_named
from ..evaluation.results import Results
from ..foreign import own_folder, read_arrays
from .build import Run
from .folder import RunFolder
from .summary import Summary

if TYPE_CHECKING:  # it takes a second, which a refusal should not
    from matplotlib.figure import Figure

FRAME_POINTS = 2000  # of an animation
FRAMES = "frames.npz"
# What reading a folder raises that no run of ours has left.
FOREIGN = (ValueError, LookupError, FileNotFoundError, AttributeError, TypeError, RecursionError)


def draw_wanted(folder: RunFolder) -> list[Path]:
    """Draw the figures that a finished run's configuration asks for, as `draw_run` does."""
    plots = folder.read_summary().config.plots
    return draw_run(folder) if plots.figures or plots.animate else []


def draw_run(folder: RunFolder) -> list[Path]:
    """Draw a finished run's figures into plots/, record them in its summary.json, and return their
    paths. Raises UserError for a run that is not finished, or whose files cannot be read, and OSError
    where a figure cannot be written."""
    from .. import plots  # matplotlib takes a second, which a refusal should not

    try:
        summary, rows = folder.read_summary(), folder.rows()
        if not summary.done:
            raise ValueError(f"the run is {summary.state}, only finished runs have figures")
        results = Results.load(folder.path / "embeddings.npz")
        title = run_title(summary.config, row_of(summary, rows))
    except FOREIGN as error:
        raise UserError(f"{folder.path}: {error or type(error).__name__}") from None
    protocol = summary.config.evaluation.protocol
    figures = plots.evaluation_figures(protocol, results, summary.metrics, title)
    figures["curves.png"] = partial(curves, summary, rows, title)
    if (folder.path / FRAMES).exists():
        figures["training.gif"] = partial(animation, folder.path / FRAMES, title)
    paths = list(plots.draw(figures, own_folder(folder.path / "plots")).values())
    summary.figures = [f"plots/{path.name}" for path in paths]
    if (folder.path / "summary.json").exists():
        folder.write_summary(summary)
    return paths


def curves(summary: Summary, rows: list[dict], title: str) -> "Figure":
    from .. import plots

    watched = "validation" if summary.validation else "test"
    return plots.plot_curves(rows, metric_named(summary.config.objective), title, watched)


def animation(path: Path, title: str) -> bytes:
    from .. import plots

    kept = read_arrays(path)
    frames = list(zip(kept["points"], kept["directions"], strict=True))
    return plots.animate(frames, kept["labels"], tuple(kept["classes"].tolist()), title)


def save_frames(run: Run) -> None:
    """Keep what the animation shows, if every epoch has left its frame."""
    if not run.frames or len(run.frames) != len(run.rows):
        return
    points, directions = (torch.stack(parts).numpy() for parts in zip(*run.frames, strict=True))
    images = run.watched_images
    labels = images.labels[:FRAME_POINTS].cpu().numpy()
    classes = np.array(images.classes, dtype=str)
    with written_aside(run.folder.path / FRAMES) as beside:
        np.savez_compressed(beside, points=points, directions=directions, labels=labels, classes=classes)


def animation_frame(run: Run, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Some embeddings, and the prototypes; class means in an open set, whose classes have none."""
    points = embeddings[:FRAME_POINTS].cpu()
    if run.config.evaluation.protocol == "closed_set":
        return points, run.model[1].prototypes.detach().cpu()
    from ..plots import class_means

    labels = run.watched_images.labels[:FRAME_POINTS]
    return points, torch.from_numpy(class_means(points.numpy(), labels.cpu().numpy()))


def row_of(summary: Summary, rows: list[dict]) -> dict:
    """The row of the epoch whose model the run keeps."""
    return rows[summary.epochs.kept - 1]


def run_title(config: Config, row: dict, dataset: str | None = None) -> str:
    """`arcface on digits, margin 0.5, scale 64`, with the values of an epoch's row; `dataset` is where
    the model was tested, if elsewhere."""
    title = f"{config.name('loss')} on {dataset or config.name('dataset')}"
    if "margin" in row:
        margin = json.loads(str(row["margin"]))
        parts = margin if isinstance(margin, list) else [margin]
        title += f", margin {', '.join(f'{part:.4g}' for part in parts)}"
    if "scale" in row:
        title += f", scale {float(row['scale']):.4g}"
    return title
