"""What a finished run leaves to look at: embeddings.npz, plots/*.png, and both in the tracker."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import tracking
from ..evaluation import METRICS, Evaluated
from ..evaluation.embeddings import save_embeddings
from ..losses import Head, MarginHead
from .build import Run
from .folder import read_rows

FRAME_POINTS = 2000  # of an animation


def write_artifacts(run: Run, result: Evaluated, embeddings: Tensor, tracker: tracking.Tracker) -> None:
    split, prototypes = run.data.test, run.head.prototypes.cpu().numpy()
    x = embeddings.cpu().numpy()
    save_embeddings(run.folder / "embeddings.npz", x, split, prototypes)
    paths = draw_run(run, result, x, prototypes)

    def cloud() -> np.ndarray:
        from .. import plots

        points, _ = plots.to_dimensions(x, prototypes, 3)
        colours = plots.class_colours(len(split.classes))
        return tracking.point_cloud(points, split.labels.cpu().numpy(), colours)

    tracker.result({f"test/{key}": value for key, value in result.metrics.items()}, paths, cloud)


def draw_run(run: Run, result: Evaluated, x: np.ndarray, prototypes: np.ndarray) -> list[Path]:
    """Draw the pictures that were asked for into the run's folder, and return their paths."""
    wanted, animated = run.config["plots"].get("figures", True), len(run.frames) == run.config["epochs"]
    if not wanted and not animated:
        return []
    from .. import plots  # matplotlib takes a second, which a refusal should not

    pictures, title = {}, run_title(run.config, run.head)
    if wanted:
        pictures = plots.evaluation_figures(result, x, run.data.test, prototypes, title)
        rows, metric = read_rows(run.folder / "metrics.csv"), METRICS[run.config["objective"]]
        pictures["curves.png"] = partial(plots.plot_curves, rows, metric, title, run.watched)
    if animated:
        frames = [(points.numpy(), directions.numpy()) for points, directions in run.frames]
        images = run.watched_images
        labels = images.labels[: len(frames[0][0])].cpu().numpy()
        pictures["training.gif"] = partial(plots.animate, frames, labels, images.classes, title)
    return list(plots.draw(pictures, run.folder / "plots").values())


def animation_frame(run: Run, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Some embeddings, and the prototypes; class means in an open set, whose classes have none."""
    points = embeddings[:FRAME_POINTS].cpu()
    if run.config["evaluation"]["name"] == "closed_set":
        return points, run.model[1].prototypes.detach().cpu()
    from ..plots import class_means

    labels = run.watched_images.labels[:FRAME_POINTS]
    return points, torch.from_numpy(class_means(points.numpy(), labels.cpu().numpy()))


def run_title(config: dict, head: Head) -> str:
    """`arcface on digits, margin 0.5, scale 64`, with the values at the end of training."""
    title = f"{config['loss']['name']} on {config['dataset']['name']}"
    if isinstance(head, MarginHead):
        margin = head.margin.tolist()
        parts = margin if isinstance(margin, list) else [margin]
        title += f", margin {', '.join(f'{part:.4g}' for part in parts)}"
    if head.has_scale:
        title += f", scale {head.scale.item():.4g}"
    return title
