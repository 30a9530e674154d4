"""What a configuration may say, checked before anything runs.

What a class takes, its own signature says, and which values are legal, it knows itself (options.py).
This module holds what no class can know: the keys that are read at all, and what crosses groups.
Configurations are plain dicts, as Hydra composed them.
"""

from collections.abc import Iterable

from ..arguments import is_number, is_whole, parameters, suggestion
from ..datasets import Augmentation
from ..errors import UserError
from ..evaluation import EVALUATIONS
from ..losses import CosineHead, Head, MarginHead
from ..tracking import check_logger
from ..training import WARMUPS
from .identity import VALUE_ONLY, flattened
from .options import FILLED_IN, OWN_KEYS, check_targets
from .targets import locate

TOP_LEVEL = ("seed", "epochs", "batch_size", "objective")
# The keys of each group that are read, besides the arguments of its class.
KEYS = {
    **OWN_KEYS,
    "margin": ("name", "value", "start", "epochs", "shape"),
    "scale": ("name", "value"),
    "evaluation": ("name", "objective", "pairs"),
    "device": ("name", "threads", "precision"),
    "logger": ("name", "mode", "project", "entity", "group", "tags", "timeout"),
    "augment": tuple(name for name in parameters(Augmentation) if name != "generator"),
    "plots": ("animate",),
}
# Those of them that a group can do without.
OPTIONAL = {
    "loss": ("few_classes",),
    "margin": ("start", "epochs", "shape"),
    "model": ("pretrained",),
    "evaluation": ("objective", "pairs"),
    "dataset": ("embedding_dim", "published"),
    "logger": ("mode", "project", "entity", "group", "tags", "timeout"),
}
OPTIONAL["augment"] = KEYS["augment"]
FEW_CLASSES = ("margin", "scale", "head_lr")
CHOICES = {
    "margin.name": (*VALUE_ONLY, "warmup"),
    "scale.name": (*VALUE_ONLY, "adacos", "adacos_dynamic", "learnable"),
    "device.name": ("auto", "cpu", "cuda", "mps"),
    "device.precision": ("fp32", "bf16"),
    "logger.name": ("wandb", "none"),
    "evaluation.name": tuple(EVALUATIONS),
}
WHOLE_NUMBERS_FROM = {"seed": 0, "epochs": 1, "batch_size": 1, "model.embedding_dim": 2}


def check_config(config: dict, groups: Iterable[str] = tuple(FILLED_IN)) -> None:
    """Raise UserError, one line, for the first thing that is wrong in a resolved configuration. Only the
    classes of `groups` are imported and asked what they take."""
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
    check_targets(config, groups)
    check_evaluation(config)
    loss = locate("loss", config["loss"]["_target_"])
    check_margin(config["loss"]["name"], loss, config["margin"])
    check_scale(config["loss"]["name"], loss, config["scale"])
    if "optimizer" in groups:  # else nothing is trained, and nothing reported
        check_logger(config["logger"])


def check_keys(config: dict) -> None:
    """Refuse keys that nothing reads, however they came in, with `+` or from somebody's YAML; and name
    those that are missing."""
    for key in (*TOP_LEVEL, *KEYS):
        if key not in config:
            raise UserError(f"{key}: missing, the configuration is not one of src.train")
    for group, known in KEYS.items():
        if not isinstance(config[group], dict):
            raise UserError(f"{group}={config[group]}: give its keys, as in {group}.{known[0]}=…")
        wandb = group == "logger" and config["logger"].get("name") == "wandb"
        for key in known:
            needed = wandb and key != "timeout"  # which older runs do without
            if key not in config[group] and (needed or key not in OPTIONAL.get(group, ())):
                raise UserError(f"{group}.{key}: missing, give it, or choose a whole {group} group")
    for key, value in config.items():
        if key in TOP_LEVEL:
            continue
        if key not in KEYS:
            refuse_key(key, value, config)
        for name, inner in value.items():
            unread = key == "logger" and config["logger"]["name"] == "none" and name != "name"
            # A data set's other keys are its reader's arguments, which check_targets looks at.
            if unread or (name not in KEYS[key] and key != "dataset"):
                refuse_key(f"{key}.{name}", inner, config)
    few_classes = config["loss"].get("few_classes") or {}
    if not isinstance(few_classes, dict):
        raise UserError(f"loss.few_classes={few_classes}: give its keys, {', '.join(FEW_CLASSES)}")
    for name, inner in few_classes.items():
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
