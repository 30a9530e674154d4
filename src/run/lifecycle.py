"""The life of a run: its folder claimed, an earlier attempt resumed, trained, evaluated, recorded."""

import logging
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from .. import tracking
from ..commands import command
from ..datasets import BrokenImage
from ..datasets.files import left_out, name_some
from ..errors import UserError, in_one_line
from ..evaluation import EVALUATIONS
from ..evaluation.embeddings import save_embeddings
from ..training import give_memory_back, load_checkpoint
from ..words import counted
from .advice import check_finite, remedies, warn_of_slow_bf16
from .artifacts import Scene, scene_of, show
from .best_epoch import LAST, check_chosen_on_validation, keeps_best, lacks_best, take_best
from .build import Run, build_run, warn_of_large_scale
from .epochs import NOT_METRICS, tracked, train
from .finished import files_in, pictures_in, refusal
from .folder import (
    claimed,
    holds_work,
    is_done,
    objective_of,
    os_errors_in_one_line,
    read_summary,
    recorded,
    set_attempt_aside,
    sync_hydra_files,
    versions,
    write_json,
)
from .identity import code_of, config_hash, same_sources
from .resume import restore
from .schema import check_config
from .sizes import counts_of, sizes_in_words, too_few, warn_of_few

log = logging.getLogger(__name__)
FEW_STEPS = 3  # an epoch of so few is mostly evaluation
# What says most about a run in one line.
HEADLINE_METRICS = ("map_at_r", "recall_at_1", "auc", "eer", "tar_at_far_1e-3", "ten_fold_accuracy")


def train_run(config: dict, folder: Path, group: str | None = None) -> float:
    """Train what a resolved configuration describes, leave everything in `folder`, and return the
    objective. A run that was cut short goes on after its last epoch; a finished one is left as it is.
    `group` is the sweep's in W&B. Raises UserError if the run cannot be trained, with `summary.json`
    saying how it ended. Once that says `finished`, only pictures and W&B are still to come."""
    identity, code = config_hash(config), code_of(config)
    with os_errors_in_one_line(), claimed(folder), ExitStack() as afterwards:
        # W&B ends last, in `afterwards`: nothing waits for its server.
        sync_hydra_files(folder)
        saved = earlier_attempt(folder, config, identity, code)
        if saved == "finished":
            return objective_of(read_summary(folder), config["objective"])
        for leftover in ("summary.json", "stop"):  # of an attempt that did not finish; its log stays
            (folder / leftover).unlink(missing_ok=True)
        summary = {"config_hash": identity, "code": code, "config": config, "versions": versions()}
        with recorded(folder, summary):
            try:
                scene, tracker = train_and_evaluate(config, folder, group, summary, saved, afterwards)
            except BrokenImage as error:  # of those that are read batch by batch
                raise UserError(str(error)) from None
            objective = objective_of(summary, config["objective"])
        give_memory_back()
        try:
            show_recorded(scene, tracker, summary)
        finally:
            afterwards.close()  # of a finished run, even if somebody interrupts the pictures
        return objective


def show_recorded(scene: Scene, tracker: tracking.Tracker, summary: dict) -> None:
    """The pictures of a run that is finished, whatever becomes of them."""
    folder = scene.folder
    try:
        try:
            show(scene, tracker)
        finally:
            files = [*summary["files"], *pictures_in(folder)]
            if files != summary["files"] and (folder / "summary.json").exists():
                write_json(folder / "summary.json", summary | {"files": files})
    except KeyboardInterrupt:
        log.warning(f"interrupted while it drew; to draw again: {command('evaluate', shown(folder))}")
        raise
    except (Exception, SystemExit) as error:  # a full disk, say
        why = in_one_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        log.warning(f"the run is finished, but not all of its pictures are there ({why})")
        log.debug("pictures", exc_info=True)


