"""A trained run, rebuilt from its folder alone: weights, no code."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .config import blaming, head_options
from .datasets import FOLDERS, Dataset, load, reader_options
from .errors import UserError
from .losses import HEADS, Head
from .models import build_backbone
from .runs import read_summary
from .training import Device, choose_device, load_checkpoint


@dataclass
class Trained:
    """The model of a run, on `device`, ready for evaluation. `mean` and `std` are those of the bytes
    that it was trained on, one a channel; `classes` those that the head tells apart; `data_was` the
    fingerprint of its images; `epoch` the last that was trained."""

    folder: Path
    config: dict
    device: Device
    backbone: nn.Module
    head: Head
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    data_was: str
    epoch: int

    @property
    def unfinished(self) -> str | None:
        """What is to be said of a run that did not get to its end; None of one that did."""
        state = (read_summary(self.folder) or {}).get("state", "without a summary.json")
        epochs = self.config["epochs"]
        if self.epoch == epochs and state in ("finished", "without a summary.json"):
            return None
        return f"{self.folder} is {state}: this is its model after epoch {self.epoch} of {epochs}"

    def owns(self, dataset: dict) -> bool:
        """Whether a configuration describes the data set that this model was trained with."""
        own = self.config["dataset"]
        if dataset["name"] != own["name"]:
            return False
        if dataset["name"] not in FOLDERS or same_folder(dataset, own):
            return True
        return isinstance(dataset["root"], str) and self.is_unchanged(dataset["root"])

    def is_unchanged(self, root: str) -> bool:
        """Whether the very images that this model was trained with, and tested on, are in `root`."""
        try:
            return self.data(self.config["dataset"] | {"root": root}).fingerprint == self.data_was
        except UserError:
            return False

    def data(self, dataset: dict) -> Dataset:
        """The data set that a configuration describes, brought to this model's shape and normalisation.
        Raises UserError if it cannot be."""
        options = reader_options(dataset["name"])
        channels, height, width = self.image_shape
        wanted = {"size": (height, width), "channels": channels}
        dataset = dataset | {key: value for key, value in wanted.items() if key in options}
        data = load(device=self.device.torch, **dataset)
        there, here = ("×".join(map(str, shape)) for shape in (data.image_shape, self.image_shape))
        if there != here:
            raise UserError(
                f"dataset={dataset['name']}: has images {there}, the model of {self.folder} wants "
                f"{here} (channels, height, width)"
            )
        data.normalise_by(self.mean, self.std)
        return data


def same_folder(dataset: dict, other: dict) -> bool:
    """Whether two configurations read images from one folder."""
    places = [Path(str(each["root"])).expanduser().resolve() for each in (dataset, other)]
    return {dataset["name"], other["name"]} <= set(FOLDERS) and places[0] == places[1]


def load_trained(folder: Path, device: dict | None = None) -> Trained:
    """The model in a run's folder. `device` is that part of a configuration; default, the run's, on
    whatever is here. Raises UserError if no model is there, or none that can be read."""
    path = folder / "checkpoint.pt"
    if folder.is_file():
        raise UserError(f"{folder}: a file; give the run's folder")
    if not path.is_file():
        raise UserError(f"{folder}: no run with a checkpoint.pt is there")
    try:
        saved = load_checkpoint(path)
        config, classes, shape = saved["config"], tuple(saved["classes"]), tuple(saved["image_shape"])
        mean, std = (list(saved["normalisation"][key]) for key in ("mean", "std"))
        data_was, epoch = saved["data"], saved["epoch"]
    except Exception as error:  # torn, foreign: whatever torch makes of it
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({why})") from None
    config["device"] = device or config["device"] | {"name": "auto"}
    where = choose_device(**config["device"])
    with blaming("model", config["model"]):
        backbone = build_backbone(image_shape=shape, **config["model"], fetch=False)
        backbone.load_state_dict(saved["backbone"])
    dimension = backbone.eval()(torch.zeros(1, *shape)).shape[1]
    head = HEADS[config["loss"]["name"]](dimension, len(classes), **head_options(config, len(classes)))
    head.load_state_dict(saved["head"])
    backbone = backbone.to(where.torch, memory_format=torch.channels_last).eval()
    head = head.to(where.torch).eval()
    return Trained(folder, config, where, backbone, head, classes, shape, mean, std, data_was, epoch)
