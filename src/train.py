"""Train one run, or a sweep of them: `python -m src.train [-m] [overrides]`."""

import functools
import logging
import math
import os
import sys
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
from .config import check, config_hash, head_options, to_dict
from .datasets import Dataset, load
from .errors import UserError
from .evaluation import ClosedSet, closed_set
from .losses import HEADS, CosineHead, Head, MarginHead, sufficient_scale
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

log = logging.getLogger(__name__)


def run(config: dict, folder: Path, group: str | None = None) -> float:
    """Train what a resolved configuration describes, leave everything in `folder`, and return the
    objective. Raises UserError, with `summary.json` saying failed or diverged, if it cannot."""
    summary = {"config_hash": config_hash(config), "versions": versions()}
    with recorded(folder, summary):
        check(config)
        tracking.check(config["logger"])
        device = choose_device(**config["device"])
        summary |= {"device": device.description, "threads": device.threads}
        data = load(config["dataset"]["name"], config["dataset"]["root"], device.torch)
        if config["batch_size"] > len(data.train):
            raise UserError(
                f"batch_size={config['batch_size']}: dataset={config['dataset']['name']} has "
                f"{len(data.train)} training images, use that or less"
            )
        backbone, head = build(config, data, device)
        with tracking.track(
            config["logger"],
            config=config | {"config_hash": summary["config_hash"]},
            folder=folder,
            name=f"{folder.parent.name}/{folder.name}",
            group=group,
            tags=[config[key]["name"] for key in ("loss", "dataset", "model")],
        ) as tracker:
            speed = train(config, data, backbone, head, device, folder, tracker)
            embeddings = embed(backbone, data.test, device)
            result = closed_set(head, embeddings, data.test.labels)
            summary["metrics"] = result.metrics
            summary["recall"] = dict(zip(data.classes, result.recall.tolist(), strict=True))
            summary["images_per_second"] = round(speed)
            show(config, data, head, embeddings, result, folder, tracker)

    degrees = {key: math.degrees(result.metrics[f"{key}_angle_mean"]) for key in ("target", "other")}
    log.info(
        f"{config['loss']['name']}: test accuracy {result.metrics['accuracy']:.4f}, worst class "
        f"{result.metrics['worst_recall']:.2f}, angle to own prototype {degrees['target']:.1f}°, "
        f"nearest other {degrees['other']:.1f}°; {summary['seconds']:.1f} s, {speed:,.0f} images/s "
        f"-> {os.path.relpath(folder)}"
    )
    return result.metrics[config["objective"]]


def build(config: dict, data: Dataset, device: Device) -> tuple[nn.Module, Head]:
    """The backbone and the head, their weights drawn from the run's seed, on the device."""
    torch.manual_seed(config["seed"])
    model, loss, classes = config["model"], config["loss"]["name"], len(data.classes)
    backbone = build_backbone(
        model["name"], data.image_shape, model["embedding_dim"], **model["options"]
    )
    head = HEADS[loss](model["embedding_dim"], classes, **head_options(config, classes))
    if isinstance(head, CosineHead):
        warn_of_large_scale(loss, float(head.scale), classes, model["embedding_dim"])
    backbone = backbone.to(device.torch, memory_format=torch.channels_last)
    return backbone, head.to(device.torch)


@functools.cache  # once for all runs of a sweep
def warn_of_large_scale(loss: str, scale: float, classes: int, dimension: int) -> None:
    enough = sufficient_scale(classes)
    if scale > 4 * enough:
        log.warning(
            f"scale {scale:g} of {loss} is far above the {enough:.0f} that {classes} classes need "
            f"(in {dimension} dimensions): if training is unstable, try scale=adacos or scale.value=16"
        )


