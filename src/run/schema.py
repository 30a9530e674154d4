"""What a configuration may say, checked before anything runs.

What a class takes, its own signature says; which values a loss, a margin or a reader accepts, they know
themselves. Here stands what no class can know: the keys that are read at all, and what crosses groups.
Configurations are plain dicts, as Hydra composed them.
"""

import re
from collections.abc import Callable, Mapping

from ..arguments import check_arguments, is_number, is_whole, parameters, suggestion
from ..datasets import Augmentation, load
from ..errors import UserError
from ..evaluation import EVALUATIONS
from ..losses import CosineHead, Head, MarginHead
from ..models import build_backbone, check_neck
from ..tracking import check_logger
from ..training import WARMUPS
from .identity import VALUE_ONLY, flattened
from .targets import call_arguments, in_keys, locate, qualified

TOP_LEVEL = ("seed", "epochs", "batch_size", "objective")
# The keys of each group that are read, besides the arguments of its class.
KEYS = {
    "loss": ("_target_", "name", "margin", "scale", "options", "few_classes"),
    "margin": ("name", "value", "start", "epochs", "shape"),
    "scale": ("name", "value"),
    "model": ("_target_", "name", "pretrained", "embedding_dim", "norm", "dropout", "options"),
    "evaluation": ("name", "objective", "pairs"),
    "dataset": ("_target_", "name", "root", "val_fraction", "memory", "embedding_dim", "published"),
    "optimizer": ("_target_", "name", "lr", "head_lr", "options"),
    "schedule": ("_target_", "name", "options"),
    "device": ("name", "threads", "precision"),
    "logger": ("name", "mode", "project", "entity", "group", "tags"),
    "augment": tuple(name for name in parameters(Augmentation) if name != "generator"),
    "plots": ("animate",),
}
FEW_CLASSES = ("margin", "scale", "head_lr")
# Parameters that a run fills in itself.
FILLED_IN = {
    "loss": (
        *("embedding_dim", "num_classes", "margin", "scale"),
        *("learnable_scale", "dynamic_scale"),
    ),
    "model": ("image_shape", "fetch"),
    "dataset": ("root",),
    "optimizer": ("params", "lr", "foreach"),
    "schedule": ("optimizer", "steps", "epochs"),
}
CHOICES = {
    "margin.name": (*VALUE_ONLY, "warmup"),
    "scale.name": (*VALUE_ONLY, "adacos", "adacos_dynamic", "learnable"),
    "device.name": ("auto", "cpu", "cuda", "mps"),
    "device.precision": ("fp32", "bf16"),
    "logger.name": ("wandb", "none"),
    "evaluation.name": tuple(EVALUATIONS),
}
WHOLE_NUMBERS_FROM = {"seed": 0, "epochs": 1, "batch_size": 1, "model.embedding_dim": 2}


def check_config(config: dict) -> None:
    """Raise UserError, one line, for the first thing that is wrong in a resolved configuration."""
    check_keys(config)
    flat = flattened(config)
    for key, choices in CHOICES.items():
        if flat.get(key) not in choices:
            raise UserError(f"{key}={flat.get(key)}: choose one of {', '.join(choices)}")
    for key, least in WHOLE_NUMBERS_FROM.items():
        if not is_whole(flat.get(key)) or not least <= flat[key] < 2**63:
            raise UserError(f"{key}={flat.get(key)}: a whole number from {least}")
    threads = config["device"]["threads"]
    if threads is not None and not (is_whole(threads) and threads >= 1):
        raise UserError(f"device.threads={threads}: a whole number from 1, or null for every core")
    for key in ("optimizer.lr", "optimizer.head_lr"):
        rate = flat.get(key)
        if not (rate is None and key.endswith("head_lr")) and not (is_number(rate) and 0 < rate < 1e6):
            raise UserError(f"{key}={rate}: a number above 0 and below a million")
    if type(flat.get("plots.animate")) is not bool:
        raise UserError(f"plots.animate={flat.get('plots.animate')}: true or false")
    check_targets(config)
    check_evaluation(config)
    loss = locate("loss", config["loss"]["_target_"])
    check_margin(config["loss"]["name"], loss, config["margin"])
    check_scale(config["loss"]["name"], loss, config["scale"])
    check_logger(config["logger"])


