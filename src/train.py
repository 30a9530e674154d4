"""Train one run, or a sweep of them: `python -m src.train [-m] [overrides]`."""

import sys

if __name__ == "__main__" and {"-m", "--multirun"} & set(sys.argv):
    from src import warm

    if not any(argument.startswith("hydra/launcher=") for argument in sys.argv):
        warm.workers_context()

import functools
import logging
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from . import pictures, plots, sweeps, tracking
from .config import (
    CONF,
    blaming,
    check,
    check_group_values,
    config_hash,
    continue_command,
    explain,
    head_options,
    to_dict,
)
from .datasets import Augmentation, Dataset, load
from .datasets.files import listed
from .errors import Pruned, UserError
from .evaluate import pairs_of
from .evaluation import EVALUATIONS, Evaluated, evaluate
from .losses import HEADS, Head, MarginHead, sufficient_scale
from .models import build_backbone
from .runs import (
    append_row,
    claimed,
    keep_rows,
    objective_of,
    read_rows,
    read_summary,
    recorded,
    versions,
)
from .training import (
    Device,
    TrainingBar,
    build_optimizer,
    build_schedule,
    choose_device,
    embed,
    fit,
    load_checkpoint,
    margin_schedule,
    random_states,
    save_checkpoint,
    set_random_states,
)

log = logging.getLogger(__name__)
FEW_STEPS = 3  # of an epoch, which is then mostly evaluation
FRAME_POINTS = 2000  # of an animation
STATEFUL = ("backbone", "head", "optimizer", "schedule")  # parts of a Run that a checkpoint holds


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
    margin: Callable[[float], Tensor] | None  # over the epochs trained
    shuffling: torch.Generator
    augmentation: Augmentation
    pairs: dict[str, tuple[Tensor, ...]]  # that verification looks at, by split; none in a closed set
    trained: int = 0  # epochs, before this process went on
    frames: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # an epoch each, for an animation

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return len(self.data.train) // self.config["batch_size"]

    @property
    def in_numbers(self) -> str:
        parts = {"training": self.data.train, "validation": self.data.val, "test": self.data.test}
        of = [
            f"{name} on {len(split):,} images of {len(split.classes):,} classes"
            for name, split in parts.items()
            if split is not None
        ]
        return f"{', '.join(of)}; {self.steps:,} steps an epoch"

    @property
    def watched(self) -> str:
        """The split that is measured after each epoch, and that settings are chosen by."""
        return "test" if self.data.val is None else "validation"

    def evaluate(self, split: str) -> tuple[Evaluated, Tensor]:
        """Results on the split `validation` or `test`, and its embeddings (N, D)."""
        self.head.eval()  # or images that are not trained on would move its running statistics
        images = self.data.test if split == "test" else self.data.val
        embeddings = embed(self.backbone, images, self.device)
        name, pairs = self.config["evaluation"]["name"], self.pairs.get(split)
        return evaluate(name, self.head, embeddings, images.labels, pairs), embeddings


def train_run(config: dict, folder: Path, group: str | None = None) -> float:
    """Train what a resolved configuration describes, leave everything in `folder`, and return the
    objective. A run that was cut short goes on after its last epoch; a finished one is left as it is.
    Raises UserError if it cannot, with `summary.json` saying how it ended."""
    identity = config_hash(config)
    with claimed(folder):
        saved = left_behind(folder, identity)
        if saved == "finished":
            return objective_of(read_summary(folder), config["objective"])
        for leftover in ("summary.json", "stop"):  # of an attempt that did not finish; its log stays
            (folder / leftover).unlink(missing_ok=True)
        summary = {"config_hash": identity, "config": config, "versions": versions()}
        with recorded(folder, summary):
            return complete(config, folder, group, summary, saved)


def left_behind(folder: Path, identity: str) -> dict | Literal["finished"] | None:
    """What an earlier attempt at this very run left in `folder`: a checkpoint to go on from, "finished",
    or nothing. Raises UserError if another run is there, which would be overwritten."""
    refusal = UserError(f"{folder} holds another run, which would be overwritten; name a new folder")
    summary = read_summary(folder)
    if summary and summary.get("config_hash") not in (None, identity):
        raise refusal
    if summary and summary.get("state") == "finished":
        return "finished"
    if not (folder / "checkpoint.pt").exists():
        (folder / "metrics.csv").unlink(missing_ok=True)  # killed before the first checkpoint
        return None
    try:
        saved = load_checkpoint(folder / "checkpoint.pt")
        identity_there, with_versions = config_hash(saved["config"]), saved["versions"]
    except Exception as error:  # torn, foreign: whatever torch makes of it
        log.warning(f"the checkpoint cannot be read ({error}): starting from the first epoch again")
        with_versions, identity_there = None, identity
    if identity_there != identity:
        raise refusal
    if with_versions == versions():
        return saved
    if with_versions:
        log.warning("the checkpoint is of other versions: starting from the first epoch again")
    (folder / "metrics.csv").unlink(missing_ok=True)
    return None


