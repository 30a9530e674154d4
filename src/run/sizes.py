"""How many images there are to learn from, to choose by and to report on, and whether they are few."""

import functools
import logging

from ..evaluation import METRICS, counts
from ..words import counted
from .build import Run

FEW_CLASSES, FEW_IMAGES = 10, 100  # of which a metric is soon the same for every setting
HANDFUL = 30  # test images; of fewer, each moves a share by more than three points

log = logging.getLogger(__name__)


def sizes_in_words(run: Run) -> str:
    """How many images there are to train, validate and test on, and how large embeddings are."""
    parts = {"training": run.data.train, "validation": run.data.val, "test": run.data.test}
    noun = "image" if run.data.pictures else "sample"
    sizes = [
        f"{name} on {counted(len(split), noun)} of {counted(len(split.classes), 'class')}"
        for name, split in parts.items()
        if split is not None
    ]
    dimensions = f"embeddings of {run.head.embedding_dim} dimensions"
    return f"{', '.join(sizes)}; {counted(run.steps, 'step')} an epoch; {dimensions}"


def counts_of(run: Run) -> dict[str, dict[str, int]]:
    """What `summary.json` says of the sizes of the training, validation and test splits."""
    data = run.data
    measured = {"validation": data.val, "test": data.test}
    return {"training": counts(data.train.labels)} | {
        name: counts(split.labels, run.pairs.get(name))
        for name, split in measured.items()
        if split is not None
    }


def too_few(run: Run, sizes: dict[str, dict[str, int]]) -> str | None:
    """In one line, which of the `sizes` (see `counts_of`) are too small for settings to be told apart;
    None if all are large enough."""
    objective = METRICS[run.config["objective"]]
    watched, new_classes = sizes[run.watched], run.config["evaluation"]["name"] == "open_set"
    parts = []
    if watched["images"] < FEW_IMAGES or (new_classes and watched["classes"] < FEW_CLASSES):
        step = objective.resolution(watched)
        one = (
            f", where one {objective.counted_noun} is {objective.format(step, True)[1:]}" if step else ""
        )
        folds = "" if run.data.dealt else ", dataset.folds=5 tests each in turn"
        parts.append(
            f"few {run.watched} images to choose settings by, {in_words(watched)}{one}: a larger "
            f"dataset.val_fraction holds out more{folds}"
        )
    if sizes["test"]["images"] < HANDFUL:
        parts.append(f"the test split is a handful of images, {in_words(sizes['test'])}")
    return "; ".join(parts) or None


def in_words(sizes: dict[str, int]) -> str:
    return f"{counted(sizes['images'], 'image')} of {counted(sizes['classes'], 'class')}"


@functools.cache  # once for all runs of a sweep
def warn_of_few(what: str | None) -> None:
    if what:
        log.warning(what)
