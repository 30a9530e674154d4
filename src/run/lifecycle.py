"""The life of a run: its folder claimed, an earlier attempt resumed, trained, evaluated, recorded."""

import logging
import math
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from .. import tracking
from ..commands import command, started_with_others
from ..config import Config, identity
from ..datasets import BrokenImage
from ..datasets.files import left_out, name_some
from ..errors import UserError, in_one_line, os_errors_in_one_line
from ..evaluation import metrics_of
from ..evaluation.geometry import GEOMETRY_METRICS
from ..evaluation.results import Results
from ..losses import ModuleLoss
from ..training import give_memory_back, load_checkpoint
from ..words import counted, first_line
from .advice import (
    check_finite,
    counts_of,
    sizes_in_words,
    too_few,
    warn_of_few,
    warn_of_slow_bf16,
)
from .build import Run, build_run, check_config, warn_of_few_dimensions, warn_of_scale
from .causes import causes, changed, gentler, in_words, smaller_batch
from .code import code_of
from .epochs import (
    NOT_METRICS,
    check_chosen_on_validation,
    train,
)
from .figures import draw_wanted, save_frames
from .folder import LAST, RunFolder
from .lock import claimed
from .outcome import recorded
from .resume import keeps_best, lacks_best, restore, restore_files, take_best
from .start import with_start
from .summary import Epochs, Summary, versions
from .upload import shown_of, tracked_run

log = logging.getLogger(__name__)
# What says most about a run in one line.
HEADLINE_METRICS = ("map_at_r", "recall_at_1", "auc", "eer", "tar_at_far_1e-3", "ten_fold_accuracy")


def train_run(config: Config, path: Path, group: str | None = None) -> float:
    """Train what a configuration describes, leave everything in the folder `path`, and return the
    objective. A run that was cut short goes on after its last epoch; a finished one is left as it is.
    `group` is the sweep's in W&B. Raises UserError if the run cannot be trained, with summary.json
    saying how it ended. Once that says finished, only figures and W&B are still to come."""
    folder = RunFolder(path)
    with os_errors_in_one_line(), claimed(path), ExitStack() as afterwards:
        # W&B ends last, in `afterwards`: nothing waits for its server.
        config = with_start(config, folder)
        summary = Summary.of(config, code_of(config))
        saved = earlier_attempt(folder, summary)
        if saved == "finished":
            found = folder.read_summary()
            if folder.undrawn(found):  # the process ended while it drew
                log.info(f"{shown(folder.path)}: finished already; its figures are drawn now")
                show(folder, tracking.Tracker())
            elif started_with_others():
                log.info(f"{shown(folder.path)}: finished already")
            return found.objective(config.objective)
        folder.begin(summary)
        with recorded(folder, summary):
            try:
                tracker = train_and_evaluate(folder, group, summary, saved, afterwards)
            except BrokenImage as error:  # of those that are read batch by batch
                raise UserError(str(error)) from None
            objective = summary.objective(config.objective)
        give_memory_back()
        try:
            show(folder, tracker)
        finally:
            afterwards.close()  # of a finished run, even if somebody interrupts the figures
        return objective


def show(folder: RunFolder, tracker: tracking.Tracker) -> None:
    """Draw the figures of a run that is finished, and send them to the tracker; the run is finished
    whatever becomes of them."""
    again = command("draw", shown(folder.path))
    try:
        figures = draw_wanted(folder)
        tracker.show(lambda: shown_of(folder, figures))
    except KeyboardInterrupt:
        log.warning(f"interrupted while it drew; to draw again: {again}")
        raise
    except (Exception, SystemExit) as error:  # a full disk, say
        why = in_one_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        log.warning(f"the run is finished, but some figures could not be drawn ({why}): {again}")
        log.debug("figures", exc_info=True)