def complete(config: dict, folder: Path, group: str | None, summary: dict, saved: dict | None) -> float:
    """Everything between claiming a folder and writing `summary`, which is filled on the way."""
    check(config)
    tracking.check(config["logger"])
    run = prepare(config, folder, fetch=saved is None)
    if saved:
        restore(run, saved)
        summary["resumed_after_epoch"] = run.trained
        log.info(f"going on after epoch {run.trained}")
        if saved["device"] != run.device.description:
            log.warning(
                f"begun on {saved['device']}, now on {run.device.description}: last digits differ"
            )
    log.info(run.in_numbers)
    if run.steps < FEW_STEPS:
        log.warning(
            f"{run.steps} steps an epoch are few: a batch_size below {config['batch_size']} takes more"
        )
    summary |= {"device": run.device.description, "threads": run.device.threads}
    if run.data.skipped:
        summary["skipped"] = list(run.data.skipped)
        log.warning(f"{len(run.data.skipped)} files and classes left out: {listed(run.data.skipped)}")
    with tracking.track(
        config["logger"],
        config=config | {"config_hash": summary["config_hash"]},
        folder=folder,
        name=f"{folder.parent.name}/{folder.name}",
        group=group,
        tags=[config[key]["name"] for key in ("loss", "dataset", "model")],
        resumed=saved is not None,
    ) as tracker:
        speed = train(run, tracker)
        result, embeddings = run.evaluate("test")
        summary["metrics"] = result.metrics
        if run.watched == "validation":
            summary["validation"] = run.evaluate("validation")[0].metrics
        summary["classes"] = list(run.data.test.classes)
        if result.closed:
            recall = [None if math.isnan(share) else share for share in result.closed.recall.tolist()]
            summary["recall"] = dict(zip(run.data.classes, recall, strict=True))
        summary["images_per_second"] = speed and round(speed)
        show(run, result, embeddings, tracker)

    log.info(
        f"{config['loss']['name']}: {in_words(config['evaluation']['name'], result.metrics)}"
        f"{f'; {speed:,.0f} images/s' if speed else ''} -> {os.path.relpath(folder)}"
    )
    return objective_of(summary, config["objective"])


def in_words(evaluation: str, metrics: dict[str, float]) -> str:
    """The metrics that say most, in a line; and those that the test data were too few for, by name."""
    if evaluation == "closed_set":
        own, other = (math.degrees(metrics[f"{key}_angle_mean"]) for key in ("target", "other"))
        return (
            f"test accuracy {metrics['accuracy']:.4f}, worst class {metrics['worst_recall']:.2f}, angle "
            f"to own prototype {own:.1f}°, nearest other {other:.1f}°"
        )
    said = [
        f"{key} {metrics[key]:.4f}"
        for key in ("recall_at_1", "map_at_r", "auc", "eer", "tar_at_far_1e-3", "ten_fold_accuracy")
        if key in metrics
    ]
    missing = [name for name in EVALUATIONS[evaluation] if name not in metrics]
    return f"test {', '.join(said)}" + (f" (too few pairs for {', '.join(missing)})" if missing else "")