def earlier_attempt(
    folder: Path, config: dict, identity: str, code: dict
) -> dict | Literal["finished"] | None:
    """What an earlier attempt at this very run left in `folder`: a checkpoint to go on from, "finished",
    or nothing. Raises UserError if the folder holds another run, or this one finished by other code, on
    other images, or without some of its files."""
    another = UserError(f"{folder} holds another run, which would be overwritten; name a new folder")
    summary = read_summary(folder)
    if summary and summary.get("config_hash") not in (None, identity) and holds_work(folder):
        raise another
    if is_done(summary):
        why = refusal(folder, summary, config, code)
        if why:
            raise UserError(f"{folder} {why}")
        return "finished"
    if not (folder / LAST).exists():
        (folder / "metrics.csv").unlink(missing_ok=True)  # killed before the first checkpoint
        return None
    try:
        saved = load_checkpoint(folder / LAST)
        identity_there = config_hash(saved["config"])
        changed = [] if saved["versions"] == versions() else ["versions"]
        changed += [] if same_sources(saved["code"], code) else ["code"]
        _ = saved["data"], saved["rows"][saved["epoch"] - 1]
    except Exception as error:  # torn, foreign: whatever torch makes of it
        log.warning(f"the checkpoint cannot be read ({error}): starting again from the first epoch")
        set_attempt_aside(folder, "unreadable")
        return None
    if identity_there != identity:
        raise another
    if changed:
        what = " and ".join(changed)
        log.warning(f"the checkpoint was written by other {what}: starting again from the first epoch")
        set_attempt_aside(folder, str(saved["code"].get("sources")))
        return None
    if lacks_best(folder, saved):
        log.warning("the best epoch's model is gone: starting again from the first epoch")
        set_attempt_aside(folder, "without-best")
        return None
    return saved


def train_and_evaluate(
    config: dict,
    folder: Path,
    group: str | None,
    summary: dict,
    saved: dict | None,
    afterwards: ExitStack,
) -> tuple[Scene, tracking.Tracker]:
    """Everything between claiming a folder and writing `summary`, which is filled on the way; what is to
    be shown after that, and where. The tracker ends with `afterwards`."""
    # What a resumed run began with may be gone since.
    check_config(config | {"init": config["init"] | {"from": None}} if saved else config)
    if group is None:  # a sweep was asked before its first run, and an outage since costs no run
        tracking.check_online(config["logger"])
    run = build_run(config, folder, fetch=saved is None, precision=saved and saved["precision"])
    if saved and saved["data"] != run.data.fingerprint:
        log.warning("the images are others than at the start: starting again from the first epoch")
        set_attempt_aside(folder, "other-images")
        saved, run = None, build_run(config, folder)
    if saved:
        restore(run, saved)
        summary["resumed_after_epoch"] = run.epochs_trained
    check_chosen_on_validation(config, run.watched)
    summary |= computed_on(run)
    announce(run, summary["counts"])
    tracker = afterwards.enter_context(
        tracking.track(
            config["logger"],
            config=config | {"config_hash": summary["config_hash"]},
            folder=folder,
            group=group,
            tags=[config[key]["name"] for key in ("loss", "dataset", "model")],
            rows=[tracked(row, run.watched) for row in run.rows],
            resumed=saved is not None,
        )
    )
    if tracker.url:
        summary["wandb_url"] = tracker.url
    speed = train(run, tracker)
    run.take_average()
    summary["images_per_second"] = speed and round(speed)
    summary["epochs"] = {"trained": len(run.rows), "kept": kept_epoch(run)}
    scene = evaluate_and_write(run, summary, tracker)
    memory = run.device.memory()
    if memory:
        summary["gpu_memory"] = memory
    log.info(
        f"{config['loss']['name']}: {headline(config['evaluation']['name'], summary['metrics'])}"
        f"{f'; {speed:,.0f} images/s' if speed else ''} -> {shown(folder)}"
    )
    return scene, tracker


def shown(folder: Path) -> str:
    """A folder as it is typed here; whole where that says nothing, as it is in itself."""
    relative = os.path.relpath(folder)
    return str(folder) if relative == "." else relative


def kept_epoch(run: Run) -> int:
    """The epoch whose weights the run has now, and keeps."""
    trained, epochs, objective = len(run.rows), run.config["epochs"], run.config["objective"]
    if trained < epochs:
        log.info(
            f"stopped after epoch {trained} of {epochs}: {objective} has been no better for "
            f"{counted(run.config['early_stopping']['patience'], 'epoch')}"
        )
    if not keeps_best(run.config):
        return trained
    saved = take_best(run.folder, run.config)
    run.backbone.load_state_dict(saved["backbone"])
    run.head.load_state_dict(saved["head"])
    log.info(
        f"the model of epoch {saved['epoch']} is kept, the best by {objective} on the validation split"
    )
    return saved["epoch"]


