"""A trained run, rebuilt from its folder alone: weights, no code but what the user trusts."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..arguments import is_number, is_whole, parameters
from ..datasets import BrokenImage, Dataset, Split
from ..errors import UserError
from ..losses import Head
from ..training import Device, embed, load_checkpoint
from .best import run_folder
from .best_epoch import model_file
from .build import build_device, build_head, build_model
from .data import read_data
from .folder import DONE, read_summary
from .identity import place_of
from .keys import KEYS
from .targets import REBUILT, check_trusted, locate


@dataclass
class Trained:
    """The model of a run, on `device`, ready for evaluation. `mean` and `std` are those of the bytes
    that it was trained on, one a channel; `classes` those that the head tells apart; `fingerprint` is
    its images'; `epoch` the last that was trained."""

    folder: Path
    config: dict
    device: Device
    backbone: nn.Module
    head: Head
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    fingerprint: str
    epoch: int
    pictures: bool = True  # otherwise the model takes features

    @property
    def unfinished(self) -> str | None:
        """What to tell the user about a run that did not get to its end, or whose model tells nothing
        apart; None if there is nothing."""
        state = (read_summary(self.folder) or {}).get("state", "without a summary.json")
        if state == "collapsed":
            return f"{self.folder} has collapsed: its embeddings tell next to nothing apart"
        epochs = self.config["epochs"]
        if state in DONE or (self.epoch == epochs and state == "without a summary.json"):
            return None
        return f"{self.folder} is {state}: this is its model after epoch {self.epoch} of {epochs}"

    def owns(self, dataset: dict) -> bool:
        """Whether a configuration describes the data set that this model was trained with."""
        own = self.config["dataset"]
        if (dataset["_target_"], dataset["name"]) != (own["_target_"], own["name"]):
            return False
        if own.get("published") or same_place(dataset, own):
            return True
        return isinstance(dataset["root"], str) and self.is_unchanged(dataset)

    def is_unchanged(self, dataset: dict) -> bool:
        """Whether there, at its root, are the very images that this model was trained and tested
        with."""
        place = {key: dataset[key] for key in ("root", "file") if key in dataset}
        try:
            return self.data(self.config["dataset"] | place).fingerprint == self.fingerprint
        except UserError:
            return False

    def data(self, dataset: dict) -> Dataset:
        """The data set that a configuration describes, brought to this model's shape and normalisation.
        Raises UserError if it cannot be."""
        accepted = parameters(locate("dataset", dataset["_target_"]))
        channels, height, width = self.image_shape
        wanted = {"size": [height, width], "channels": channels}
        dataset = dataset | {key: value for key, value in wanted.items() if key in accepted}
        data = read_data({"dataset": dataset}, self.device)
        there, here = ("×".join(map(str, shape)) for shape in (data.image_shape, self.image_shape))
        if there != here:
            raise UserError(
                f"dataset={dataset['name']}: has images {there}, the model of {self.folder} wants "
                f"{here} (channels, height, width)"
            )
        if data.pictures != self.pictures:
            kinds = ["images" if pictures else "features" for pictures in (data.pictures, self.pictures)]
            raise UserError(
                f"dataset={dataset['name']}: has {kinds[0]}, the model of {self.folder} wants {kinds[1]}"
            )
        data.normalise_by(self.mean, self.std)
        return data

    def embed(self, split: Split) -> Tensor:
        """Embeddings (N, D) of a split's images. Raises UserError for one that cannot be read."""
        try:
            return embed(self.backbone, split, self.device)
        except BrokenImage as error:
            raise UserError(str(error)) from None

    def on(self, device: dict) -> "Trained":
        """The same on another device, given as that part of a configuration."""
        built = build_device(device)
        return replace(
            self,
            config=self.config | {"device": device},
            device=built,
            backbone=self.backbone.to(built.torch, memory_format=torch.channels_last),
            head=self.head.to(built.torch),
        )


def reads_folder(dataset: dict) -> bool:
    """Whether which images a data set has is decided by the folder that it is read from."""
    return not dataset.get("published")


def same_place(dataset: dict, other: dict) -> bool:
    """Whether two configurations read images from one folder, or from one file."""
    places = [Path(place_of(each)).resolve() for each in (dataset, other)]
    return reads_folder(dataset) and reads_folder(other) and places[0] == places[1]


