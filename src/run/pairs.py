"""Which pairs of images verification looks at, and whether images can be evaluated as asked."""

import functools

import numpy as np
import torch
from torch import Tensor

from ..config import BadKey, Config
from ..datasets import Split
from ..errors import UserError
from ..evaluation import Search, metrics_of, sample_pairs, supported_metrics
from ..evaluation.retrieval import relevant_samples
from ..evaluation.verification import FARS, FOLDS, LOWER_FARS

VERIFICATION = metrics_of("verification")


def evaluation_pairs(
    config: Config, splits: dict[str, Split | None], trained_on: tuple[str, ...]
) -> dict[str, tuple[Tensor, ...]]:
    """The pairs that verification looks at on each split, by name; none in a closed set. `trained_on`
    are classes of the same data set. Raises UserError if the images cannot be evaluated as asked, or do
    not support the objective."""
    name, pairs = config.evaluation.protocol, {}
    for split, images in splits.items():
        if images is None:
            continue
        check_tested_classes(config, images, trained_on)
        if name != "closed_set":
            pairs[split] = pairs_of(config, images)
            check_kinds(config, split, pairs[split])
        if name == "open_set":
            check_search(config, split, images)
    return pairs


def search_of(config: Config, images: Split, left_out: bool = False) -> Search:
    """Return the search of an open set's images, measured also without groups of classes if asked."""
    asked = config.evaluation
    return Search(images.queries, tuple(asked.ranks), asked.map_at, left_out)


def templates_of(images: Split, embeddings: Tensor) -> Tensor:
    """Return what pairs compare: embeddings (N, D), or those (T, D) of the images' templates."""
    if images.templates is None:
        return embeddings
    return torch.from_numpy(images.templates.mean(embeddings.cpu().numpy())).to(embeddings)


def check_search(config: Config, split: str, images: Split) -> None:
    """Raise UserError unless some query's class is in the gallery."""
    if images.queries is None:
        return
    where = f"the {split} images of dataset={config.name('dataset')}"
    try:
        search = search_of(config, images)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if not relevant_samples(images.labels.cpu(), search)[search.rows("query")].any():
        camera = ", by another camera" if search.cameras is not None else ""
        what = "an image of its class" if search.relevant is None else "a relevant image"
        raise UserError(f"{where}: no query has {what} in the gallery{camera}")


def check_tested_classes(config: Config, images: Split, trained_on: tuple[str, ...]) -> None:
    """A closed set tests classes that were trained on, an open set others."""
    name, source = config.evaluation.protocol, config.name("dataset")
    if name == "closed_set":
        new = sorted(set(images.classes) - set(trained_on))
        if new:
            raise UserError(
                f"evaluation=closed_set: class {new[0]} of dataset={source} was not trained on: use "
                "evaluation=open_set"
            )
        return
    trained = sorted(set(images.classes) & set(trained_on))
    if trained:
        raise UserError(
            f"evaluation={name}: class {trained[0]} of dataset={source} is in the training set, but "
            f"{name} tests unseen classes: use evaluation=closed_set, or other classes"
        )
    if images.pairs is not None and name == "open_set":
        raise UserError(f"evaluation=open_set: dataset={source} is pairs, use evaluation=verification")


def pairs_of(config: Config, images: Split) -> tuple[Tensor, ...]:
    """The pairs that a data set lists, or as many as `evaluation.pairs` says, drawn at random."""
    if images.pairs:
        return tuple(torch.from_numpy(np.asarray(part)) for part in images.pairs)
    try:
        count = config.evaluation.pairs
        if count is None:  # all of them can be very many, too many to keep
            return sample_pairs(images.labels, None)
        return _drawn(images.labels.cpu().numpy().tobytes(), count)
    except ValueError as error:
        raise BadKey("evaluation.pairs", None, f"{error}; give a number, as in 1000000") from None


@functools.lru_cache(maxsize=2)  # validation and test, the same in all runs of a sweep's worker
def _drawn(labels: bytes, count: int) -> tuple[Tensor, ...]:
    return sample_pairs(torch.from_numpy(np.frombuffer(labels, np.int64).copy()), count)


def check_kinds(config: Config, split: str, pairs: tuple[Tensor, ...]) -> None:
    """There are pairs of the same class and of different ones, enough of them for the objective."""
    _, _, same, fold = pairs
    if same.all() or not same.any():
        kinds = "different classes" if same.all() else "one class"
        raise UserError(
            f"evaluation={config.evaluation.protocol}: the {split} images of "
            f"dataset={config.name('dataset')} hold no two of {kinds}"
        )
    measurable = supported_metrics(same, fold, (*FARS, *LOWER_FARS))
    folds = len(fold[fold >= 0].unique())
    if config.objective == "ten_fold_accuracy" and folds != FOLDS:
        raise UserError(
            f"objective=ten_fold_accuracy: the pairs of the {split} images are in {folds} folds, not in "
            f"{FOLDS}; use one of {', '.join(measurable)}"
        )
    if config.objective in set(VERIFICATION) - set(measurable):
        raise UserError(
            f"objective={config.objective}: the {split} images hold {int((~same).sum())} pairs "
            f"of different classes, too few; use one of {', '.join(measurable)}"
        )