def evaluate_and_write(run: Run, summary: dict, tracker: tracking.Tracker) -> Scene:
    """What the trained model does on the test split, into `summary`, the run's files, and W&B; what
    there is to draw of it."""
    result, embeddings = run.evaluate("test")
    check_finite(run, run.config["epochs"], "test", embeddings, result.metrics)
    summary["metrics"] = result.metrics
    collapsed = run.collapsed(result, embeddings)
    if collapsed:
        summary |= {"state": "collapsed", "collapse": collapsed}
        tracker.tag("collapsed")
        log.warning(f"collapsed: {collapsed}; {remedies(run)}")
    if run.watched == "validation":
        row = run.rows[summary["epochs"]["kept"] - 1]  # measured after that epoch
        summary["validation"] = {key: row[key] for key in row if key not in NOT_METRICS}
    if result.closed:
        recall = [None if math.isnan(share) else share for share in result.closed.recall.tolist()]
        summary["recall"] = dict(zip(run.data.classes, recall, strict=True))
    x, prototypes = embeddings.cpu().numpy(), run.head.prototypes.cpu().numpy()
    save_embeddings(run.folder / "embeddings.npz", x, run.data.test, prototypes)
    tracker.result({f"test/{key}": value for key, value in result.metrics.items()})
    summary["files"] = files_in(run.folder)
    return scene_of(run, result, x, prototypes)


def computed_on(run: Run) -> dict:
    """What a summary says of the device and of the images."""
    said = {
        "device": run.device.description,
        "threads": run.device.threads,
        "precision": run.device.precision,
        "data": run.data.fingerprint,
        "counts": counts_of(run),
        "classes": list(run.data.test.classes),
        "trained_classes": list(run.data.classes),
    }
    if run.data.dealt:
        said["dealt"] = run.data.dealt._asdict()
    if run.data.skipped:
        said["skipped"] = list(run.data.skipped)
    return said


def announce(run: Run, sizes: dict[str, dict[str, int]]) -> None:
    """Log what is about to be trained, and on what."""
    if run.epochs_trained:
        log.info(f"going on after epoch {run.epochs_trained}")
    for note in run.data.notes:
        log.info(note)
    log.info(sizes_in_words(run))
    dealt = run.data.dealt
    if dealt:
        log.info(f"fold {dealt.fold} of 0 to {dealt.folds - 1} is tested, dealt over {dealt.over}")
    warn_of_few(too_few(run, sizes))
    if run.head.has_scale:
        head, scale = run.head, run.head.scale.item()
        name = run.config["loss"]["name"]
        warn_of_large_scale(name, type(head), scale, head.num_classes, head.embedding_dim)
    warn_of_slow_bf16(run)
    if run.steps < FEW_STEPS:
        size = run.config["batch_size"]
        few = "1 step an epoch is" if run.steps == 1 else f"{run.steps} steps an epoch are"
        log.warning(f"{few} few: a batch_size below {size} takes more")
    if run.data.skipped:
        log.warning(f"{left_out(run.data.skipped)} left out: {name_some(run.data.skipped)}")


def headline(evaluation: str, metrics: dict[str, float]) -> str:
    """The metrics that say most, in a line, and by name those that the test data were too few for."""
    if evaluation == "closed_set":
        own, other = (math.degrees(metrics[f"{key}_angle_mean"]) for key in ("target", "other"))
        return (
            f"test accuracy {metrics['accuracy']:.4f}, worst class {metrics['worst_recall']:.2f}, angle "
            f"to own prototype {own:.1f}°, nearest other {other:.1f}°"
        )
    values = [f"{key} {metrics[key]:.4f}" for key in HEADLINE_METRICS if key in metrics]
    missing = [name for name in EVALUATIONS[evaluation] if name not in metrics]
    return f"test {', '.join(values)}" + (
        f" (too few pairs or folds for {', '.join(missing)})" if missing else ""
    )
