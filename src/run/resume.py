"""A run's checkpoints: written after every epoch, and read back to go on as if nothing had happened.

While a run trains, checkpoint.pt is that of its last epoch. With checkpoint.keep=best or both, best.pt
is the same of its best epoch so far, by the objective on the validation split, and at the end its
weights are what is evaluated, drawn, embedded and exported. `best` then lets it take the place of
checkpoint.pt; `both` leaves both.
"""

import logging
import os

from ..config import Config
from ..evaluation import metric_named
from ..training import load_checkpoint, load_optimizer, random_states, save_checkpoint, set_random_states
from .build import Run
from .code import code_of
from .folder import BEST, LAST, RunFolder
from .summary import versions

log = logging.getLogger(__name__)
# Parts of a Run that a checkpoint holds: the model, and what trains it.
MODEL, STATEFUL = ("backbone", "head"), ("optimizer", "schedule")


def save_run(run: Run, epoch: int, name: str) -> None:
    """Write what it takes to use the model, or to go on training, without anything else; metrics.csv
    can be made again from it."""
    save_checkpoint(
        run.folder.path / name,
        epoch=epoch,
        config=run.config.plain(),
        code=code_of(run.config).model_dump(),
        versions=versions(),
        device=run.device.description,
        precision=run.device.precision,
        classes=run.data.classes,
        data=run.data.fingerprint,
        image_shape=run.data.image_shape,
        pictures=run.data.pictures,
        normalisation={"mean": run.data.train.mean, "std": run.data.train.std},
        frames=run.frames,
        rows=run.rows,
        random={
            "shuffling": run.shuffling.get_state(),
            "augmentation": run.augmentation.generator.get_state(),
        }
        | random_states(),
        **{part: getattr(run, part).state_dict() for part in STATEFUL},
        **{part: module.state_dict() for part, module in zip(MODEL, run.model, strict=True)},
        **weights_in_training(run),
    )


def weights_in_training(run: Run) -> dict:
    """Return the state dicts of the weights in training, if the model that is kept is their average."""
    if not run.average:
        return {}
    return {"trained": {part: getattr(run, part).state_dict() for part in MODEL}}


def restore(run: Run, saved: dict) -> None:
    """Put a run where its checkpoint was written."""
    if saved["device"] != run.device.description:
        log.warning(
            f"started on {saved['device']}, now on {run.device.description}: last digits will differ"
        )
    load_optimizer(run.optimizer, saved["optimizer"])
    run.schedule.load_state_dict(saved["schedule"])
    trained = saved["trained"] if run.average else saved
    for part in MODEL:
        getattr(run, part).load_state_dict(trained[part])
    if run.average:
        run.average.load(saved["backbone"], saved["head"])
    run.shuffling.set_state(saved["random"]["shuffling"])
    changing, state = run.augmentation.generator, saved["random"]["augmentation"]
    if len(state) == len(changing.get_state()):
        changing.set_state(state)
    else:  # of another kind of device: other changes than those of the epochs before
        changing.manual_seed(hash((run.config.seed, saved["epoch"])) % 2**63)
    set_random_states(saved["random"])
    run.epochs_trained, run.frames, run.rows = (saved[key] for key in ("epoch", "frames", "rows"))


def restore_files(run: Run) -> None:
    """Make the files of a run that was put back those of its last epoch."""
    run.folder.restore_rows(run.rows)
    if keeps_best(run.config) and best_epoch(run.config, run.rows) == run.epochs_trained:
        save_run(run, run.epochs_trained, BEST)  # a kill can have come before it


def keeps_best(config: Config) -> bool:
    return config.checkpoint.keep != "last"


def best_epoch(config: Config, rows: list[dict]) -> int:
    """The number, from 1, of the epoch with the best objective; the first of several."""
    sign = metric_named(config.objective).sign
    values = [sign * row[config.objective] for row in rows]
    return values.index(max(values)) + 1


def lacks_best(folder: RunFolder, config: Config, saved: dict) -> bool:
    """Whether a checkpoint's run has had its best epoch, and that epoch's model is gone."""
    best = best_epoch(config, saved["rows"])
    if not keeps_best(config) or best == saved["epoch"]:  # then it is written again
        return False
    try:
        return load_checkpoint(folder.path / BEST)["epoch"] != best
    except (OSError, ValueError, KeyError):
        return True


def take_best(folder: RunFolder, config: Config) -> dict:
    """The checkpoint of the best epoch, which takes the last one's place unless both are kept."""
    saved = load_checkpoint(folder.path / BEST)
    if config.checkpoint.keep == "best":
        os.replace(folder.path / BEST, folder.path / LAST)
    return saved