def train(config, data: Dataset, backbone, head, device: Device, folder: Path, tracker) -> float:
    """All epochs, each evaluated on the test split, logged, tracked and checkpointed; returns the
    median of the epochs' images per second."""
    epochs, batch_size = config["epochs"], config["batch_size"]
    steps = len(data.train) // batch_size
    how = config["optimizer"]
    optimizer = build_optimizer(
        how["name"], backbone, head, lr=how["lr"], head_lr=how["head_lr"], **how["options"]
    )
    schedule = build_schedule(
        config["schedule"]["name"],
        optimizer,
        steps=steps,
        epochs=epochs,
        **config["schedule"]["options"],
    )
    speeds = []
    with TrainingBar(epochs, steps, batch_size) as bar:
        for epoch in fit(
            backbone,
            head,
            data.train,
            optimizer,
            schedule,
            device,
            epochs=epochs,
            batch_size=batch_size,
            generator=torch.Generator().manual_seed(config["seed"]),
            margin=margin_over_time(config["margin"], head),
            on_step=bar.step,
        ):
            metrics = closed_set(head, embed(backbone, data.test, device), data.test.labels).metrics
            row = {"epoch": epoch.number, "loss": epoch.loss} | metrics | settings(optimizer, head)
            append_row(folder / "metrics.csv", row)
            tracker.epoch(row | {"images_per_second": epoch.speed})
            save_checkpoint(
                folder / "checkpoint.pt",
                epoch=epoch.number,
                config=config,
                classes=data.classes,
                image_shape=data.image_shape,
                normalisation={"mean": data.train.mean, "std": data.train.std},
                backbone=backbone.state_dict(),
                head=head.state_dict(),
                optimizer=optimizer.state_dict(),
                schedule=schedule.state_dict(),
            )
            speeds.append(epoch.speed)
            bar.epoch_done(epoch.number, epoch.loss, metrics["accuracy"])
            log.log(
                logging.DEBUG if bar.live else logging.INFO,
                f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, test accuracy "
                f"{metrics['accuracy']:.4f}, {epoch.speed:,.0f} images/s",
            )
    return float(np.median(speeds))


def margin_over_time(margin: dict, head: Head):
    """The head's margin as a function of the epochs trained; None where it stays as it is."""
    if margin["name"] != "warmup":
        return None
    start = head.no_margin if margin["start"] is None else margin["start"]
    start = torch.as_tensor(start, dtype=head.margin.dtype, device=head.margin.device)
    return margin_schedule(start, head.margin.clone(), margin["epochs"], margin["shape"])


def settings(optimizer: torch.optim.Optimizer, head: Head) -> dict:
    """What can change over the epochs, as it is now."""
    lr, head_lr = (group["lr"] for group in optimizer.param_groups)
    row = {"lr": lr, "head_lr": head_lr}
    if isinstance(head, MarginHead):
        row["margin"] = head.margin.tolist()
    if isinstance(head, CosineHead):
        row["scale"] = float(head.scale)
    return row


def show(
    config: dict,
    data: Dataset,
    head: Head,
    embeddings: Tensor,
    result: ClosedSet,
    folder: Path,
    tracker: tracking.Tracker,
) -> None:
    """Embeddings to their file, pictures to `plots/`, and both to the tracker."""
    x, y = embeddings.cpu().numpy(), data.test.labels.cpu().numpy()
    prototypes = head.weight.detach().cpu().numpy()
    np.savez_compressed(folder / "embeddings.npz", embeddings=x, labels=y, prototypes=prototypes)

    rows = read_rows(folder / "metrics.csv")
    title = f"{config['loss']['name']} on {config['dataset']['name']}"
    if isinstance(head, MarginHead):
        title += f", margin {config['margin']['value']}"
    if isinstance(head, CosineHead):
        title += f", scale {float(head.scale):.4g}"
    tested = f"{title}: {result.metrics['accuracy']:.1%} of test samples right"
    figures = {
        "embedding": plots.plot_embedding(x, y, prototypes, data.classes, tested),
        "angles": plots.plot_angles(
            result.target_angle.cpu().numpy(), result.other_angle.cpu().numpy(), title
        ),
        "curves": plots.plot_curves(rows, title),
        "confusion": plots.plot_confusion(result.confusion.cpu().numpy(), data.classes, title),
    }
    pictures = [plots.save(made, folder / "plots" / f"{name}.png") for name, made in figures.items()]
    points, _ = plots.to_dimensions(x, prototypes, 3)
    colours = plots.class_colours(len(data.classes))
    tracker.result(result.metrics, pictures, tracking.point_cloud(points, y, colours))


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="train")
def task(composed: DictConfig) -> float:
    job = HydraConfig.get()
    folder, sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    try:
        group = "-".join(Path(job.sweep.dir).parts[-2:]) if sweep else None
        return run(to_dict(composed), folder, group)
    except UserError as error:
        if sweep:  # the other runs go on; Hydra raises this again at the end
            log.error(f"{folder.name}: {error}")
            raise
        sys.exit(str(error))


def explain(error: Exception) -> str:
    """One line for what Hydra or OmegaConf say of a user's mistake in several."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if choice.replace(".", "").isdigit():
            return f"{group}={choice}: a value goes to {group}.value={choice}"
        return f"{group}={choice}: choose one of {', '.join(error.options)}"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def main() -> None:
    if os.environ.get("HYDRA_FULL_ERROR"):  # a developer wants tracebacks
        return task()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print in its own words
    try:
        task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
