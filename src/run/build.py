"""From a checked configuration to the objects that a run trains."""

import functools
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arguments import parameters
from ..datasets import Augmentation, Dataset, Split
from ..errors import Mistakes, UserError
from ..evaluation import Evaluated, collapse, evaluate
from ..losses import CosineHead, Head, MarginHead, adacos_scale, sufficient_scale
from ..models import build_backbone
from ..training import (
    Average,
    Device,
    Order,
    build_optimizer,
    build_schedule,
    choose_device,
    embed,
    find_device,
    margin_schedule,
)
from .data import build_data, build_order, check_batches, steps_in
from .init import freeze, start_from
from .options import check_augmentation, keys_of, model_arguments
from .pairs import evaluation_pairs
from .targets import locate, qualified

log = logging.getLogger(__name__)
SOME_CLASSES, SOME_STEPS = 1000, 1000  # of what is built only to see whether it can be


@dataclass
class Run:
    """What a configuration describes, built and ready to train."""

    config: dict
    folder: Path
    device: Device
    data: Dataset
    backbone: nn.Module
    head: Head
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    margin: Callable[[float], Tensor] | None  # as a function of the epochs trained; None: it is fixed
    shuffling: torch.Generator
    augmentation: Augmentation
    pairs: dict[str, tuple[Tensor, ...]]  # for verification, by split; none in a closed set
    epochs_trained: int = 0  # by earlier processes
    order: Order | None = None  # None: a permutation
    average: Average | None = None  # of the weights; None: they are used as they are
    frames: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # one an epoch, for an animation
    rows: list[dict] = field(default_factory=list)  # of metrics.csv, one an epoch
    warned_of_collapse: bool = False

    @property
    def steps(self) -> int:
        """Training steps in an epoch."""
        return steps_in(self.config, self.data)

    @property
    def watched(self) -> str:
        """The split that is measured after each epoch, and that settings are chosen by."""
        return "test" if self.data.val is None else "validation"

    @property
    def watched_images(self) -> Split:
        return self.data.test if self.data.val is None else self.data.val

    @property
    def model(self) -> tuple[nn.Module, Head]:
        """The backbone and head that are measured, and kept."""
        model = self.average or self
        return model.backbone, model.head

    def take_average(self) -> None:
        """Go on with the average in the place of the weights that were trained."""
        if self.average:
            self.backbone.load_state_dict(self.average.backbone.state_dict())
            self.head.load_state_dict(self.average.head.state_dict())
            self.average = None

    def evaluate(self, split: str) -> tuple[Evaluated, Tensor]:
        """Results on the split `validation` or `test`, and its embeddings (N, D)."""
        backbone, head = self.model
        head.eval()  # otherwise these images would move its running statistics
        images = self.data.test if split == "test" else self.data.val
        embeddings = embed(backbone, images, self.device)
        name, pairs = self.config["evaluation"]["name"], self.pairs.get(split)
        return evaluate(name, head, embeddings, images.labels, pairs), embeddings

    def collapsed(self, result: Evaluated, embeddings: Tensor) -> str | None:
        """In words, why the model tells nothing apart; None if it does."""
        _, head = self.model
        angular = isinstance(head, CosineHead)
        return collapse(result.metrics, embeddings, head.prototypes, angular=angular)


def build_run(config: dict, folder: Path, fetch: bool = True, precision: str | None = None) -> Run:
    """Build everything, with weights drawn from the run's seed or, with `fetch`, those of a pretrained
    model or of another run. `precision` is what an earlier attempt computed in, if it was to choose.
    Raises UserError for what turns out not to work only here, with the data at hand."""
    device = build_device(config["device"] | ({"precision": precision} if precision else {}))
    data = build_data(config, device)
    check_batches(config, data)
    check_augmentation(config, data.pictures)
    pairs = evaluation_pairs(config, {"validation": data.val, "test": data.test}, data.classes)
    torch.manual_seed(config["seed"])
    backbone = build_model(config, data.image_shape, fetch)
    if backbone.normalisation:
        data.normalise_by(*backbone.normalisation)
    backbone = backbone.to(device.torch, memory_format=torch.channels_last)
    with qualified({}, f"model={config['model']['name']}"):
        dimension = embed(backbone, data.test, device, first=2).shape[1]
    if config["batch_size"] == 1 and any(isinstance(m, nn.BatchNorm1d) for m in backbone.modules()):
        name = config["model"]["name"]
        raise UserError(f"batch_size=1: model={name} normalises over a batch, use 2 or more")
    head = build_head(config, dimension, len(data.classes)).to(device.torch)
    if config["loss"]["options"].get("class_weights") == "balanced":
        head.balance(data.train.labels)
    if fetch and config["init"]["from"] is not None:
        start_from(config["init"]["from"], backbone, head, data.classes)
    if config["init"]["freeze"] is not None:
        freeze(config["init"]["freeze"], backbone)
    optimizer, schedule = build_training(config, backbone, head, steps_in(config, data))
    decay = config["ema"]["decay"]
    shuffling = torch.Generator().manual_seed(config["seed"])  # the same order on every device
    where = device.torch if device.torch.type == "cuda" else "cpu"
    changing = torch.Generator(where).manual_seed(config["seed"])
    return Run(
        config=config,
        folder=folder,
        device=device,
        data=data,
        backbone=backbone,
        head=head,
        optimizer=optimizer,
        schedule=schedule,
        margin=margin_over_time(config["margin"], head),
        shuffling=shuffling,
        augmentation=Augmentation(changing, **config["augment"]),
        pairs=pairs,
        order=build_order(config, data.train.labels),
        average=Average(backbone, head, decay) if decay else None,
    )


