"""From a checked configuration to the objects that a run trains."""

import functools
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from ..config import BadKey, Config, Mistakes
from ..config.checks import with_classes
from ..config.classes import parameters
from ..config.tree import PACKAGES
from ..datasets import Augmentation, Dataset, Split
from ..evaluation import Evaluated, collapse, evaluate, widest_angle
from ..losses import Head, sufficient_scale
from ..tracking import check_logger
from ..training import (
    Average,
    Device,
    Order,
    embed,
    find_device,
    margin_schedule,
    processes,
)
from .arguments import arguments_of
from .data import build_data, build_order, check_batches, steps_in
from .folder import RunFolder
from .init import freeze, start_from
from .memory import Memory, build_head_of, check_memory, memory_of, states_are_of_weights
from .pairs import evaluation_pairs, search_of, templates_of
from .parts import SOME_CLASSES, SOME_STEPS, build_device, build_head, build_model, build_training
from .start import start_file, with_start

log = logging.getLogger(__name__)
NARROW = 30  # degrees between the nearest prototypes, below which classes have no room


def check_config(
    config: Config, groups: Iterable[str] = tuple(PACKAGES), spoiled: Iterable[str] = ()
) -> Config:
    """`with_classes` and `with_start`, and whether what needs no data can be built. Without the
    optimizer among `groups` nothing is trained, and nothing reported."""
    if "optimizer" not in groups:
        return with_classes(config, groups, spoiled)
    return with_start(with_classes(config, groups, spoiled, FURTHER_CHECKS))


def check_config_here(config: Config, *which) -> Config:
    """`check_config`, and whether this machine has the device."""
    config = check_config(config, *which)
    check_device(config)
    return config


def start_is_there(config: Config) -> None:
    source = config.init.source
    if source and not start_file(source).is_file():
        raise BadKey("init.from", source, "neither a run's folder nor a file of weights")


def loss_can_be_built(config: Config) -> None:
    """Build the loss and throw it away, to see which values its constructor refuses."""
    weights = config.loss.arguments.get("class_weights")
    classes = len(weights) if isinstance(weights, list) else SOME_CLASSES
    with torch.random.fork_rng(devices=[]):
        build_head(config, 2, classes)
        if config.margin.floor is not None:
            try:
                build_head(config.replace(margin={"value": config.margin.floor}), 2, classes)
            except BadKey as error:
                raise BadKey("margin.floor", config.margin.floor, error.why) from None


def optimizer_can_be_built(config: Config) -> None:
    with torch.random.fork_rng(devices=[]):
        layer, head = nn.Linear(1, 1), nn.Linear(1, 1)
        backbone = nn.Sequential(nn.Sequential(layer, nn.Linear(1, 1)), nn.Linear(1, 1))
        build_training(config, backbone, head, SOME_STEPS)


def weights_can_be_spread(config: Config) -> None:
    """Refuse penalties of class weights that are several for a class, or in parts, or do not train."""
    spread = next(((name, value) for name, value in dict(config.spread).items() if value), None)
    if spread is None:
        return
    head, loss = build_head_of(config, 2), f"loss={config.name('loss')}"
    if not head.weight.requires_grad:
        why = f"{loss} trains no class weights"
    elif head.weight.shape != (head.num_classes, head.embedding_dim):
        why = f"{loss} has several weights for each class"
    elif getattr(head, "sample_rate", 1) < 1:
        why = "loss.sample_rate trains a part of the class weights at a time: not both"
    elif config.device.class_parallel:
        why = "device.class_parallel trains the class weights in parts: not both"
    else:
        return
    raise BadKey(f"spread.{spread[0]}", spread[1], why)


FURTHER_CHECKS = (
    (("logger",), lambda config: check_logger(config.logger)),
    (("init",), start_is_there),
    (("loss", "margin", "scale"), loss_can_be_built),
    (("loss", "margin", "scale", "spread", "device"), weights_can_be_spread),
    (("optimizer", "schedule", "epochs"), optimizer_can_be_built),
)


