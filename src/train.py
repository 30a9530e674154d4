"""Train one run, or a sweep of them: `python -m src.train [-m] [overrides]`."""

import functools
import logging
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from . import plots, tracking
from .config import blaming, check, check_group_values, config_hash, head_options, to_dict
from .datasets import Dataset, load
from .errors import UserError
from .evaluation import ClosedSet, closed_set
from .losses import HEADS, Head, MarginHead, sufficient_scale
from .models import build_backbone
from .runs import append_row, read_rows, recorded, versions
from .training import (
    Device,
    TrainingBar,
    build_optimizer,
    build_schedule,
    choose_device,
    embed,
    fit,
    margin_schedule,
    save_checkpoint,
)

log = logging.getLogger("src.train")  # __name__ is __main__ when run as a command
CONF = Path(__file__).parents[1] / "conf"


@dataclass
class Run:
    """What a configuration describes, built and ready to train."""

    config: dict
    folder: Path
    device: Device
    data: Dataset
    backbone: nn.Module
    head: Head
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return len(self.data.train) // self.config["batch_size"]

    def evaluate(self) -> tuple[ClosedSet, Tensor]:
        """The test split's results, and its embeddings (N, D)."""
        self.head.eval()  # or the test split would move its running statistics
        embeddings = embed(self.backbone, self.data.test, self.device)
        return closed_set(self.head, embeddings, self.data.test.labels), embeddings


def train_run(config: dict, folder: Path, group: str | None = None) -> float:
    """Train what a resolved configuration describes, leave everything in `folder`, and return the
    objective. Raises UserError, with `summary.json` saying failed or diverged, if it cannot."""
    if (folder / "summary.json").exists() or (folder / "metrics.csv").exists():
        raise UserError(f"{folder} holds a run already, which would be overwritten; name a new folder")
    summary = {"config_hash": config_hash(config), "versions": versions()}
    with recorded(folder, summary):
        check(config)
        tracking.check(config["logger"])
        run = prepare(config, folder)
        summary |= {"device": run.device.description, "threads": run.device.threads}
        with tracking.track(
            config["logger"],
            config=config | {"config_hash": summary["config_hash"]},
            folder=folder,
            name=f"{folder.parent.name}/{folder.name}",
            group=group,
            tags=[config[key]["name"] for key in ("loss", "dataset", "model")],
        ) as tracker:
            speed = train(run, tracker)
            result, embeddings = run.evaluate()
            summary["metrics"] = result.metrics
            summary["recall"] = dict(zip(run.data.classes, result.recall.tolist(), strict=True))
            summary["images_per_second"] = round(speed)
            show(run, result, embeddings, tracker)

    own, other = (math.degrees(result.metrics[f"{key}_angle_mean"]) for key in ("target", "other"))
    log.info(
        f"{config['loss']['name']}: test accuracy {result.metrics['accuracy']:.4f}, worst class "
        f"{result.metrics['worst_recall']:.2f}, angle to own prototype {own:.1f}°, nearest other "
        f"{other:.1f}°; {summary['seconds']:.1f} s, {speed:,.0f} images/s -> {os.path.relpath(folder)}"
    )
    return result.metrics[config["objective"]]


def prepare(config: dict, folder: Path) -> Run:
    """Build everything, weights drawn from the run's seed; what cannot work is refused here."""
    device = choose_device(**config["device"])
    data = load(config["dataset"]["name"], config["dataset"]["root"], device.torch)
    if config["batch_size"] > len(data.train):
        raise UserError(
            f"batch_size={config['batch_size']}: dataset={config['dataset']['name']} has "
            f"{len(data.train)} training images, use that or less"
        )
    torch.manual_seed(config["seed"])
    model, loss, how, over_time = (config[k] for k in ("model", "loss", "optimizer", "schedule"))
    classes, dimension = len(data.classes), model["embedding_dim"]
    with blaming("model.options", model["options"]):
        backbone = build_backbone(model["name"], data.image_shape, dimension, **model["options"])
        backbone = backbone.to(device.torch, memory_format=torch.channels_last)
        embed(backbone, data.test[:2], device)
    with blaming("loss.options", loss["options"]):
        head = HEADS[loss["name"]](dimension, classes, **head_options(config, classes)).to(device.torch)
    with blaming("optimizer.options", how["options"]):
        optimizer = build_optimizer(
            how["name"], backbone, head, lr=how["lr"], head_lr=how["head_lr"], **how["options"]
        )
    steps, epochs = len(data.train) // config["batch_size"], config["epochs"]
    with blaming("schedule.options", over_time["options"]):
        schedule = build_schedule(
            over_time["name"], optimizer, steps=steps, epochs=epochs, **over_time["options"]
        )
    if head.has_scale:
        warn_of_large_scale(loss["name"], head.scale.item(), classes, dimension)
    return Run(config, folder, device, data, backbone, head, optimizer, schedule)


@functools.cache  # once for all runs of a sweep
def warn_of_large_scale(loss: str, scale: float, classes: int, dimension: int) -> None:
    enough = sufficient_scale(classes)
    smaller = "scale=adacos or scale.value=16" if HEADS[loss].softmax_type else "experiment=few_classes"
    if scale > (4 if HEADS[loss].softmax_type else 2) * enough:
        log.warning(
            f"scale {scale:g} of {loss} is far above the {enough:.0f} that {classes} classes need "
            f"(in {dimension} dimensions): if training is unstable, try {smaller}"
        )


