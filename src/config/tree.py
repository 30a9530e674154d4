"""The configuration, typed: every key that the project itself reads, in one line each.

What a class takes besides (`loss.beyond_pi`, `model.width`) stands in its signature; see classes.py.
"""

import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from .fields import Folder, Group, Number, Rate, Whole, key

# The groups whose YAML names a class by `_target_`, and where this project's own classes are.
PACKAGES = {
    "loss": "src.losses",
    "model": "src.models",
    "dataset": "src.datasets",
    "optimizer": "src.training",
    "schedule": "src.training",
}
FILLED_IN = ("choices", "start")  # what nobody types
SOFTMAX, PIXELS = "src.losses.Softmax", "src.models.Pixels"  # the classes of the baselines
NumberOrNumbers = Number | list[Number]


class ClassGroup(Group):
    """A group that names a class. Its other keys are the class's own arguments."""

    model_config = ConfigDict(extra="allow")
    target: str = key(..., "the class, as in a.module.Class", alias="_target_")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the class that the group gives."""
        return dict(self.model_extra)

    @property
    def targets(self) -> dict[str, str]:
        """Each `_target_` among the arguments, at any depth, by its key."""
        found = leaves_of_arguments(self.arguments, "")
        return {leaf.key: str(leaf.value) for leaf in found if leaf.key.endswith("._target_")}


class Loss(ClassGroup):
    margin: NumberOrNumbers | None = key(
        None, "published margin; radians if added to an angle", identity=False, default_of="margin.value"
    )
    scale: Number | None = key(None, "published scale", identity=False, default_of="scale.value")


class Margin(Group):
    value: NumberOrNumbers | None = key(None, "margin; null: loss.margin, the published one")
    epochs: Rate | None = key(None, "epochs in which it grows to that value; null: it is fixed")
    start: NumberOrNumbers | None = key(None, "margin at the start of these epochs; null: no margin")
    shape: Literal["linear", "exponential", "cosine"] = key(
        "linear", "how the margin grows: linear, exponential (fast first) or cosine (slow at both ends)"
    )
    power: Rate | None = key(
        None,
        "the margin falls with a class's images: (images / the smallest's)^−power; null: one for all",
    )
    floor: Number | None = key(None, "margin that large classes approach; null: no margin")


class Scale(Group):
    value: Number | None = key(None, "scale, or where a learnable one starts; null: loss.scale")
    kind: Literal["fixed", "learnable", "adacos", "adacos_dynamic"] = key(
        "fixed",
        "learnable: trained; adacos: √2 ln(C−1); adacos_dynamic: follows the batches",
    )


class Model(ClassGroup):
    embedding_dim: Annotated[Whole, Field(ge=2)] | None = key(
        None, "dimensions of the embedding; null: dataset.embedding_dim, or 128"
    )


class Neck(Group):
    norm: bool = key(False, "BatchNorm of the embedding, as in face recognition")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = key(
        0.0, "share of the features that is dropped before the embedding layer"
    )


class Dataset(ClassGroup):
    root: Folder = key(
        "${oc.env:DATA_ROOT,data}",
        "the folder of the data; default: DATA_ROOT, else data",
        identity=False,
    )
    val_fraction: Annotated[Number, Field(ge=0, lt=1)] = key(
        0.1,
        "share of the training images held out to choose settings; 0: the test images choose",
        always=True,
    )
    folds: Annotated[Whole, Field(ge=2)] | None = key(None, "number of folds of a cross-validation")
    fold: Annotated[Whole, Field(ge=0)] | None = key(
        None, "the fold to test, from 0; null: -m runs every fold"
    )
    memory: Annotated[Number, Field(ge=0)] = key(
        4.0, "GiB of images to hold in memory; larger data sets are read batch by batch", identity=False
    )
    duplicates: Literal["warn", "drop", "refuse"] = key(
        "warn",
        "images in training and test, twice, or with two labels: named, left out, or refused",
    )
    embedding_dim: Annotated[Whole, Field(ge=2)] | None = key(
        None, "dimensions that suit the data", identity=False, default_of="model.embedding_dim"
    )

    @property
    def place(self) -> str:
        """The folder, or the file if the reader takes one, as an absolute path."""
        return os.path.abspath(
            os.path.join(self.root, os.path.expanduser(str(self.arguments.get("file") or "")))
        )


class Optimizer(ClassGroup):
    # Read where the optimizer's YAML gives no rate; each file in conf/optimizer/ gives one.
    lr: Rate = key(0.003, "learning rate", always=True)
    head_lr: Rate | None = key(None, "learning rate of the class weights; null: lr")
    backbone_lr: Rate | None = key(None, "learning rate of the (pretrained) body; null: lr")
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = key(
        1.0,
        "layer-wise decay: multiplies the rate once per layer below the embedding; 1: off",
    )
    accumulate: Annotated[Whole, Field(ge=1)] = key(1, "batches whose mean gradient makes a step")
    clip_norm: Rate | None = key(None, "largest norm of the gradient; null: no clipping")

    @model_validator(mode="after")
    def one_rate(self) -> "Optimizer":
        """A rate that equals lr is the rate that null means."""
        same = [name for name in ("head_lr", "backbone_lr") if getattr(self, name) == self.lr]
        return self.model_copy(update=dict.fromkeys(same)) if same else self


class Schedule(ClassGroup):
    pass


class Evaluation(Group):
    protocol: Literal["closed_set", "open_set", "verification"] = key(
        "closed_set",
        "closed_set: classes that were trained on; open_set, verification: others",
        always=True,
    )
    objective: str | None = key(
        None,
        "metric of the validation split that suits the protocol",
        identity=False,
        default_of="objective",
    )
    pairs: Annotated[Whole, Field(ge=10)] | None = key(
        None, "pairs drawn for verification, same and different each; null: every pair"
    )
    ranks: Annotated[list[Annotated[Whole, Field(ge=1)]], Field(min_length=1)] = key(
        [1, 5, 10], "k of Recall@k in open sets"
    )
    map_at: Annotated[Whole, Field(ge=1)] | None = key(
        None, "K of mAP@K in open sets, besides MAP@R; null: not measured"
    )


class Device(Group):
    kind: Literal["auto", "cpu", "cuda", "mps"] = key("auto", "where to train", identity=False)
    threads: Annotated[Whole, Field(ge=1)] | None = key(
        None, "CPU threads; null: every core that this process may use", identity=False
    )
    precision: Literal["fp32", "bf16", "auto"] = key(
        "fp32", "of the backbone; auto: the faster one. Heads always compute in float32"
    )
    tf32: bool = key(False, "on a GPU, round factors of float32 products to 10 bits")
    deterministic: bool = key(True, "false: faster on a GPU, but last digits vary from run to run")
    graph: Annotated[
        Literal["auto", "off"], BeforeValidator(lambda value: "off" if value is False else value)
    ] = key("off", "auto: on a GPU, replay steps as one CUDA graph; not yet run on one", identity=False)
    compile: bool = key(False, "compile the backbone: a minute that pays in long runs")
    class_parallel: bool = key(
        False, "of several processes, each holds a share of the classes", identity=False
    )

    @property
    def computing(self) -> dict[str, Any]:
        """Return the options of `choose_device`."""
        return {name: value for name, value in self if name != "class_parallel"}


Name = Annotated[str, Field(min_length=1, max_length=128)] | None


class Logger(Group):
    mode: Literal["auto", "online", "offline", "disabled"] = key(
        "auto", "auto: what WANDB_MODE says, else online if W&B accepts your key, else offline"
    )
    project: Name = key(None, "null: WANDB_PROJECT, else angular-penalty")
    entity: Name = key(None, "null: WANDB_ENTITY, else your default team")
    group: Name = key(None, "null: WANDB_RUN_GROUP, else the sweep")
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = key(
        [], "[]: WANDB_TAGS; a run is also tagged with its loss, data set and model"
    )
    tensorboard: bool = key(False, "true: event files in <run>/tensorboard as well")
    artifacts: bool = key(False, "true: keep each run's model in W&B, as an artifact")
    timeout: Rate = key(
        60.0, "seconds that a run's end waits for W&B's server; make sync uploads the rest"
    )


Share = Annotated[Number, Field(ge=0, le=1)]


class Augment(Group):
    flip: Share = key(0.0, "share of images to mirror")
    crop: Annotated[Whole, Field(ge=0, le=64)] = key(
        0, "pixels to move by at most; the border is repeated"
    )
    resized_crop: Share = key(
        0.0, "smallest share of the area of which a rectangle becomes the image; 0: off"
    )
    rotate: Annotated[Number, Field(ge=0, le=180)] = key(0.0, "degrees, either way")
    shift: Share = key(0.0, "share of the image's sides to move by")
    zoom: Annotated[Number, Field(ge=0, le=0.9)] = key(0.0, "share, larger or smaller")
    shear: Annotated[Number, Field(ge=0, le=45)] = key(0.0, "degrees, either way")
    erase: Share = key(0.0, "share of images that lose a rectangle")


Factor = Annotated[Number, Field(ge=0, lt=1e6)]


class Spread(Group):
    regularface: Factor = key(
        0.0,
        "times RegularFace's penalty, each class's cosine to the nearest other",
    )
    mhe: Factor = key(0.0, "times MHE's penalty, 1 / squared distance of each pair of classes")


class Sampler(Group):
    kind: Literal["shuffled", "balanced", "classes"] = key(
        "shuffled",
        "shuffled: each image once an epoch; balanced: each class as often; classes: P × K batches",
    )
    samples_per_class: Annotated[Whole, Field(ge=2)] | None = key(None, "K of sampler.kind=classes")
    images: Annotated[Whole, Field(ge=1)] | None = key(
        None, "images in an epoch, drawn anew for each; null: as many as there are"
    )


LayerName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
Frozen = Annotated[
    Annotated[str, Field(min_length=1)] | Annotated[list[LayerName], Field(min_length=1)],
    Field(description="body, norms or a list of layers"),
]


class Init(Group):
    source: Folder | None = key(
        None, "where weights begin: a run's folder, best:<sweep> or a file of weights", alias="from"
    )
    freeze: Frozen | None = key(
        None, "what stays as it begins: body, norms, or a list of layers as in [conv1,layer1]"
    )


class Ema(Group):
    decay: Annotated[Number, Field(gt=0, lt=1)] | None = key(
        None, "0.999: the model is the moving average of the weights over the steps"
    )


class Checkpoint(Group):
    keep: Literal["last", "best", "both"] = key(
        "last", "the model of the last epoch, or of the best by the objective, or both"
    )


class EarlyStopping(Group):
    patience: Annotated[Whole, Field(ge=1)] | None = key(
        None, "epochs without a better objective after which training stops"
    )


class Plots(Group):
    figures: bool = key(True, "draw plots/*.png; false suits sweeps of short runs")
    animate: bool = key(False, "draw plots/training.gif, the embeddings over the epochs")


class Config(Group):
    """The configuration of a run."""

    seed: Annotated[Whole, Field(ge=0)] = key(
        0, "seed of weights, shuffling and augmentation", always=True
    )
    epochs: Annotated[Whole, Field(ge=1)] = key(30, "passes over the training images", always=True)
    batch_size: Annotated[Whole, Field(ge=1)] = key(64, "images in a batch", always=True)
    objective: str | None = key(
        None,
        "metric by which settings, epochs and searches are judged; null: evaluation.objective",
        identity=False,
    )
    loss: Loss
    margin: Margin = Margin()
    scale: Scale = Scale()
    model: Model
    neck: Neck = Neck()
    evaluation: Evaluation = Evaluation()
    dataset: Dataset
    augment: Augment = Augment()
    spread: Spread = Spread()
    sampler: Sampler = Sampler()
    optimizer: Optimizer
    schedule: Schedule
    init: Init = Init()
    ema: Ema = Ema()
    plan: bool = key(False, "true: train nothing, and say what memory it would take", identity=False)
    checkpoint: Checkpoint = Checkpoint()
    early_stopping: EarlyStopping = EarlyStopping()
    device: Device = Device()
    plots: Plots = Field(Plots(), json_schema_extra={"identity": False})
    logger: Logger = Field(Logger(), json_schema_extra={"identity": False})
    choices: dict[str, str] = key({}, "the choice of each group, as Hydra knows it", identity=False)
    start: str | None = key(None, "a hash of the weights that init.from names", identity=False)

    @model_validator(mode="after")
    def defaults_of_others(self) -> "Config":
        """Fill in the keys whose null means another key's value."""
        computed = self.scale.kind.startswith("adacos")
        dimensions = self.dataset.embedding_dim or 128
        return self.model_copy(
            update={
                "margin": filled(self.margin, value=self.loss.margin),
                "scale": self.scale if computed else filled(self.scale, value=self.loss.scale),
                "model": filled(self.model, embedding_dim=dimensions),
                "objective": self.objective or self.evaluation.objective,
            }
        )

    def name(self, group: str) -> str:
        """The name of a group's choice, or of its class where none was chosen."""
        return self.choices.get(group) or getattr(self, group).target.rpartition(".")[2]

    def plain(self) -> dict[str, Any]:
        """The configuration as plain data, which `Config.model_validate` reads."""
        return self.model_dump(mode="json", by_alias=True)

    def replace(self, **groups: Any) -> "Config":
        """The same with other keys: `replace(seed=1, dataset={"fold": 2})`."""
        update = {
            name: getattr(self, name).model_copy(update=value)
            if isinstance(getattr(self, name), Group) and isinstance(value, dict)
            else value
            for name, value in groups.items()
        }
        return self.model_copy(update=update)