@dataclass
class Run:
    """What a configuration describes, built and ready to train."""

    config: Config
    folder: RunFolder
    device: Device
    data: Dataset
    backbone: nn.Module
    head: Head
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    margin: Callable[[float], Tensor] | None  # as a function of the epochs trained; None: it is fixed
    shuffling: torch.Generator
    augmentation: Augmentation
    order: Order
    pairs: dict[str, tuple[Tensor, ...]]  # for verification, by split; none in a closed set
    epochs_trained: int = 0  # by earlier processes
    average: Average | None = None  # of the weights; None: they are used as they are
    frames: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # one an epoch, for an animation
    rows: list[dict] = field(default_factory=list)  # of metrics.csv, one an epoch
    warned_of_collapse: bool = False

    @property
    def steps(self) -> int:
        """Training steps in an epoch."""
        return steps_in(self.config, len(self.data.train))

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

    def evaluate(self, split: str, left_out: bool = False) -> tuple[Evaluated, Tensor]:
        """Results on the split `validation` or `test`, and its embeddings (N, D); of an open set also
        without groups of classes if asked."""
        backbone, head = self.model
        head.eval()  # otherwise these images would move its running statistics
        images = self.data.test if split == "test" else self.data.val
        embeddings = embed(backbone, images, self.device)
        name, pairs = self.config.evaluation.protocol, self.pairs.get(split)
        search = search_of(self.config, images, left_out)
        compared = templates_of(images, embeddings)
        return evaluate(name, head, compared, images.labels, pairs, search), embeddings

    def collapsed(self, result: Evaluated, embeddings: Tensor) -> str | None:
        """In words, why the model tells nothing apart; None if it does."""
        _, head = self.model
        return collapse(result.metrics, embeddings, head)


def build_run(
    config: Config, folder: RunFolder, fetch: bool = True, precision: str | None = None
) -> Run:
    """Build everything, with weights drawn from the run's seed or, with `fetch`, those of a pretrained
    model or of another run. `precision` is what an earlier attempt computed in, if it was to choose.
    Raises UserError for what turns out not to work only here, with the data at hand."""
    device, data, pairs, backbone, dimension = begin_to_build(config, fetch, precision)
    check_memory(config, lambda other: memory_of(other, backbone, data, device, pairs))
    head = build_head(config, dimension, len(data.classes)).to(device.torch)
    if config.loss.arguments.get("class_weights") == "balanced":
        head.balance(data.train.labels)
    if config.margin.power is not None:
        head.margins_by_size(data.train.labels, config.margin.power, config.margin.floor)
    if fetch and config.init.source is not None:
        start_from(config.init.source, backbone, head, data.classes)
    check_step(config, head)
    optimizer, schedule = build_training(config, backbone, head, steps_in(config, len(data.train)))
    decay = config.ema.decay
    shuffling = torch.Generator().manual_seed(config.seed)  # the same order on every device
    where = device.torch if device.torch.type == "cuda" else "cpu"
    changing = torch.Generator(where).manual_seed(config.seed)
    return Run(
        config=config,
        folder=folder,
        device=device,
        data=data,
        backbone=backbone,
        head=head,
        optimizer=optimizer,
        schedule=schedule,
        margin=margin_over_time(config, head),
        shuffling=shuffling,
        augmentation=Augmentation(changing, **dict(config.augment)),
        pairs=pairs,
        order=build_order(config, data.train.labels),
        average=Average(backbone, head, decay) if decay else None,
    )


def planned_memory(config: Config) -> Memory:
    """The memory that a run would take. Raises UserError as `build_run` does."""
    device, data, pairs, backbone, dimension = begin_to_build(config, fetch=False)
    check_step(config, build_head_of(config, dimension))
    return memory_of(config, backbone, data, device, pairs)


def begin_to_build(config: Config, fetch: bool, precision: str | None = None):
    """Return the device, the data, their pairs, the backbone with the run's seed, and the dimension of
    its embeddings: all that tells how large a head will be."""
    device = build_device(config.replace(device={"precision": precision}) if precision else config)
    data = build_data(config, device)
    check_batches(config, data)
    check_augmentation(config, data.pictures)
    pairs = evaluation_pairs(config, {"validation": data.val, "test": data.test}, data.classes)
    torch.manual_seed(config.seed)
    backbone = build_model(config, data.image_shape, fetch)
    if backbone.normalisation:
        data.normalise_by(*backbone.normalisation)
    backbone = backbone.to(device.torch, memory_format=torch.channels_last)
    dimension = embed(backbone, data.test, device, torch.arange(min(2, len(data.test)))).shape[1]
    if config.batch_size == 1 and any(isinstance(m, nn.BatchNorm1d) for m in backbone.modules()):
        raise BadKey(
            "batch_size", 1, f"model={config.name('model')} normalises over a batch, use 2 or more"
        )
    if config.init.freeze is not None:
        freeze(config.init.freeze, backbone)
    return device, data, pairs, backbone, dimension