def prepare(config: dict, folder: Path, fetch: bool = True) -> Run:
    """Build everything, weights drawn from the run's seed, or, of a pretrained model, fetched; what
    cannot work is refused here."""
    device = choose_device(**config["device"])
    source = config["dataset"]
    data = load(device=device.torch, **source)
    if data.train is None:
        option = "test_fraction=0.2" if "test_fraction" in source else "train=<folder>"
        raise UserError(f"dataset={source['name']}: has nothing to train on, give dataset.{option}")
    if config["batch_size"] > len(data.train):
        raise UserError(
            f"batch_size={config['batch_size']}: dataset={source['name']} has {len(data.train)} images "
            "to train on, use that or less"
        )
    pairs = pairs_of(config, {"validation": data.val, "test": data.test}, data.classes)
    torch.manual_seed(config["seed"])
    model, loss, how, over_time = (config[k] for k in ("model", "loss", "optimizer", "schedule"))
    classes = len(data.classes)
    shape = "×".join(map(str, data.image_shape))
    with blaming(f"model.name={model['name']} for images {shape}, model.options", model["options"]):
        backbone = build_backbone(image_shape=data.image_shape, **model, fetch=fetch)
        if backbone.normalisation:
            data.normalise_by(*backbone.normalisation)
        backbone = backbone.to(device.torch, memory_format=torch.channels_last)
        dimension = embed(backbone, data.test, device, first=2).shape[1]
    if config["batch_size"] == 1 and any(isinstance(m, nn.BatchNorm1d) for m in backbone.modules()):
        raise UserError(f"batch_size=1: model={model['name']} normalises over a batch, use 2 or more")
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
    margin = margin_over_time(config["margin"], head)
    shuffling, chance = (torch.Generator().manual_seed(config["seed"]) for _ in range(2))
    augmentation = Augmentation(chance, **config["augment"])
    training = (backbone, head, optimizer, schedule, margin, shuffling, augmentation)
    return Run(config, folder, device, data, *training, pairs)


@functools.cache  # once for all runs of a sweep
def warn_of_large_scale(loss: str, scale: float, classes: int, dimension: int) -> None:
    enough = sufficient_scale(classes)
    smaller = "scale=adacos or scale.value=16" if HEADS[loss].softmax_type else "experiment=few_classes"
    if scale > (4 if HEADS[loss].softmax_type else 2) * enough:
        log.warning(
            f"scale {scale:g} of {loss} is far above the {enough:.0f} that {classes} classes need "
            f"(in {dimension} dimensions): if training is unstable, try {smaller}"
        )


def train(run: Run, tracker: tracking.Tracker) -> float | None:
    """All epochs to go, each evaluated, logged, tracked and checkpointed; returns the median of their
    images per second. Raises Pruned after an epoch that left a file `stop`."""
    config, epochs, speeds = run.config, run.config["epochs"], []
    with TrainingBar(epochs, run.steps, config["batch_size"], config["objective"]) as bar:
        for epoch in fit(
            run.backbone,
            run.head,
            run.data.train,
            run.optimizer,
            run.schedule,
            run.device,
            epochs=epochs,
            after=run.trained,
            batch_size=config["batch_size"],
            generator=run.shuffling,
            margin=run.margin,
            augment=run.augmentation,
            on_step=bar.step,
        ):
            result, embeddings = run.evaluate(run.watched)
            metrics = result.metrics
            if config["plots"]["animate"]:
                run.frames.append(frame(run, embeddings))
            row = {"epoch": epoch.number, "loss": epoch.loss} | metrics | settings(run)
            append_row(run.folder / "metrics.csv", row)
            shown = {f"{run.watched}/{key}": value for key, value in metrics.items()}
            others = {key: value for key, value in row.items() if key not in metrics}
            tracker.epoch(others | shown | {"images_per_second": epoch.speed})
            checkpoint(run, epoch.number)
            speeds.append(epoch.speed)
            bar.epoch_done(epoch.number, epoch.loss, metrics[config["objective"]])
            log.log(
                logging.DEBUG if bar.live else logging.INFO,
                f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, {run.watched} "
                f"{config['objective'].replace('_', ' ')} {metrics[config['objective']]:.4f}, "
                f"{epoch.speed:,.0f} images/s",
            )
            if epoch.number < epochs and (run.folder / "stop").exists():
                raise Pruned(f"stopped after epoch {epoch.number}, as the file stop asked")
    return float(np.median(speeds)) if speeds else None


