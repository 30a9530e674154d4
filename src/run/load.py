"""A trained run, rebuilt from its folder alone: weights, no code but what the user trusts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arguments import parameters
from ..datasets import BrokenImage, Dataset, Split
from ..errors import UserError
from ..losses import Head
from ..training import Device, embed, load_checkpoint
from .best import run_folder
from .build import build_device, build_head, build_model, read_data
from .folder import DONE, read_summary
from .identity import place_of
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
        """What to tell the user about a run that did not get to its end; None if it did."""
        state = (read_summary(self.folder) or {}).get("state", "without a summary.json")
        epochs = self.config["epochs"]
        if self.epoch == epochs and state in (*DONE, "without a summary.json"):
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
    path = folder / "checkpoint.pt"
    if folder.is_file():
        raise UserError(f"{folder}: a file; give the run's folder")
    if not path.is_file():
        raise UserError(f"{folder}: no run with a checkpoint.pt is there")
    try:
        saved = load_checkpoint(path)
        config, classes, shape = saved["config"], tuple(saved["classes"]), tuple(saved["image_shape"])
        mean, std = (list(saved["normalisation"][key]) for key in ("mean", "std"))
        fingerprint, epoch = saved["data"], saved["epoch"]
        pictures = saved.get("pictures", True)
        _ = [config[group]["_target_"] for group in REBUILT]
    except Exception as error:  # torn, foreign: whatever torch makes of it
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({why})") from None
    check_trusted(config, allowed)
    config["device"] = device or config["device"] | {"name": "auto"}
    where = build_device(config["device"])
    backbone = build_model(config, shape, fetch=False)
    load_weights(backbone, saved["backbone"], path)
    dimension = backbone.eval()(torch.zeros(1, *shape)).shape[1]
    head = build_head(config, dimension, len(classes))
    load_weights(head, saved["head"], path)
    backbone = backbone.to(where.torch, memory_format=torch.channels_last).eval()
    head = head.to(where.torch).eval()
    about = classes, shape, mean, std, fingerprint, epoch, pictures
    return Trained(folder, config, where, backbone, head, *about)


def load_weights(module: nn.Module, weights: dict, path: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its weights do not fit {type(module).__name__} ({first})") from None