def check_step(config: Config, head: Head) -> None:
    """Raise BadKey for what a step of this head cannot do, by one process or by several."""
    if getattr(head, "tiling", None) == "triton":
        kind = head.weight.device.type
        if kind != "cuda":
            raise BadKey("loss.tiling", "triton", f"runs on an NVIDIA GPU, not on {kind}: use auto")
        if not find_spec("triton"):
            raise BadKey("loss.tiling", "triton", "triton is missing, pip install triton, or use auto")
    parts = config.device.class_parallel or getattr(head, "sample_rate", 1) < 1
    if parts and not states_are_of_weights(config):
        target = config.optimizer.target
        why = "keeps more of a matrix than a number for each weight: not for a part of the classes"
        raise BadKey("optimizer._target_", target, why)
    batches = config.optimizer.accumulate
    if batches > 1 and getattr(head, "sample_rate", 1) < 1:
        why = "with loss.sample_rate each batch has classes of its own: use a larger batch_size"
        raise BadKey("optimizer.accumulate", batches, why)
    count = processes.count()
    if config.batch_size < count:
        raise BadKey("batch_size", config.batch_size, f"{count} processes share it, use at least that")
    if not config.device.class_parallel:
        return
    why = None
    if count == 1:
        why = "needs several processes, which torchrun starts"
    elif not getattr(head, "can_be_split", False):
        why = f"loss={config.name('loss')}, as it is, needs all classes in one process"
    elif head.num_classes < count:
        why = f"{count} processes share {head.num_classes} classes"
    elif config.ema.decay:
        why = f"not with ema.decay={config.ema.decay:g}"
    if why:
        raise BadKey("device.class_parallel", True, why)


def check_device(config: Config) -> None:
    """Raise Refused for a device that this machine lacks, and for all that does nothing on it."""
    mistakes = Mistakes()

    def check(name: str) -> None:
        with arguments_of("device"):
            find_device(config.device.kind, **{name: getattr(config.device, name)})

    for name in parameters(find_device):
        if name != "kind":
            mistakes.of(check, name)
    mistakes.refuse()


def check_augmentation(config: Config, pictures: bool) -> None:
    """Raise BadKey for an augmentation of data that are not `pictures` but features."""
    for name, value in config.augment:
        if value and not pictures:
            why = f"dataset={config.name('dataset')} has features, not images: leave it out"
            raise BadKey(f"augment.{name}", value, why)


@functools.cache  # once for all runs of a sweep
def warn_of_scale(loss: str, head: type[Head], scale: float, num_classes: int, dimension: int) -> None:
    """Warn of a scale that is far too large for the classes, or so small that a softmax of cosines
    cannot give the own class even half of the probability."""
    least = sufficient_scale(num_classes, probability=0.5)
    if head.softmax_type and scale < least:
        log.warning(
            f"scale {scale:g} of {loss} is too small for {num_classes} classes: below {least:.1f}, even "
            "a perfect model gives the own class less than half; try scale=adacos"
        )
    enough = sufficient_scale(num_classes)
    smaller = "scale=adacos or scale.value=16" if head.softmax_type else "experiment=few_classes"
    if scale > (4 if head.softmax_type else 2) * enough:
        log.warning(
            f"scale {scale:g} of {loss} is far above the {enough:.0f} that {num_classes} classes need "
            f"(in {dimension} dimensions): if training is unstable, try {smaller}"
        )


@functools.cache
def warn_of_few_dimensions(num_classes: int, dimension: int) -> None:
    """Warn where so many classes have no room: their prototypes cannot all be far from each other."""
    widest = math.degrees(widest_angle(num_classes, dimension))
    if widest < NARROW:
        log.warning(
            f"model.embedding_dim={dimension} is too few for {num_classes} classes: some prototypes are "
            f"within {widest:.0f}° of another wherever they lie; try model.embedding_dim=128"
        )


def margin_over_time(config: Config, head: Head) -> Callable[[float], Tensor] | None:
    """The head's margin as a function of the epochs trained; None where it stays as it is."""
    margin = config.margin
    if margin.epochs is None:
        return None
    start = head.no_margin if margin.start is None else margin.start
    start = torch.as_tensor(start, dtype=head.margin.dtype, device=head.margin.device)
    return margin_schedule(start, head.margin.clone(), margin.epochs, margin.shape)