def earlier_attempt(folder: RunFolder, now: Summary) -> dict | Literal["finished"] | None:
    """Return what an earlier attempt at this very run left: a checkpoint to resume from, "finished", or
    nothing. Raises UserError as `RunFolder.finished` does."""
    if folder.finished(now.config, now.code):
        return "finished"
    if not (folder.path / LAST).exists():
        (folder.path / "metrics.csv").unlink(missing_ok=True)  # killed before the first checkpoint
        return None
    try:
        saved = load_checkpoint(folder.path / LAST)
        config = Config.model_validate(saved["config"])
        changed = [] if saved["versions"] == versions() else ["versions"]
        changed += [] if saved["code"]["sources"] == now.code.sources else ["code"]
        _ = saved["data"], saved["rows"][saved["epoch"] - 1]
    except Exception as error:  # torn, foreign: whatever torch makes of it
        why = first_line(error)
        log.warning(f"the checkpoint cannot be read ({why}): starting again from the first epoch")
        folder.set_attempt_aside("unreadable")
        return None
    if identity(config) != now.identity:
        raise UserError(f"{folder.path}: {folder.holds_another(now.config)}")
    if changed:
        what = " and ".join(changed)
        log.warning(f"the checkpoint was written by other {what}: starting again from the first epoch")
        folder.set_attempt_aside(str(saved["code"]["sources"]))
        return None
    if lacks_best(folder, config, saved):
        log.warning("the best epoch's model is gone: starting again from the first epoch")
        folder.set_attempt_aside("without-best")
        return None
    return saved


def train_and_evaluate(
    folder: RunFolder,
    group: str | None,
    summary: Summary,
    saved: dict | None,
    afterwards: ExitStack,
) -> tracking.Tracker:
    """Everything between claiming a folder and writing `summary`, which is filled on the way; return
    the tracker, which ends with `afterwards`."""
    config = summary.config
    # What a resumed run began with may be gone since.
    checked = check_config(config.replace(init={"source": None}) if saved else config)
    config = checked.replace(init=config.init, start=config.start)
    if group is None:  # a sweep was asked before its first run, and an outage since costs no run
        tracking.check_online(config.logger)
    run = build_run(config, folder, fetch=saved is None, precision=saved and saved["precision"])
    if saved and saved["data"] != run.data.fingerprint:
        log.warning(
            "the images have changed since this run started: starting again from the first epoch"
        )
        folder.set_attempt_aside("other-images")
        saved, run = None, build_run(config, folder)
    if saved:
        restore(run, saved)
        restore_files(run)
        summary.resumed_after_epoch = run.epochs_trained
    check_chosen_on_validation(config, run.watched)
    record_data_and_device(run, summary)
    announce(run, summary)
    tracker = afterwards.enter_context(
        tracked_run(
            config,
            summary.identity,
            folder,
            run.watched,
            run.rows,
            group,
            resumed=saved is not None,
        )
    )
    summary.wandb_url = tracker.url or None
    speed = train(run, tracker)
    run.take_average()
    summary.images_per_second = speed and round(speed)
    summary.epochs = Epochs(trained=len(run.rows), kept=kept_epoch(run))
    evaluate_and_write(run, summary, tracker)
    summary.gpu_memory = run.device.memory() or None
    log.info(
        f"{config.name('loss')}: {headline(config, summary.metrics)}"
        f"{f'; {speed:,.0f} images/s' if speed else ''} -> {shown(folder.path)}"
    )
    if group is None:  # a sweep's answer says it of all runs
        say_next_step(run, summary)
    return tracker


def say_next_step(run: Run, summary: Summary) -> None:
    """Log the most useful thing to try next, if there is one, with the command."""
    found = causes(run.config, run.rows, summary.counts, summary.collapse, run.config.objective)
    for cause in found[:1]:
        again = command("train", *changed(sys.argv[1:], cause.changes))
        log.info(f"next, since {cause.because}: {again}")


def shown(folder: Path) -> str:
    """A folder as it is typed here; whole where that says nothing, as it is in itself."""
    relative = os.path.relpath(folder)
    return str(folder) if relative == "." else relative


