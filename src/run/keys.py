"""The keys that a configuration may have, and which values are legal of those that no class takes.

Imports no torch: mistakes in these are answered at once."""

from ..arguments import TRUE_OR_FALSE, Legal, is_number, is_whole
from ..errors import Mistakes, UserError
from .identity import AUGMENTATIONS, VALUE_ONLY

TOP_LEVEL = ("seed", "epochs", "batch_size", "objective")
# The keys of each group besides its class's own arguments.
OWN_KEYS = {
    "loss": ("_target_", "name", "margin", "scale", "options", "few_classes"),
    "model": ("_target_", "name", "pretrained", "embedding_dim", "norm", "dropout", "options"),
    "dataset": (
        *("_target_", "name", "root", "val_fraction", "memory", "folds", "fold"),
        *("embedding_dim", "published"),
    ),
    "optimizer": (
        *("_target_", "name", "lr", "head_lr", "backbone_lr", "layer_decay"),
        *("accumulate", "clip_norm", "options"),
    ),
    "schedule": ("_target_", "name", "options"),
}
# The keys of each group that are read, besides the arguments of its class.
KEYS = {
    **OWN_KEYS,
    "margin": ("name", "value", "start", "epochs", "shape"),
    "scale": ("name", "value"),
    "evaluation": ("name", "objective", "pairs"),
    "device": ("name", "threads", "precision", "tf32", "deterministic", "graph", "compile"),
    "logger": ("name", "mode", "project", "entity", "group", "tags", "timeout"),
    "augment": AUGMENTATIONS,
    "plots": ("figures", "animate"),
    "sampler": ("name", "samples_per_class"),
    "init": ("from", "freeze"),
    "ema": ("decay",),
    "checkpoint": ("keep",),
    "early_stopping": ("patience",),
}
# Those of them that a group can do without.
OPTIONAL = {
    "loss": ("few_classes",),
    "margin": ("start", "epochs", "shape"),
    "model": ("pretrained",),
    "evaluation": ("objective", "pairs"),
    "dataset": ("embedding_dim", "published", "folds", "fold"),
    "device": ("tf32", "deterministic", "graph", "compile"),
    "plots": ("figures",),
    "logger": ("mode", "project", "entity", "group", "tags", "timeout"),
}
OPTIONAL["augment"] = KEYS["augment"]
FEW_CLASSES = ("margin", "scale", "head_lr")
# What is built to see whether it can be, and from which keys.
BUILT_OF = {
    "loss": ("loss", "margin", "scale"),
    "optimizer": ("optimizer", "schedule", "epochs"),
}
CHOICES = {
    "margin.name": (*VALUE_ONLY, "warmup"),
    "scale.name": (*VALUE_ONLY, "adacos", "adacos_dynamic", "learnable"),
    "device.name": ("auto", "cpu", "cuda", "mps"),
    "device.precision": ("fp32", "bf16", "auto"),
    "checkpoint.keep": ("last", "best", "both"),
    "sampler.name": ("shuffled", "balanced", "classes"),
    "logger.name": ("wandb", "none"),
}


def whole_below_2_to_63(least: int) -> Legal:
    return Legal(f"a whole number from {least}", lambda n: is_whole(n) and least <= n < 2**63)


def is_rate(value: object) -> bool:
    return is_number(value) and 0 < value < 1e6


RATE_OR_NULL = Legal(
    "a number above 0 and below a million, or null", lambda value: value is None or is_rate(value)
)
# What is legal for keys that no class takes.
VALUES = {
    "seed": whole_below_2_to_63(0),
    "epochs": whole_below_2_to_63(1),
    "batch_size": whole_below_2_to_63(1),
    "model.embedding_dim": whole_below_2_to_63(2),
    "device.threads": Legal(
        "a whole number from 1, or null for every core",
        lambda value: value is None or (is_whole(value) and value >= 1),
    ),
    "optimizer.lr": Legal("a number above 0 and below a million", is_rate),
    "optimizer.head_lr": RATE_OR_NULL,
    "optimizer.backbone_lr": RATE_OR_NULL,
    "optimizer.layer_decay": Legal(
        "a number above 0, up to 1", lambda value: is_number(value) and 0 < value <= 1
    ),
    "optimizer.accumulate": whole_below_2_to_63(1),
    "optimizer.clip_norm": Legal(
        "a number above 0, or null", lambda value: value is None or is_rate(value)
    ),
    "early_stopping.patience": Legal(
        "a number of epochs from 1, or null",
        lambda value: value is None or (is_whole(value) and value >= 1),
    ),
    "init.from": Legal(
        "a run's folder, best:<sweep>, a file of weights, or null",
        lambda value: value is None or isinstance(value, str),
    ),
    "init.freeze": Legal(
        "body, or a list of names, or null",
        lambda value: (
            value is None
            or (isinstance(value, str) and value)
            or (isinstance(value, list) and value and all(type(name) in (str, int) for name in value))
        ),
    ),
    "ema.decay": Legal(
        "a number above 0 and below 1, or null",
        lambda value: value is None or (is_number(value) and 0 < value < 1),
    ),
    "plots.figures": TRUE_OR_FALSE,
    "plots.animate": TRUE_OR_FALSE,
    "device.graph": Legal(
        "auto or off",
        lambda value: value in ("auto", "off") or value is False,  # off in YAML
    ),
    "device.tf32": TRUE_OR_FALSE,
    "device.deterministic": TRUE_OR_FALSE,
    "device.compile": TRUE_OR_FALSE,
}


def check_values(config: dict) -> None:
    """Raise UserError, with a line for each value of CHOICES and VALUES that is there and not legal."""
    mistakes = Mistakes()
    for key, known in CHOICES.items():
        for value in values_at(config, key):
            mistakes.of(check_choice, key, value, known)
    for key, rule in VALUES.items():
        for value in values_at(config, key):
            if not rule.test(value):
                mistakes.add(f"{key}={value}: {rule.words}")
    mistakes.refuse()


def values_at(config: dict, key: str) -> list[object]:
    """The value of a key with dots, if there is one."""
    first, _, rest = key.partition(".")
    if not isinstance(config, dict) or first not in config:
        return []
    return values_at(config[first], rest) if rest else [config[first]]


def check_choice(key: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{key}={value}: choose one of {', '.join(known)}")
