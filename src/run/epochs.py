"""The epochs of a run: trained, measured, recorded, and when they are enough."""

import logging

import numpy as np
import torch

from .. import tracking
from ..config import BadKey, Config
from ..errors import Diverged, Pruned, UserError
from ..losses import Head, MarginHead
from ..training import NotFinite, NotRecorded, TrainingBar, embed, processes
from .advice import check_finite, likely_causes
from .build import Run
from .causes import gentler, in_words
from .figures import animation_frame
from .folder import BEST, LAST
from .resume import best_epoch, keeps_best, save_run
from .together import epochs_of, lost_ones_named, tell_others

log = logging.getLogger(__name__)
SAMPLES = 1000  # training images whose accuracy W&B shows
LOGITS = 2**24  # in memory at a time: 64 MiB
NOT_METRICS = ("epoch", "loss", "lr", "head_lr", "margin", "scale")  # of a row of metrics.csv


def train(run: Run, tracker: tracking.Tracker) -> float | None:
    """Train all epochs that are left, each evaluated, logged, tracked and saved; return the median of
    their images per second. Raises Diverged, and Pruned after an epoch if the folder has a file
    `stop`."""
    config, epochs, speeds = run.config, run.config.epochs, []
    if is_enough(config, run.rows):  # it was before an earlier process ended
        return None
    images = config.batch_size * config.optimizer.accumulate
    bar = TrainingBar(epochs, run.steps, images, config.objective, trained=run.epochs_trained)
    with lost_ones_named(), bar:
        try:
            tell_others(run)
            for epoch in epochs_of(run, bar.step):
                value = record_epoch(run, epoch, tracker, quietly=bar.live)
                speeds.append(epoch.speed)
                bar.epoch_done(epoch.number, epoch.loss, value)
                enough = epoch.number < epochs and is_enough(config, run.rows)
                stop = epoch.number < epochs and (run.folder.path / "stop").exists()
                processes.told(not (enough or stop))
                if enough:
                    break
                if stop:
                    raise Pruned(f"stopped after epoch {epoch.number}, as the file stop asked")
        except NotFinite as error:
            raise Diverged(f"{error}: {likely_causes(run)}") from None
        except NotRecorded as error:
            raise UserError(
                f"device.graph=auto: the step could not be recorded as a CUDA graph ({error}): "
                "start it again with device.graph=off"
            ) from error
    return float(np.median(speeds)) if speeds else None


def record_epoch(run: Run, epoch, tracker: tracking.Tracker, quietly: bool) -> float:
    """Evaluate after an epoch, write its row and checkpoint, and return the objective."""
    objective, epochs = run.config.objective, run.config.epochs
    result, embeddings = run.evaluate(run.watched)
    metrics = result.metrics
    check_finite(run, epoch.number, run.watched, embeddings, metrics)
    if epoch.number > 1 and not run.warned_of_collapse:  # in the first, much may still turn out well
        collapsed = run.collapsed(result, embeddings)
        if collapsed:
            run.warned_of_collapse = True
            remedy = in_words(gentler(run.config))
            log.warning(f"epoch {epoch.number}: training has collapsed: {collapsed}; try {remedy}")
    if run.config.plots.animate:
        run.frames.append(animation_frame(run, embeddings))
    run.rows.append({"epoch": epoch.number, "loss": epoch.loss} | metrics | current_settings(run))
    run.folder.append_row(run.rows)
    if tracker.reports:
        live = {"images_per_second": epoch.speed, "training/accuracy": training_accuracy(run)}
        tracker.epoch(tracked(run.rows[-1], run.watched) | live)
    save_run(run, epoch.number, LAST)
    if keeps_best(run.config) and best_epoch(run.config, run.rows) == epoch.number:
        save_run(run, epoch.number, BEST)
    log.log(
        logging.DEBUG if quietly else logging.INFO,
        f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, {run.watched} "
        f"{objective.replace('_', ' ')} {metrics[objective]:.4f}, {epoch.speed:,.0f} images/s",
    )
    return metrics[objective]


def training_accuracy(run: Run) -> float:
    """Return the share of training images, of at most SAMPLES, whose own class has the largest logit: in
    evaluation, without augmentation or margin."""
    backbone, head = run.model
    split = run.data.train
    rows = torch.linspace(0, len(split) - 1, min(len(split), SAMPLES)).long()
    embeddings = embed(backbone, split, run.device, rows)
    at_once = max(1, LOGITS // head.num_classes)
    with torch.no_grad():
        predicted = torch.cat([head.logits(some).argmax(1) for some in embeddings.split(at_once)])
    return float((predicted == split.labels[rows.to(split.labels.device)]).float().mean())


def tracked(row: dict, watched: str) -> dict:
    """A row of metrics.csv as W&B has it: metrics go by the split that they are of."""
    return {key if key in NOT_METRICS else f"{watched}/{key}": value for key, value in row.items()}


def current_settings(run: Run) -> dict:
    """What can change over the epochs, as it is now."""
    lr, head_lr = (group["lr"] for group in run.optimizer.param_groups[-2:])
    return {"lr": lr, "head_lr": head_lr} | current_values(run.head)


def current_values(head: Head) -> dict:
    """The margin and scale that a head has now, as far as it has them."""
    values = {"margin": head.margin.tolist()} if isinstance(head, MarginHead) else {}
    return values | ({"scale": head.scale.item()} if head.has_scale else {})


def check_chosen_on_validation(config: Config, split: str) -> None:
    """Raise BadKey if an epoch would be chosen by the images that the model is reported on."""
    for key, chosen in (
        ("checkpoint.keep", keeps_best(config) and config.checkpoint.keep),
        ("early_stopping.patience", config.early_stopping.patience),
    ):
        if chosen and split == "test":
            raise BadKey(key, chosen, "needs a validation split; dataset.val_fraction=0.1 holds one out")


def is_enough(config: Config, rows: list[dict]) -> bool:
    """Return True once early_stopping.patience epochs have brought no better objective."""
    patience = config.early_stopping.patience
    return bool(patience and rows) and len(rows) - best_epoch(config, rows) >= patience