def frame(run: Run, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """An animation's picture of now: some embeddings, and their classes' directions, which in an open
    set are no prototypes."""
    points = embeddings[:FRAME_POINTS].cpu()
    if run.config["evaluation"]["name"] == "closed_set":
        return points, run.head.prototypes.detach().cpu()
    labels = (run.data.test if run.watched == "test" else run.data.val).labels[:FRAME_POINTS]
    return points, torch.from_numpy(plots.class_means(points.numpy(), labels.cpu().numpy()))


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
    """What it takes to use the model, or to go on training, without anything else."""
    save_checkpoint(
        run.folder / "checkpoint.pt",
        epoch=epoch,
        config=run.config,
        versions=versions(),
        device=run.device.description,
        classes=run.data.classes,
        data=run.data.fingerprint,
        image_shape=run.data.image_shape,
        normalisation={"mean": run.data.train.mean, "std": run.data.train.std},
        frames=run.frames,
        random={
            "shuffling": run.shuffling.get_state(),
            "augmentation": run.augmentation.generator.get_state(),
        }
        | random_states(),
        **{part: getattr(run, part).state_dict() for part in STATEFUL},
    )


def restore(run: Run, saved: dict) -> None:
    """Put a run where its checkpoint was written, so that it goes on as if nothing had happened. Raises
    UserError if its images are others now."""
    if saved["data"] != run.data.fingerprint:
        raise UserError(
            f"{run.folder}: was begun with other images than dataset={run.config['dataset']['name']} "
            "has now; name a new folder"
        )
    for part in STATEFUL:
        getattr(run, part).load_state_dict(saved[part])
    run.shuffling.set_state(saved["random"]["shuffling"])
    run.augmentation.generator.set_state(saved["random"]["augmentation"])
    set_random_states(saved["random"])
    run.trained, run.frames = saved["epoch"], saved["frames"]
    keep_rows(run.folder / "metrics.csv", run.trained)


def show(run: Run, result: Evaluated, embeddings: Tensor, tracker: tracking.Tracker) -> None:
    """Embeddings to their file, pictures to `plots/`, and both to the tracker."""
    config, split = run.config, run.data.test
    x, y = embeddings.cpu().numpy(), split.labels.cpu().numpy()
    prototypes = run.head.prototypes.cpu().numpy()
    pictures.save_embeddings(run.folder / "embeddings.npz", x, split, prototypes)
    title = titled(config, run.head)
    figures = pictures.figures(result, x, split, prototypes, title)
    rows = read_rows(run.folder / "metrics.csv")
    figures["curves"] = plots.plot_curves(rows, config["objective"], title, run.watched)
    paths = [plots.save(made, run.folder / "plots" / f"{name}.png") for name, made in figures.items()]
    if len(run.frames) == config["epochs"]:
        frames = [(points.numpy(), ends.numpy()) for points, ends in run.frames]
        images = run.data.test if run.watched == "test" else run.data.val
        seen = images.labels[: len(frames[0][0])].cpu().numpy()
        path = run.folder / "plots" / "training.gif"
        paths.append(plots.animate(frames, seen, images.classes, path, title))
    points, _ = plots.to_dimensions(x, prototypes, 3)
    cloud = tracking.point_cloud(points, y, plots.class_colours(len(split.classes)))
    tracker.result({f"test/{key}": value for key, value in result.metrics.items()}, paths, cloud)


def titled(config: dict, head: Head) -> str:
    """`arcface on digits, margin 0.5, scale 64`, as they are at the end."""
    title = f"{config['loss']['name']} on {config['dataset']['name']}"
    if isinstance(head, MarginHead):
        margin = head.margin.tolist()
        parts = margin if isinstance(margin, list) else [margin]
        title += f", margin {', '.join(f'{part:.4g}' for part in parts)}"
    if head.has_scale:
        title += f", scale {head.scale.item():.4g}"
    return title


def task(composed: DictConfig) -> float:
    job = HydraConfig.get()
    folder, sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    try:
        group = tracking.sweep_group(Path(job.sweep.dir)) if sweep else None
        return train_run(to_dict(composed), folder, group)
    except UserError as error:
        if sweep:  # the other runs go on
            log.error(f"{folder.name}: {error}")
            raise
        sys.exit(str(error))
    except KeyboardInterrupt:
        if not sweep:
            print(f"interrupted; to go on: {continue_command('hydra.run.dir', folder)}", file=sys.stderr)
            sys.exit(130)
        raise


def compare_sweep(folder: Path) -> None:
    """The comparison at a sweep's end; whatever is wrong with it, the sweep is done."""
    from .compare import compare_sweeps  # its imports take a second, which only a sweep's end should pay

    try:
        compare_sweeps([folder], log_to_wandb=True)
    except UserError as error:
        print(f"no comparison: {error}", file=sys.stderr)
    except Exception:
        log.exception(f"no comparison; the runs are there, try python -m src.compare {folder}")


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's notice is as good as Ctrl-C
    sweeps.register(at_end=compare_sweep)
    run_task = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)
    if os.environ.get("HYDRA_FULL_ERROR"):  # a developer wants tracebacks
        return run_task()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print in its own words
    try:
        check_group_values(sys.argv[1:], CONF)
        run_task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    from src.train import main as importable  # workers look for the task in src.train, not in __main__

    importable()
