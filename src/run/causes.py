"""Why a run may be worse than it could be, and what to change: said after a run, and by a comparison."""

from typing import NamedTuple

import numpy as np

from ..config import Config
from ..config.classes import locate
from ..evaluation import metric_named
from ..words import counted
from .data import steps_in

FEWEST_STEPS = 20  # an epoch of fewer hardly trains
FEWEST_IN_A_BATCH = 16  # of 8, 40 letters with 10 images each were 5 points worse than of 16 to 64
FEWEST_EPOCHS = 4  # a curve of fewer has no end to look at
STILL = 0.1  # of the whole change, in the last fifth of the epochs: half of what a straight line does
LONGER = 3  # times the epochs


class Cause(NamedTuple):
    """Its name, what was seen, and the overrides that mend it."""

    name: str
    because: str
    changes: dict[str, str]


def causes(
    config: Config,
    rows: list[dict[str, str]],
    counts: dict[str, dict[str, int]],
    collapse: str | None,
    metric: str,
) -> list[Cause]:
    """What is wrong with a finished run, the most urgent first: `rows` are those of its metrics.csv,
    `counts` the sizes of its splits, `collapse` says why it collapsed."""
    found = []
    if collapse:
        found.append(Cause("collapsed", collapse, gentler(config)))
    elif still := still_improving(rows, metric):
        epochs = LONGER * config.epochs
        found.append(Cause("still_improving", f"{still} at the end", {"epochs": f"{epochs}"}))
    images = counts.get("training", {}).get("images")
    if images and (size := smaller_batch(config, images)):
        because = f"an epoch has {counted(steps_in(config, images), 'step')}"
        found.append(Cause("few_steps", because, {"batch_size": f"{size}"}))
    return found


def gentler(config: Config) -> dict[str, str]:
    """What usually helps a run that collapsed: the scale that AdaCos computes from the number of
    classes, or where the scale is not to blame a smaller learning rate."""
    if has_fixed_scale(config):
        return {"scale": "adacos"}
    return {"optimizer.lr": f"{config.optimizer.lr / 10:g}"}


def in_words(changes: dict[str, str]) -> str:
    """`scale=adacos`: changes as they are typed."""
    return " ".join(f"{key}={value}" for key, value in changes.items())


def has_fixed_scale(config: Config) -> bool:
    """Whether the loss is a softmax with a scale that somebody chose, which AdaCos could choose."""
    try:
        head = locate("loss", config.loss.target)
    except Exception:  # somebody's class, which is not here
        return False
    return (
        getattr(head, "has_scale", False)
        and getattr(head, "softmax_type", False)
        and config.scale.kind == "fixed"
    )


def smaller_batch(config: Config, images: int) -> int | None:
    """A batch size with which an epoch of so many training images has enough steps, or nearly; None if
    it has already."""
    size = config.batch_size
    while (
        steps_in(config.replace(batch_size=size), images) < FEWEST_STEPS
        and size >= 2 * FEWEST_IN_A_BATCH
    ):
        size //= 2
    return size if size < config.batch_size else None


def still_improving(rows: list[dict[str, str]], metric: str) -> str | None:
    """What was still changing in the last fifth of a run's epochs: its training loss fell, or its metric
    improved, by more than a tenth of the whole way since the first epochs."""
    try:
        loss = np.array([float(row["loss"]) for row in rows])
        values = np.array([float(row[metric]) for row in rows])
    except (ValueError, KeyError, TypeError):  # damaged
        return None
    if len(rows) < FEWEST_EPOCHS:
        return None
    if share_at_the_end(-loss) > STILL:
        return "its training loss was still falling"
    if share_at_the_end(values if metric_named(metric).higher_is_better else -values) > STILL:
        return f"its {metric_named(metric).label} was still improving"
    return None


def share_at_the_end(values: np.ndarray) -> float:
    """Of rising values (epochs,), how much of the whole rise is between the last two fifths; each is the
    mean over its epochs, since single ones are noisy."""
    block = max(1, len(values) // 5)
    first, before, last = values[:block], values[-2 * block : -block], values[-block:]
    whole = float(last.mean() - first.mean())
    return float(last.mean() - before.mean()) / whole if whole > 0 else 0.0


def changed(overrides: list[str], changes: dict[str, str]) -> list[str]:
    """Overrides with others in the place of what they contradict: a key that is given anew, the keys of
    a group whose choice is, and the folder of the run that there was."""
    gone = (*(f"{key}." for key in changes), "hydra.run.dir=")
    kept = [
        each
        for each in overrides
        if each.lstrip("+").partition("=")[0] not in changes and not each.lstrip("+").startswith(gone)
    ]
    return [*kept, *(f"{key}={value}" for key, value in changes.items())]