def kept_epoch(run: Run) -> int:
    """The epoch whose weights the run has now, and keeps."""
    trained, epochs, objective = len(run.rows), run.config.epochs, run.config.objective
    if trained < epochs:
        log.info(
            f"stopped after epoch {trained} of {epochs}: {objective} has not improved for "
            f"{counted(run.config.early_stopping.patience, 'epoch')}"
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


def evaluate_and_write(run: Run, summary: Summary, tracker: tracking.Tracker) -> None:
    """Evaluate the trained model on the test split, and record it in `summary`, the run's files and
    W&B."""
    result, embeddings = run.evaluate("test", left_out=True)
    check_finite(run, run.config.epochs, "test", embeddings, result.metrics)
    summary.metrics = result.metrics
    collapsed = run.collapsed(result, embeddings)
    if collapsed:
        summary.state, summary.collapse = "collapsed", collapsed
        tracker.tag("collapsed")
        log.warning(f"collapsed: {collapsed}; try {in_words(gentler(run.config))}")
    if run.watched == "validation":
        row = run.rows[summary.epochs.kept - 1]  # measured after that epoch
        summary.validation = {key: row[key] for key in row if key not in NOT_METRICS}
    if result.closed:
        recall = [None if math.isnan(share) else share for share in result.closed.recall.tolist()]
        summary.recall = dict(zip(run.data.classes, recall, strict=True))
    found = Results.of(result, embeddings.cpu().numpy(), run.data.test, run.head)
    found.save(run.folder.path / "embeddings.npz")
    save_frames(run)
    tracker.result({f"test/{key}": value for key, value in result.metrics.items()})
    summary.files = run.folder.files()


def record_data_and_device(run: Run, summary: Summary) -> None:
    summary.device, summary.threads = run.device.description, run.device.threads
    summary.precision = run.device.precision
    summary.data, summary.counts = run.data.fingerprint, counts_of(run)
    summary.classes, summary.trained_classes = list(run.data.test.classes), list(run.data.classes)
    if run.data.dealt:
        summary.dealt = run.data.dealt._asdict()
    if run.data.skipped:
        summary.skipped = list(run.data.skipped)
    if run.data.duplicates:
        summary.duplicates = list(run.data.duplicates)


def announce(run: Run, summary: Summary) -> None:
    """Log what is about to be trained, and on what."""
    if run.epochs_trained:
        log.info(f"resuming after epoch {run.epochs_trained}")
    for note in run.data.notes:
        log.info(note)
    log.info(sizes_in_words(run, summary.counts))
    for line in run.data.duplicates:
        log.warning(line)
    if run.data.duplicates:
        log.warning("dataset.duplicates=drop leaves copies and images with two labels out")
    dealt = run.data.dealt
    if dealt:
        log.info(f"fold {dealt.fold} of 0 to {dealt.folds - 1} is tested, dealt over {dealt.over}")
    warn_of_few(too_few(run, summary.counts))
    if run.head.has_scale:
        head, scale = run.head, run.head.scale.item()
        name = run.config.name("loss")
        warn_of_scale(name, type(head), scale, head.num_classes, head.embedding_dim)
    warn_of_few_dimensions(run.head.num_classes, run.head.embedding_dim)
    warn_of_lone_samples(run)
    if getattr(run.head, "sample_rate", 1) < 1:
        share = f"{run.head.sample_rate:.3g} of all classes"
        log.info(f"each step compares with its own classes and others, {share}: an approximation")
    warn_of_slow_bf16(run)
    smaller = smaller_batch(run.config, summary.counts["training"]["images"])
    if smaller:
        steps = counted(run.steps, "step")
        log.warning(f"an epoch has only {steps}; try batch_size={smaller}")
    if run.data.skipped:
        log.warning(f"{left_out(run.data.skipped)} left out: {name_some(run.data.skipped)}")


def warn_of_lone_samples(run: Run) -> None:
    """Warn where a loss from elsewhere, which may compare samples, seldom has two of a class."""
    config, classes = run.config, run.head.num_classes
    if (
        isinstance(run.head, ModuleLoss)
        and config.sampler.kind != "classes"
        and config.batch_size < classes
    ):
        log.warning(
            f"most batches of {config.batch_size} have one sample of a class, of {classes}: a loss that "
            "compares samples needs sampler.kind=classes sampler.samples_per_class=4"
        )


def headline(config: Config, metrics: dict[str, float]) -> str:
    """The metrics that say most, in a line, and by name those that the test data were too few for."""
    evaluation = config.evaluation
    if evaluation.protocol == "closed_set":
        own, other = (math.degrees(metrics[f"{key}_angle_mean"]) for key in ("target", "other"))
        return (
            f"test accuracy {metrics['accuracy']:.4f}, worst class {metrics['worst_recall']:.2f}, angle "
            f"to own prototype {own:.1f}°, nearest other {other:.1f}°"
        )
    values = [f"{key} {metrics[key]:.4f}" for key in HEADLINE_METRICS if key in metrics]
    known = metrics_of(evaluation.protocol, evaluation.ranks, evaluation.map_at)
    missing = [name for name in known if name not in {*metrics, *GEOMETRY_METRICS}]
    return f"test {', '.join(values)}" + (
        f" (too few pairs or folds for {', '.join(missing)})" if missing else ""
    )
