"""The data set of a configuration, and the batches of an epoch of it."""

import logging
from collections.abc import Callable

from torch import Tensor

from ..config import BadKey, Config
from ..config.classes import target_of
from ..config.identity import is_published
from ..datasets import Dataset, fingerprint_of, load
from ..errors import UserError
from ..training import Device, Order, balanced, classes_in_batches, shortened, shuffled
from ..words import counted
from .arguments import arguments_of

log = logging.getLogger(__name__)


def build_data(config: Config, device: Device) -> Dataset:
    """Build the data set of a configuration. Raises UserError if there is nothing to train on."""
    data = read_data(config, device)
    if data.train is None:
        known = config.dataset.arguments
        hints = {"test_fraction": "test_fraction=0.2", "train": "train=<folder>"}
        hint = next((f"give dataset.{hint}" for option, hint in hints.items() if option in known), None)
        hint = hint or "evaluate a trained run on it"
        raise UserError(f"dataset={config.name('dataset')}: has nothing to train on, {hint}")
    return data


def read_data(config: Config, device: Device) -> Dataset:
    dataset, where = config.dataset, device.torch
    return call_reader(load, config, device=where, memory=dataset.memory, duplicates=dataset.duplicates)


def call_reader(what: Callable, config: Config, **more):
    """Call `load` or `fingerprint_of` for the data set of a configuration."""
    dataset = config.dataset
    with arguments_of("dataset", config):
        return what(
            target_of(config, "dataset"),
            dataset.root,
            val_fraction=dataset.val_fraction,
            folds=dataset.folds,
            fold=dataset.fold,
            **more,
            **dataset.arguments,
        )


def data_fingerprint(config: Config) -> str | None:
    """The `fingerprint` that the data set of a configuration has now, read once in a process; None for
    one that is the same wherever it lies, and where it cannot be read."""
    if is_published(config):
        return None
    data = config.dataset.model_dump_json(by_alias=True)
    if data not in _fingerprints:
        log.info("looking whether the images of finished runs have changed")
        try:
            _fingerprints[data] = call_reader(fingerprint_of, config)
        except (UserError, OSError):
            _fingerprints[data] = None
    return _fingerprints[data]


_fingerprints: dict[str, str | None] = {}


def steps_in(config: Config, images: int) -> int:
    """Training steps in an epoch, of so many training images."""
    images = config.sampler.images or images
    return images // (config.batch_size * config.optimizer.accumulate)


def check_batches(config: Config, data: Dataset) -> None:
    """Raise BadKey if an epoch has no step, or is to have more images than there are."""
    size, batches, images = config.batch_size, config.optimizer.accumulate, len(data.train)
    has, asked = f"dataset={config.name('dataset')} has {images} training images", config.sampler.images
    if asked and asked > images:
        raise BadKey("sampler.images", asked, f"{has}; use at most that")
    if steps_in(config, images):
        return
    if asked:
        images, has = asked, f"an epoch has sampler.images={asked}"
    if size > images:
        raise BadKey("batch_size", size, f"{has}; use at most that")
    whole = counted(images // size, "batch", "batches")
    raise BadKey("optimizer.accumulate", batches, f"{has}, {whole} of {size}; use at most that")


def build_order(config: Config, labels: Tensor) -> Order:
    """Return the function that draws an epoch's images, in their order."""
    sampler, order = config.sampler, shuffled(len(labels))
    if sampler.kind == "balanced":
        order = balanced(labels)
    if sampler.kind == "classes":
        with arguments_of("sampler"):
            order = classes_in_batches(labels, config.batch_size, sampler.samples_per_class)
    return shortened(order, sampler.images) if sampler.images else order
