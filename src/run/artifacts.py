"""What a run leaves to look at once it is finished: plots/*.png, also in the tracker."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import tracking
from ..config import Config
from ..datasets import Split
from ..evaluation import METRICS, Evaluated
from ..losses import Head, MarginHead
from .build import Run
from .folder import RunFolder

if TYPE_CHECKING:  # it takes a second, which a refusal should not
    from matplotlib.figure import Figure

FRAME_POINTS = 2000  # of an animation


class Scene(NamedTuple):
    """What the pictures of a run show, without its model, optimizer and training images, whose memory
    others can use meanwhile."""

    config: Config
    folder: RunFolder
    title: str
    result: Evaluated
    embeddings: np.ndarray  # (N, D), of the test images
    prototypes: np.ndarray  # (C, D)
    test: Split
    watched: str
    frames: list[tuple[Tensor, Tensor]]  # of an animation, with labels (n,) and the classes they index
    labels: np.ndarray
    classes: tuple[str, ...]


def scene_of(run: Run, result: Evaluated, embeddings: np.ndarray, prototypes: np.ndarray) -> Scene:
    return Scene(
        run.config,
        run.folder,
        run_title(run.config, run.head),
        result,
        embeddings,
        prototypes,
        run.data.test,
        run.watched,
        run.frames,
        run.watched_images.labels[:FRAME_POINTS].cpu().numpy(),
        run.watched_images.classes,
    )


def show(scene: Scene, tracker: tracking.Tracker) -> None:
    """Draw the pictures that were asked for into the run's folder, and send them to the tracker with a
    cloud of the embeddings. Raises OSError where a picture cannot be written."""

    def cloud() -> np.ndarray:
        from .. import plots

        points, _ = plots.to_dimensions(scene.embeddings, scene.prototypes, 3)
        colours = plots.class_colours(len(scene.test.classes))
        return tracking.point_cloud(points, scene.test.labels.cpu().numpy(), colours)

    tracker.pictures(draw_run(scene), cloud)


def draw_run(scene: Scene) -> list[Path]:
    """The paths of the pictures."""
    config = scene.config
    wanted, animated = config.plots.figures, len(scene.frames) == config.epochs
    if not wanted and not animated:
        return []
    from .. import plots  # matplotlib takes a second, which a refusal should not

    pictures = {}
    if wanted:
        pictures = plots.evaluation_figures(
            scene.result, scene.embeddings, scene.test, scene.prototypes, scene.title
        )
        pictures["curves.png"] = partial(curves, config, scene.folder, scene.title, scene.watched)
    if animated:
        frames = [(points.numpy(), directions.numpy()) for points, directions in scene.frames]
        seen = frames, scene.labels, scene.classes, scene.title
        pictures["training.gif"] = partial(plots.animate, *seen)
    return list(plots.draw(pictures, scene.folder.path / "plots").values())


def curves(config: Config, folder: RunFolder, title: str, watched: str) -> "Figure":
    """The epochs of the run in a folder."""
    from .. import plots

    rows, metric = folder.rows(), METRICS[config.objective]
    return plots.plot_curves(rows, metric, title, watched)


def animation_frame(run: Run, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Some embeddings, and the prototypes; class means in an open set, whose classes have none."""
    points = embeddings[:FRAME_POINTS].cpu()
    if run.config.evaluation.protocol == "closed_set":
        return points, run.model[1].prototypes.detach().cpu()
    from ..plots import class_means

    labels = run.watched_images.labels[:FRAME_POINTS]
    return points, torch.from_numpy(class_means(points.numpy(), labels.cpu().numpy()))


def run_title(config: Config, head: Head, dataset: str | None = None) -> str:
    """`arcface on digits, margin 0.5, scale 64`, with the values at the end of training; `dataset` is
    where it was tested, if elsewhere."""
    title = f"{config.name('loss')} on {dataset or config.name('dataset')}"
    if isinstance(head, MarginHead):
        margin = head.margin.tolist()
        parts = margin if isinstance(margin, list) else [margin]
        title += f", margin {', '.join(f'{part:.4g}' for part in parts)}"
    if head.has_scale:
        title += f", scale {head.scale.item():.4g}"
    return title