def filled(group: Group, **values: Any) -> Group:
    """A group with these values where it has null."""
    missing = {name: value for name, value in values.items() if getattr(group, name) is None}
    return group.model_copy(update=missing) if missing else group


class Leaf(NamedTuple):
    """A key of a configuration: its dotted name, value, the default that a run's identity leaves out,
    whether it counts for that at all, and whether it is an argument of a class."""

    key: str
    value: Any
    default: Any = ...
    identity: bool = True
    argument: bool = False


def leaves(group: Group, prefix: str = "", identity: bool = True) -> Iterator[Leaf]:
    """Every key of a tree, those of classes' arguments included."""
    for name, field in type(group).model_fields.items():
        value, dotted = getattr(group, name), f"{prefix}{field.alias or name}"
        extra = field.json_schema_extra or {}
        counts = identity and extra.get("identity", True)
        if isinstance(value, Group):
            yield from leaves(value, f"{dotted}.", counts)
        else:
            always = extra.get("always") or field.is_required()
            yield Leaf(dotted, value, ... if always else field.default, counts)
    yield from leaves_of_arguments(group.model_extra or {}, prefix)


def leaves_of_arguments(arguments: dict[str, Any], prefix: str) -> Iterator[Leaf]:
    """Every argument of a class, and of the objects in it: in a dict, or in a list that holds dicts."""
    for name, value in arguments.items():
        if isinstance(value, (list, tuple)) and holds_dict(value):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, dict) and value:
            yield from leaves_of_arguments(value, f"{prefix}{name}.")
        else:
            yield Leaf(f"{prefix}{name}", value, argument=True)


def holds_dict(value: Any) -> bool:
    """Return whether there is a dict in a value, at any depth."""
    return isinstance(value, dict) or (isinstance(value, (list, tuple)) and any(map(holds_dict, value)))


def base() -> dict[str, Any]:
    """The defaults of all keys, on which Hydra composes."""

    def of(group: type[Group]) -> dict[str, Any]:
        values = {}
        for name, field in group.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
                values[name] = of(field.annotation)
            elif not field.is_required():
                values[field.alias or name] = field.default
        return values

    return {name: value for name, value in of(Config).items() if name not in FILLED_IN}