def load_trained(folder: Path, device: dict | None = None, allowed: Iterable[str] = ()) -> Trained:
    """The model in a run's folder, or in that of a sweep's best run, `best:<sweep>`. `device` is that
    part of a configuration; default, the run's, on whatever is here. Classes of packages that are not
    `allowed`, other than this project's own, are neither imported nor called. Raises UserError if no
    model is there, or none that can be read."""
    folder = run_folder(folder)
    path = model_file(folder)
    if folder.is_file():
        raise UserError(f"{folder}: a file; give the run's folder")
    if not path.is_file():
        raise UserError(f"{folder}: no run with a checkpoint.pt is there")
    try:
        saved = load_checkpoint(path)
        check_saved(saved)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    config, classes, shape = saved["config"], tuple(saved["classes"]), tuple(saved["image_shape"])
    check_trusted(config, allowed)
    own = {"name": "auto", "precision": saved.get("precision", config["device"].get("precision"))}
    config["device"] = device or own | {"threads": config["device"].get("threads")}
    try:
        where = build_device(config["device"])
        with AtMost(saved["backbone"], saved["head"]):
            backbone = build_model(config, shape, fetch=False)
            load_weights(backbone, saved["backbone"], path)
            dimension = backbone.eval()(torch.zeros(1, *shape)).shape[1]
            head = build_head(config, dimension, len(classes))
            load_weights(head, saved["head"], path)
    except UserError:
        raise
    except Exception as error:  # a stranger's configuration may say anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{path}: no model can be built as it says ({why})") from None
    return Trained(
        folder,
        config,
        where,
        backbone.to(where.torch, memory_format=torch.channels_last).eval(),
        head.to(where.torch).eval(),
        classes,
        shape,
        *(list(saved["normalisation"][key]) for key in ("mean", "std")),
        saved["data"],
        saved["epoch"],
        saved.get("pictures", True),
    )


def check_saved(saved: object) -> None:
    """Raise ValueError for what no run of this project saved: other keys, or other kinds of values."""
    if not isinstance(saved, dict):
        raise ValueError("it holds no run")
    for key, (kind, is_right) in SAVED.items():
        if key not in saved:
            raise ValueError(f"it has no {key}")
        try:
            right = isinstance(saved[key], kind) and is_right(saved[key])
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
            right = False
        if not right:
            raise ValueError(f"its {key} is not a run's")
    lengths = {len(saved["normalisation"][key]) for key in ("mean", "std")}
    shape, pictures = saved["image_shape"], saved.get("pictures", True)
    if len(lengths) > 1 or not lengths <= {shape[0], shape[0] if pictures else math.prod(shape)}:
        raise ValueError("its normalisation is of other channels than its images")


def _is_config(config: dict) -> bool:
    json.dumps(config)  # tensors would not pass
    named = all(isinstance(config[group]["name"], str) for group in (*REBUILT, "margin", "scale"))
    built = all(isinstance(config[group]["_target_"], str) for group in REBUILT)
    groups = (config["device"], *(config.get(group, {}) for group in KEYS))
    return named and built and is_whole(config["epochs"]) and all(isinstance(g, dict) for g in groups)


def _is_shape(shape: object) -> bool:
    sides = all(is_whole(side) and side >= 1 for side in shape)
    return len(shape) == 3 and sides and math.prod(shape) <= MOST_VALUES


def _are_numbers(numbers: object) -> bool:
    return isinstance(numbers, list) and all(is_number(n) and math.isfinite(n) for n in numbers)


def _are_weights(weights: dict) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items())


MOST_VALUES = 2**26  # of an image
# What a checkpoint has to hold for its model to be rebuilt, and how it is told.
SAVED = {
    "config": (dict, _is_config),
    "classes": ((list, tuple), lambda names: names and all(isinstance(name, str) for name in names)),
    "image_shape": ((list, tuple), _is_shape),
    "normalisation": (dict, lambda both: all(_are_numbers(both[key]) for key in ("mean", "std"))),
    "data": (str, bool),
    "epoch": (int, lambda epoch: is_whole(epoch) and epoch >= 0),
    "backbone": (dict, _are_weights),
    "head": (dict, _are_weights),
}


class AtMost(TorchFunctionMode):
    """While it holds, modules are built of at most about as many values as there are `weights` for.
    Others raise ValueError before they take the memory."""

    MAKE = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.arange)
    MAKE += (torch.eye, torch.linspace)
    EACH, BESIDES = 2**10, 2**26  # a tensor's own weight, and classifiers that are built and replaced

    def __init__(self, *weights: dict[str, Tensor]):
        super().__init__()
        values = sum(value.untyped_storage().nbytes() for one in weights for value in one.values())
        self.left = values + self.BESIDES

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.MAKE:
            sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
            self.left -= self.EACH + math.prod(side for side in sizes if isinstance(side, int))
            if self.left < 0:
                raise ValueError("a model far larger than its weights")
        return function(*args, **(kwargs or {}))


def load_weights(module: nn.Module, weights: dict, path: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()[:300]
        raise UserError(f"{path}: its weights do not fit {type(module).__name__} ({first})") from None