def check_keys(config: dict) -> None:
    """Refuse keys that nothing reads, however they came in: with `+`, or from somebody's YAML."""
    for key in (*TOP_LEVEL, *KEYS):
        if key not in config:
            raise UserError(f"{key}: missing, the configuration is not one of src.train")
    for group, known in KEYS.items():
        if not isinstance(config[group], dict):
            raise UserError(f"{group}={config[group]}: give what is wanted, as in {group}.{known[0]}=…")
        if config["evaluation"] is config[group] and "name" not in config[group]:
            raise UserError(f"evaluation={config[group]}: choose one of {', '.join(EVALUATIONS)}")
    for key, value in config.items():
        if key in TOP_LEVEL:
            continue
        if key not in KEYS:
            refuse_key(key, value, config)
        for name, inner in value.items():
            unread = key == "logger" and config["logger"]["name"] == "none" and name != "name"
            # What a data set has besides are its reader's arguments, which check_targets looks at.
            if unread or (name not in KEYS[key] and key != "dataset"):
                refuse_key(f"{key}.{name}", inner, config)
    for name, inner in (config["loss"].get("few_classes") or {}).items():
        if name not in FEW_CLASSES:
            refuse_key(f"loss.few_classes.{name}", inner, config)


def refuse_key(key: str, value: object, config: dict) -> None:
    while isinstance(value, dict) and value:  # of a whole tree, the first leaf is named
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    known = [name for name in readable_keys(config) if name != key and not name.startswith(f"{key}.")]
    raise UserError(f"{key}={value}: nothing reads this key, {suggestion(key, known)}")


def readable_keys(config: dict) -> list[str]:
    """Every key that would be read in this configuration."""
    keys = [*TOP_LEVEL]
    for group, known in KEYS.items():
        keys += [f"{group}.{key}" for key in known if key in config[group]]
    for group, filled in FILLED_IN.items():
        prefix = f"{group}." if group == "dataset" else f"{group}.options."
        try:
            names = parameters(locate(group, config[group]["_target_"]))
        except (UserError, KeyError, TypeError, ValueError):
            continue
        keys += [f"{prefix}{name}" for name in names if name not in (*filled, *KEYS[group])]
    return keys


def keys_of(group: str, config: dict) -> dict[str, str]:
    """The key of each argument of a group's class: `hidden` -> `model.options.hidden`."""
    section = config[group]
    prefix, given = (
        (f"{group}.", section) if group == "dataset" else (f"{group}.options.", section["options"])
    )
    names = (*parameters(locate(group, section["_target_"])), *given)
    own = {key: f"{group}.{key}" for key in KEYS[group] if key != "options"}
    return (
        {name: f"{prefix}{name}" for name in names}
        | own
        | ({"name": "dataset"} if group == "dataset" else {})
    )


def check_targets(config: dict) -> None:
    """Each group's class can be imported, is of the right kind, and takes the options that are given."""
    for group, filled in FILLED_IN.items():
        section = config[group]
        if not isinstance(section.get("_target_"), str):
            raise UserError(
                f"{group}._target_={section.get('_target_')}: name a class, as in a.module.Class"
            )
        target = locate(group, section["_target_"])
        if group == "loss" and not (isinstance(target, type) and issubclass(target, Head)):
            raise UserError(f"loss._target_={section['_target_']}: not a subclass of src.losses.Head")
        given = options_of(group, section, target)
        with_keys = keys_of(group, config)
        check_given(target, given, with_keys, filled, f"{group}={section['name']}")
    neck = {key: config["model"][key] for key in ("embedding_dim", "norm", "dropout")}
    check_given(build_backbone, neck, {key: f"model.{key}" for key in neck})
    body = locate("model", config["model"]["_target_"])
    with qualified("model", {key: f"model.{key}" for key in neck}, "model"):
        check_neck(body, norm=neck["norm"], dropout=neck["dropout"])
    reading = {key: config["dataset"].get(key) for key in ("root", "val_fraction", "memory")}
    check_given(load, reading, {key: f"dataset.{key}" for key in reading})
    check_given(Augmentation, config["augment"], {key: f"augment.{key}" for key in KEYS["augment"]})