def train(run: Run, tracker: tracking.Tracker) -> float:
    """All epochs, each evaluated on the test split, logged, tracked and checkpointed; returns the
    median of the epochs' images per second."""
    config, epochs, speeds = run.config, run.config["epochs"], []
    with TrainingBar(epochs, run.steps, config["batch_size"]) as bar:
        for epoch in fit(
            run.backbone,
            run.head,
            run.data.train,
            run.optimizer,
            run.schedule,
            run.device,
            epochs=epochs,
            batch_size=config["batch_size"],
            generator=torch.Generator().manual_seed(config["seed"]),
            margin=margin_over_time(config["margin"], run.head),
            on_step=bar.step,
        ):
            metrics = run.evaluate()[0].metrics
            row = {"epoch": epoch.number, "loss": epoch.loss} | metrics | settings(run)
            append_row(run.folder / "metrics.csv", row)
            tracker.epoch(row | {"images_per_second": epoch.speed})
            checkpoint(run, epoch.number)
            speeds.append(epoch.speed)
            bar.epoch_done(epoch.number, epoch.loss, metrics["accuracy"])
            log.log(
                logging.DEBUG if bar.live else logging.INFO,
                f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, test accuracy "
                f"{metrics['accuracy']:.4f}, {epoch.speed:,.0f} images/s",
            )
    return float(np.median(speeds))


def margin_over_time(margin: dict, head: Head) -> Callable[[float], Tensor] | None:
    """The head's margin as a function of the epochs trained; None where it stays as it is."""
    if margin["name"] != "warmup":
        return None
    start = head.no_margin if margin["start"] is None else margin["start"]
    start = torch.as_tensor(start, dtype=head.margin.dtype, device=head.margin.device)
    return margin_schedule(start, head.margin.clone(), margin["epochs"], margin["shape"])


def settings(run: Run) -> dict:
    """What can change over the epochs, as it is now."""
    lr, head_lr = (group["lr"] for group in run.optimizer.param_groups)
    row = {"lr": lr, "head_lr": head_lr}
    if isinstance(run.head, MarginHead):
        row["margin"] = run.head.margin.tolist()
    if run.head.has_scale:
        row["scale"] = run.head.scale.item()
    return row


def checkpoint(run: Run, epoch: int) -> None:
    """What it takes to use the model without anything else; the optimizer and schedule as they are."""
    save_checkpoint(
        run.folder / "checkpoint.pt",
        epoch=epoch,
        config=run.config,
        classes=run.data.classes,
        image_shape=run.data.image_shape,
        normalisation={"mean": run.data.train.mean, "std": run.data.train.std},
        backbone=run.backbone.state_dict(),
        head=run.head.state_dict(),
        optimizer=run.optimizer.state_dict(),
        schedule=run.schedule.state_dict(),
    )


def rounded(margin: float | list[float]) -> str:
    parts = margin if isinstance(margin, list) else [margin]
    return ", ".join(f"{part:.4g}" for part in parts)


def show(run: Run, result: ClosedSet, embeddings: Tensor, tracker: tracking.Tracker) -> None:
    """Embeddings to their file, pictures to `plots/`, and both to the tracker."""
    classes, config = run.data.classes, run.config
    x, y = embeddings.cpu().numpy(), run.data.test.labels.cpu().numpy()
    prototypes = run.head.prototypes.cpu().numpy()
    np.savez_compressed(run.folder / "embeddings.npz", embeddings=x, labels=y, prototypes=prototypes)

    title = f"{config['loss']['name']} on {config['dataset']['name']}"
    if isinstance(run.head, MarginHead):
        title += f", margin {rounded(run.head.margin.tolist())}"
    if run.head.has_scale:
        title += f", scale {run.head.scale.item():.4g}"
    tested = f"{title}: {result.metrics['accuracy']:.1%} of test samples right"
    own, other = result.target_angle.cpu().numpy(), result.other_angle.cpu().numpy()
    figures = {
        "embedding": plots.plot_embedding(x, y, prototypes, classes, tested),
        "angles": plots.plot_angles(own, other, title),
        "curves": plots.plot_curves(read_rows(run.folder / "metrics.csv"), title),
        "confusion": plots.plot_confusion(result.confusion.cpu().numpy(), classes, title),
    }
    pictures = [plots.save(made, run.folder / "plots" / f"{name}.png") for name, made in figures.items()]
    points, _ = plots.to_dimensions(x, prototypes, 3)
    cloud = tracking.point_cloud(points, y, plots.class_colours(len(classes)))
    tracker.result(result.metrics, pictures, cloud)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def task(composed: DictConfig) -> float:
    job = HydraConfig.get()
    folder, sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    try:
        group = "-".join(Path(job.sweep.dir).parts[-2:]) if sweep else None
        return train_run(to_dict(composed), folder, group)
    except UserError as error:
        if sweep:  # the other runs go on; Hydra raises this again at the end
            log.error(f"{folder.name}: {error}")
            raise
        sys.exit(str(error))


def explain(error: Exception) -> str:
    """One line for what Hydra or OmegaConf say of a user's mistake in several."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        choices = ", ".join(option for option in error.options if not option.startswith("_"))
        return f"{group}={choice}: choose one of {choices}"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def main() -> None:
    if os.environ.get("HYDRA_FULL_ERROR"):  # a developer wants tracebacks
        return task()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print in its own words
    try:
        check_group_values(sys.argv[1:], CONF)
        task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
