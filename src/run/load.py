"""A trained run, rebuilt from its folder alone: weights, no code but what the user trusts."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..config import BadKey, Config, checked
from ..config.checks import with_classes
from ..config.classes import callable_at, is_own, parameters, target_of
from ..config.identity import is_published
from ..config.tree import Device as DeviceKeys
from ..datasets import BrokenImage, Dataset, Split
from ..errors import UserError
from ..foreign import plain
from ..losses import Head
from ..training import Device, embed, load_checkpoint
from ..words import first_line
from .best import run_folder
from .build import build_device, build_head, build_model
from .data import read_data
from .folder import RunFolder, model_file
from .summary import DONE

# What rebuilding a trained run calls; optimizers and schedules are only ever made by a command that was
# typed.
REBUILT = ("loss", "model", "dataset")


@dataclass
class Trained:
    """The model of a run, on `device`, ready for evaluation. `mean` and `std` are those of the bytes
    that it was trained on, one a channel; `classes` those that the head tells apart; `fingerprint` is
    its images'; `epoch` the last that was trained."""

    folder: Path
    config: Config
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
        summary = RunFolder(self.folder).summary()
        state = summary.state if summary else "without a summary.json"
        if state == "collapsed":
            return f"{self.folder} has collapsed: its embeddings tell next to nothing apart"
        epochs = self.config.epochs
        if state in DONE or (self.epoch == epochs and not summary):
            return None
        return f"{self.folder} is {state}: this is its model after epoch {self.epoch} of {epochs}"

    def owns(self, config: Config) -> bool:
        """Whether a configuration describes the data set that this model was trained with."""
        if config.dataset.target != self.config.dataset.target:
            return False
        if is_published(self.config) or same_place(config, self.config):
            return True
        return self.is_unchanged(config)

    def is_unchanged(self, config: Config) -> bool:
        """Return whether the configuration's `dataset.root` holds exactly the images that this model was
        trained and tested with."""
        dataset = config.dataset
        place = {"root": dataset.root}
        place |= {"file": dataset.arguments["file"]} if "file" in dataset.arguments else {}
        try:
            return self.data(self.config.replace(dataset=place)).fingerprint == self.fingerprint
        except UserError:
            return False

    def data(self, config: Config) -> Dataset:
        """The data set that a configuration describes, brought to this model's shape and normalisation.
        Raises UserError if it cannot be."""
        accepted = parameters(target_of(config, "dataset"))
        channels, height, width = self.image_shape
        wanted = {"size": [height, width], "channels": channels}
        wanted = {key: value for key, value in wanted.items() if key in accepted}
        data, name = read_data(config.replace(dataset=wanted), self.device), config.name("dataset")
        there, here = ("×".join(map(str, shape)) for shape in (data.image_shape, self.image_shape))
        if there != here:
            raise UserError(
                f"dataset={name}: has images {there}, the model of {self.folder} wants {here} "
                "(channels, height, width)"
            )
        if data.pictures != self.pictures:
            kinds = ["images" if pictures else "features" for pictures in (data.pictures, self.pictures)]
            raise UserError(
                f"dataset={name}: has {kinds[0]}, the model of {self.folder} wants {kinds[1]}"
            )
        data.normalise_by(self.mean, self.std)
        return data

    def embed(self, split: Split) -> Tensor:
        """Embeddings (N, D) of a split's images. Raises UserError for one that cannot be read, and for
        embeddings that are not finite."""
        try:
            embeddings = embed(self.backbone, split, self.device)
        except BrokenImage as error:
            raise UserError(str(error)) from None
        if not embeddings.isfinite().all():
            raise UserError(f"{self.folder}: makes embeddings that are not finite numbers")
        return embeddings

    def on(self, device: DeviceKeys) -> "Trained":
        """The same on another device."""
        config = self.config.replace(device=device)
        built = build_device(config)
        return replace(
            self,
            config=config,
            device=built,
            backbone=self.backbone.to(built.torch, memory_format=torch.channels_last),
            head=self.head.to(built.torch),
        )


def same_place(config: Config, other: Config) -> bool:
    """Whether two configurations read images from one folder, or from one file."""
    places = [Path(each.dataset.place).resolve() for each in (config, other)]
    return not is_published(config) and not is_published(other) and places[0] == places[1]


def load_trained(folder: Path, device: DeviceKeys | None = None, allowed: Iterable[str] = ()) -> Trained:
    """Rebuild the model in a run's folder, or in that of a sweep's best run, `best:<sweep>`. `device` is
    that part of a configuration; default, the run's, on whatever is here. Classes of packages that are
    not `allowed`, other than this project's own, are neither imported nor called. Raises UserError if no
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
    own = DeviceKeys(threads=config.device.threads, precision=saved["precision"])
    config = config.replace(device=device or own)
    try:
        config = with_classes(config, REBUILT)
        where = build_device(config)
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


def check_trusted(config: Config, allowed: Iterable[str] = ()) -> None:
    """Raise UserError unless everything that rebuilding a run calls is this project's own, or of a
    package that the user allowed. Looks at names first: nothing foreign is imported before it is
    allowed; and then at where the object is from, which a package may have imported itself."""
    for group in REBUILT:
        section = getattr(config, group)
        targets = {} if is_own(group, section.target) else {"_target_": section.target}
        for key, target in (targets | section.targets).items():
            named = f"{group}.{key}"
            if not any(target.startswith(f"{name}.") for name in allowed):
                allow = f"--allow {target.split('.')[0]}"
                why = f"not a class of this project; {allow} trusts that package with running its code"
                raise BadKey(named, target, why)
            found = callable_at(target, named)
            source = getattr(found, "__module__", None) or type(found).__module__
            if not any(f"{source}.".startswith(f"{name}.") for name in allowed):
                raise BadKey(named, target, f"is of {source}, which --allow does not name")


def check_saved(saved: object) -> None:
    """Check a checkpoint, and make a Config of its configuration. Raises ValueError for what no run of
    this project saved: other keys, or other kinds of values."""
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
    try:
        json.dumps(saved["config"])  # tensors would not pass
        saved["config"], saved["classes"] = checked(plain(saved["config"])), plain(saved["classes"])
    except (UserError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its configuration is not a run's: {first_line(error)}") from None


def _is_shape(shape: object) -> bool:
    sides = all(type(side) is int and side >= 1 for side in shape)
    return len(shape) == 3 and sides and math.prod(shape) <= MOST_VALUES


def _are_numbers(numbers: object) -> bool:
    return isinstance(numbers, list) and all(
        type(n) in (int, float) and math.isfinite(n) for n in numbers
    )


def _are_weights(weights: dict) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items())


MOST_VALUES = 2**26  # of an image
# What a checkpoint has to hold for its model to be rebuilt, and how it is told.
SAVED = {
    "config": (dict, bool),
    "classes": ((list, tuple), lambda names: names and all(isinstance(name, str) for name in names)),
    "image_shape": ((list, tuple), _is_shape),
    "normalisation": (dict, lambda both: all(_are_numbers(both[key]) for key in ("mean", "std"))),
    "data": (str, bool),
    "precision": (str, lambda precision: precision in ("fp32", "bf16")),
    "epoch": (int, lambda epoch: type(epoch) is int and epoch >= 0),
    "backbone": (dict, _are_weights),
    "head": (dict, _are_weights),
}


class AtMost(TorchFunctionMode):
    """Caps how much a model may allocate while it is rebuilt, at about what its `weights` take.
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