def options_of(group: str, section: dict, target: Callable) -> dict:
    """What a group gives to its class."""
    if group == "dataset":
        return {key: value for key, value in section.items() if key not in KEYS["dataset"]}
    if not isinstance(section["options"], dict):
        raise UserError(
            f"{group}.options={section['options']}: give what is wanted, as in {group}.options.x=1"
        )
    others = {key: section[key] for key in ("name", "pretrained") if group == "model" and key in section}
    return call_arguments(target, others, section["options"])


def check_given(
    target: Callable,
    given: Mapping,
    keys: Mapping[str, str],
    filled: tuple[str, ...] = (),
    what: str = "",
) -> None:
    try:
        check_arguments(target, given, filled)
    except ValueError as error:
        message = str(error).replace(
            "no such option", f"{what} has no such option" if what else "no such key"
        )
        message = re.sub(r"(?<=did you mean )\w+", lambda near: keys.get(near[0], near[0]), message)
        name = message.partition("=")[0]
        raise UserError(in_keys(message, {name: keys.get(name, name)} | dict(keys))) from None


def check_evaluation(config: dict) -> None:
    """An objective that the evaluation measures, and a number of pairs."""
    evaluation, objective = config["evaluation"], config["objective"]
    known = EVALUATIONS[evaluation["name"]]
    if objective not in known:
        raise UserError(
            f"objective={objective}: choose one of {', '.join(known)} (evaluation={evaluation['name']})"
        )
    if evaluation["name"] != "closed_set" and "pairs" not in evaluation:  # another group's, renamed
        name = evaluation["name"]
        raise UserError(f"evaluation.name={name}: choose the whole group, as in evaluation={name}")
    if evaluation["name"] == "closed_set" and "pairs" in evaluation:
        refuse_key("evaluation.pairs", evaluation["pairs"], config)
    pairs = evaluation.get("pairs")
    if pairs is not None and not (is_whole(pairs) and pairs >= 10):
        raise UserError(f"evaluation.pairs={pairs}: a whole number from 10, or null for every pair")


def check_margin(name: str, loss: type[Head], margin: dict) -> None:
    """A legal margin for a loss that has one, none for a loss that has none."""
    warmup, value = margin["name"] == "warmup", margin.get("value")
    if not issubclass(loss, MarginHead):
        if value is not None or warmup:
            given = f"margin={margin['name']}" if value is None else f"margin.value={value}"
            raise UserError(f"{given}: loss={name} has no margin, leave it out or use another loss")
        return
    for key in ("start", "epochs", "shape"):
        if (key in margin) != warmup:
            whole = "choose the whole group, margin=warmup"
            raise UserError(
                f"margin.name=warmup: {whole}" if warmup else f"margin.{key}={margin[key]}: {whole}"
            )
    for key in ("value", "start") if warmup else ("value",):
        if key == "start" and margin["start"] is None:
            continue
        try:
            loss.check_margin(margin.get(key))
        except ValueError as error:
            raise UserError(f"margin.{key}={margin.get(key)} with loss={name}: {error}") from None
    if warmup:
        if margin["shape"] not in WARMUPS:
            raise UserError(f"margin.shape={margin['shape']}: choose one of {', '.join(WARMUPS)}")
        if not (is_number(margin["epochs"]) and 0 < margin["epochs"] < 1e6):
            raise UserError(f"margin.epochs={margin['epochs']}: a number of epochs above 0")


def check_scale(loss_name: str, loss: type[Head], scale: dict) -> None:
    """A legal scale for a loss that has one, none for a loss that has none."""
    name, value = scale["name"], scale.get("value")
    if not loss.has_scale:
        if value is not None or name not in VALUE_ONLY:
            given = f"scale={name}" if value is None else f"scale.value={value}"
            raise UserError(f"{given}: loss={loss_name} has no scale, leave it out")
    elif name.startswith("adacos"):
        if value is not None:
            raise UserError(f"scale.value={value}: scale={name} computes it, leave one of them out")
        if not loss.softmax_type:
            raise UserError(
                f"scale={name}: made for softmax, loss={loss_name} has none, use scale.value=8"
            )
    else:
        try:
            CosineHead.check_scale(value)
        except ValueError as error:
            raise UserError(f"scale.value={value} with loss={loss_name}: {error}") from None