def build_device(device: dict) -> Device:
    with in_device_keys(device):
        return choose_device(**device)


def check_device(device: dict) -> None:
    """Raise UserError for a device that this machine lacks, and for what does nothing on it."""
    with in_device_keys(device):
        find_device(**{key: device[key] for key in parameters(find_device) if key in device})


def in_device_keys(device: dict):
    return qualified({key: f"device.{key}" for key in device} | {"name": "device"}, "device")


def build_model(config: dict, image_shape: tuple[int, int, int], fetch: bool = True) -> nn.Module:
    """The backbone, body and neck; `fetch` says whether learned weights are looked for."""
    model = config["model"]
    body, arguments = locate("model", model["_target_"]), model_arguments(model)
    if "pretrained" in arguments:
        arguments["fetch"] = fetch
    shape = "×".join(map(str, image_shape))
    what = f"model.name={model['name']} for images {shape}, model.options={model['options']}"
    with qualified(keys_of("model", config), what, arguments):
        return build_backbone(
            body(image_shape, **arguments),
            image_shape,
            model["embedding_dim"],
            norm=model["norm"],
            dropout=model["dropout"],
        )


def build_head(config: dict, embedding_dim: int, num_classes: int) -> Head:
    """The loss with its class weights, margin and scale."""
    loss = config["loss"]
    with qualified(keys_of("loss", config), f"loss.options={loss['options']}", loss["options"]):
        return locate("loss", loss["_target_"])(
            embedding_dim, num_classes, **head_arguments(config, num_classes)
        )


def head_arguments(config: dict, num_classes: int) -> dict:
    """Keyword arguments for the head that a checked configuration asks for."""
    loss, arguments = locate("loss", config["loss"]["_target_"]), dict(config["loss"]["options"])
    if issubclass(loss, MarginHead):
        arguments["margin"] = config["margin"]["value"]
    if loss.has_scale:
        arguments["scale"] = config["scale"]["value"]
        name = config["scale"]["name"]
        arguments["learnable_scale"] = name == "learnable"
        arguments["dynamic_scale"] = name == "adacos_dynamic"
        if name.startswith("adacos"):
            try:
                arguments["scale"] = adacos_scale(num_classes)
            except ValueError as error:
                raise UserError(f"scale={name}: {error}, use scale.value=…") from None
    return arguments


def build_training(config: dict, backbone: nn.Module, head: Head, steps: int):
    """The optimizer, and its schedule over `steps` training steps in each epoch."""
    choice, rates = config["optimizer"], config["schedule"]
    options = f"optimizer.options={choice['options']}"
    rates_of = {key: f"optimizer.{key}" for key in ("head_lr", "backbone_lr", "layer_decay")}
    with qualified(keys_of("optimizer", config) | rates_of, options, choice["options"]):
        optimizer = build_optimizer(
            locate("optimizer", choice["_target_"]),
            backbone,
            head,
            lr=choice["lr"],
            **{key: choice[key] for key in ("head_lr", "backbone_lr", "layer_decay")},
            **choice["options"],
        )
    options = f"schedule.options={rates['options']}"
    with qualified(keys_of("schedule", config), options, rates["options"]):
        schedule = build_schedule(
            locate("schedule", rates["_target_"]),
            optimizer,
            steps=steps,
            epochs=config["epochs"],
            **rates["options"],
        )
    return optimizer, schedule


def check_parts(config: dict, groups: Collection[str]) -> None:
    """Build what needs no data, and throw it away: values that a constructor refuses are found before
    the first run of a sweep, or the reading of images. Raises UserError, with a line for each."""
    weights = config["loss"]["options"].get("class_weights")
    classes = len(weights) if isinstance(weights, list) else SOME_CLASSES
    mistakes = Mistakes()
    with torch.random.fork_rng(devices=[]):
        if "loss" in groups:
            mistakes.of(build_head, config, 2, classes)
        if "optimizer" in groups:
            layer, head = nn.Linear(1, 1), nn.Linear(1, 1)
            backbone = nn.Sequential(nn.Sequential(layer, nn.Linear(1, 1)), nn.Linear(1, 1))
            mistakes.of(build_training, config, backbone, head, SOME_STEPS)
    mistakes.refuse()


@functools.cache  # once for all runs of a sweep
def warn_of_large_scale(
    loss: str, head: type[Head], scale: float, num_classes: int, dimension: int
) -> None:
    enough = sufficient_scale(num_classes)
    smaller = "scale=adacos or scale.value=16" if head.softmax_type else "experiment=few_classes"
    if scale > (4 if head.softmax_type else 2) * enough:
        log.warning(
            f"scale {scale:g} of {loss} is far above the {enough:.0f} that {num_classes} classes need "
            f"(in {dimension} dimensions): if training is unstable, try {smaller}"
        )


def margin_over_time(margin: dict, head: Head) -> Callable[[float], Tensor] | None:
    """The head's margin as a function of the epochs trained; None where it stays as it is."""
    if margin["name"] != "warmup":
        return None
    start = head.no_margin if margin["start"] is None else margin["start"]
    start = torch.as_tensor(start, dtype=head.margin.dtype, device=head.margin.device)
    return margin_schedule(start, head.margin.clone(), margin["epochs"], margin["shape"])
