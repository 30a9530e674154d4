"""The data set of a configuration, and the batches of an epoch of it."""

import functools
import json
import logging
from collections.abc import Callable

from torch import Tensor

from ..datasets import Dataset, fingerprint_of, load
from ..errors import UserError
from ..training import Device, Order, balanced, classes_in_batches
from ..words import counted
from .options import keys_of, options_of
from .targets import locate, qualified

log = logging.getLogger(__name__)


def build_data(config: dict, device: Device) -> Dataset:
    """The data set of a configuration. Raises UserError if there is nothing to train on."""
    data = read_data(config, device)
    if data.train is None:
        dataset = config["dataset"]
        option = "test_fraction=0.2" if "test_fraction" in dataset else "train=<folder>"
        raise UserError(f"dataset={dataset['name']}: has nothing to train on, give dataset.{option}")
    return data


def read_data(config: dict, device: Device) -> Dataset:
    dataset = config["dataset"]
    where = {"device": device.torch, "memory": dataset["memory"]}
    return call_reader(load, config, where)


def call_reader(what: Callable, config: dict, where: dict):
    """`load` or `fingerprint_of`, for the data set of a configuration."""
    dataset = config["dataset"]
    reader = locate("dataset", dataset["_target_"])
    keys = keys_of("dataset", config) | {"split": "evaluation"}
    with qualified(keys, f"dataset={dataset['name']}"):
        return what(
            reader,
            dataset["root"],
            name=dataset["name"],
            **{key: dataset.get(key) for key in ("val_fraction", "folds", "fold")},
            **where,
            **options_of("dataset", dataset),
        )


def data_fingerprint(config: dict) -> str | None:
    """The `fingerprint` that the data set of a configuration has now, read once in a process; None for
    one that is the same wherever it lies, and where it cannot be read."""
    dataset = config["dataset"]
    if dataset.get("published"):
        return None
    return _fingerprint(json.dumps({"dataset": dataset}, sort_keys=True))


@functools.cache
def _fingerprint(config: str) -> str | None:
    log.info("looking whether the images of finished runs have changed")
    try:
        return call_reader(fingerprint_of, json.loads(config), {})
    except (UserError, OSError):
        return None


def steps_in(config: dict, data: Dataset) -> int:
    """Training steps in an epoch."""
    return len(data.train) // (config["batch_size"] * config["optimizer"]["accumulate"])


def check_batches(config: dict, data: Dataset) -> None:
    """Raise UserError if an epoch has no step."""
    if steps_in(config, data):
        return
    size, batches, images = config["batch_size"], config["optimizer"]["accumulate"], len(data.train)
    has = f"dataset={config['dataset']['name']} has {images} training images"
    if size > images:
        raise UserError(f"batch_size={size}: {has}; use at most that")
    whole = counted(images // size, "batch", "batches")
    raise UserError(f"optimizer.accumulate={batches}: {has}, {whole} of {size}; use at most that")


def build_order(config: dict, labels: Tensor) -> Order | None:
    """What draws the order of an epoch's images; None for a permutation."""
    sampler, size = config["sampler"], config["batch_size"]
    if sampler["name"] == "balanced":
        return balanced(labels)
    if sampler["name"] == "classes":
        keys = {"samples_per_class": "sampler.samples_per_class"}
        with qualified(keys, "sampler.name=classes"):
            return classes_in_batches(labels, size, sampler["samples_per_class"])
    return None
