"""Tell the user how large a run's data are, and what goes wrong or slowly."""

import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from ..errors import Diverged
from ..evaluation import counts, metric_named
from ..training import bf16_cost
from ..words import counted
from .build import Run
from .command_line import continue_command
from .folder import RunFolder
from .pairs import search_of

log = logging.getLogger(__name__)
FEW_CLASSES, FEW_IMAGES = 10, 100  # of which a metric is soon the same for every setting
HANDFUL = 30  # test images; of fewer, each moves a share by more than three points


def check_finite(run: Run, epoch: int, split: str, embeddings: Tensor, metrics: dict) -> None:
    """Raise Diverged unless embeddings (N, D), and the metric that the run is judged by, are finite
    numbers. Non-finite metrics were dropped earlier, so a missing objective was not finite."""
    objective = run.config.objective
    if not torch.isfinite(embeddings).all():
        what = f"embeddings of {split} images are not finite numbers"
    elif objective not in metrics:
        what = f"{split} {objective} is not a finite number"
    else:
        return
    raise Diverged(f"after epoch {epoch}, {what}: {likely_causes(run)}")


def likely_causes(run: Run) -> str:
    """Why a loss stops being finite: what is usually to blame, with this run's values."""
    head = run.head
    rates = [group.get("max_lr", group["initial_lr"]) for group in run.optimizer.param_groups[-2:]]
    causes = ["a learning rate too large (at most {:g}, class weights {:g})".format(*rates)]
    if head.has_scale:
        smaller = "scale=adacos" if head.softmax_type else "scale.value=8"
        causes.append(
            f"a scale too large for C and D ({head.num_classes} classes in {head.embedding_dim} "
            f"dimensions; try {smaller})"
        )
    if run.device.amp:
        causes.append("device.precision=bf16")
    return "usual causes are " + ", ".join(causes)


def after_interrupt(folder: Path, typed_in: str | Path) -> str:
    """What to say after Ctrl-C."""
    if RunFolder(folder).done:
        return "the run is finished"
    return f"to resume: {continue_command('hydra.run.dir', folder, typed_in)}"


def warn_of_slow_bf16(run: Run) -> None:
    """bf16 was asked of a processor that is slower with it."""
    if run.config.device.precision == "bf16" and run.device.torch.type == "cpu":
        cost = bf16_cost()
        if cost > 1:
            log.warning(
                f"device.precision=bf16: a convolution takes {cost:.1f} times as long as in fp32 on "
                "this processor, tried just now; auto takes the faster"
            )


def sizes_in_words(run: Run, sizes: dict[str, dict[str, int]]) -> str:
    """Return the sizes of the splits (see `counts_of`) and the embedding dimension, in words."""
    noun = "image" if run.data.pictures else "sample"
    parts = [
        f"{split} on {counted(of['images'], noun)} of {counted(of['classes'], 'class')}"
        for split, of in sizes.items()
    ]
    dimensions = f"embeddings of {run.head.embedding_dim} dimensions"
    return f"{', '.join(parts)}; {counted(run.steps, 'step')} an epoch; {dimensions}"


def counts_of(run: Run) -> dict[str, dict[str, int]]:
    """Return the sizes of the training, validation and test splits for `summary.json`."""
    data = run.data
    measured = {"validation": data.val, "test": data.test}
    return {"training": counts(data.train.labels)} | {
        name: counts(split.labels, run.pairs.get(name), search_of(run.config, split))
        for name, split in measured.items()
        if split is not None
    }


def too_few(run: Run, sizes: dict[str, dict[str, int]]) -> str | None:
    """In one line, which of the `sizes` (see `counts_of`) are too small for settings to be told apart;
    None if all are large enough."""
    objective = metric_named(run.config.objective)
    watched, new_classes = sizes[run.watched], run.config.evaluation.protocol == "open_set"
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
        parts.append(f"the test split has only {in_words(sizes['test'])}")
    return "; ".join(parts) or None


def in_words(sizes: dict[str, int]) -> str:
    return f"{counted(sizes['images'], 'image')} of {counted(sizes['classes'], 'class')}"


@functools.cache  # once for all runs of a sweep
def warn_of_few(what: str | None) -> None:
    if what:
        log.warning(what)
