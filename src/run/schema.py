"""What a configuration may say, checked before anything runs.

What a class takes, its own signature says, and which values are legal, it knows itself (options.py).
keys.py holds the keys that are read at all; this module, what crosses groups.
Configurations are plain dicts, as Hydra composed them.
"""

from collections.abc import Iterable
from pathlib import Path

from ..arguments import is_whole, parameters, suggestion
from ..errors import Mistakes, UserError
from ..evaluation import EVALUATIONS
from ..losses import CosineHead, MarginHead
from ..tracking import check_logger
from ..training import WARMUPS
from .best import run_folder
from .best_epoch import model_file
from .build import check_parts
from .identity import VALUE_ONLY
from .keys import (
    BUILT_OF,
    FEW_CLASSES,
    KEYS,
    OPTIONAL,
    TOP_LEVEL,
    check_choice,
    check_values,
    is_rate,
)
from .options import FILLED_IN, check_targets, options_of, target_of
from .targets import locate


def check_config(config: dict, groups: Iterable[str] = tuple(FILLED_IN)) -> None:
    """Raise UserError, with a line for each thing that is wrong in a resolved configuration. Only the
    classes of `groups` are imported and asked what they take."""
    check_structure(config)
    mistakes = Mistakes()
    mistakes.of(check_keys, config)
    mistakes.of(check_values, config)
    mistakes.of(check_evaluation, config)
    mistakes.of(check_patience, config)
    mistakes.of(check_sampler, config["sampler"])
    mistakes.of(check_frozen, config)
    if "optimizer" in groups:  # else nothing is trained, and nothing reported
        mistakes.of(check_logger, config["logger"])
        mistakes.of(check_init, config["init"]["from"])
    mistakes.of(check_targets, config, groups)
    mistakes.of(check_margin, config)
    mistakes.of(check_scale, config)
    # What is refused already is not built.
    built = [
        part
        for part, groups_of_it in BUILT_OF.items()
        if part in groups and not any(line.startswith(groups_of_it) for line in mistakes.lines)
    ]
    mistakes.of(check_parts, config, built)
    mistakes.refuse()


def check_structure(config: dict) -> None:
    """Name the groups and keys that are missing."""
    mistakes = Mistakes()
    for key in (*TOP_LEVEL, *KEYS):
        if key not in config:
            mistakes.add(f"{key}: missing, the configuration is not one of src.train")
    mistakes.refuse()
    for group, known in KEYS.items():
        if not isinstance(config[group], dict):
            mistakes.add(f"{group}={config[group]}: give its keys, as in {group}.{known[0]}=…")
            continue
        wandb = group == "logger" and config["logger"].get("name") == "wandb"
        for key in known:
            needed = wandb and key != "timeout"  # which older runs do without
            if key not in config[group] and (needed or key not in OPTIONAL.get(group, ())):
                mistakes.add(f"{group}.{key}: missing, give it, or choose a whole {group} group")
        if group in FILLED_IN and group != "dataset" and "options" in config[group]:
            mistakes.of(options_of, group, config[group])
    mistakes.refuse()


def check_keys(config: dict) -> None:
    """Refuse keys that nothing reads, however they came in, with `+` or from somebody's YAML."""
    mistakes = Mistakes()
    for key, value in config.items():
        if key in TOP_LEVEL:
            continue
        if key not in KEYS:
            mistakes.of(refuse_key, key, value, config)
            continue
        for name, inner in value.items():
            unread = key == "logger" and config["logger"]["name"] == "none" and name != "name"
            # A data set's other keys are its reader's arguments, which check_targets looks at.
            if unread or (name not in KEYS[key] and key != "dataset"):
                mistakes.of(refuse_key, f"{key}.{name}", inner, config)
    few_classes = config["loss"].get("few_classes") or {}
    if not isinstance(few_classes, dict):
        mistakes.add(f"loss.few_classes={few_classes}: give its keys, {', '.join(FEW_CLASSES)}")
        few_classes = {}
    for name, inner in few_classes.items():
        if name not in FEW_CLASSES:
            mistakes.of(refuse_key, f"loss.few_classes.{name}", inner, config)
    mistakes.refuse()


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
    check_choice("evaluation.name", evaluation["name"], tuple(EVALUATIONS))
    known = EVALUATIONS[evaluation["name"]]
    if objective not in tuple(known):
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


def check_init(source: object) -> None:
    """What a run is to start from is there: it is read only once the data are."""
    if isinstance(source, str) and not model_file(run_folder(Path(source).expanduser())).is_file():
        raise UserError(f"init.from={source}: neither a run's folder nor a file of weights")


def check_patience(config: dict) -> None:
    patience, epochs = config["early_stopping"]["patience"], config["epochs"]
    if is_whole(patience) and is_whole(epochs) and patience >= epochs:
        raise UserError(
            f"early_stopping.patience={patience}: training ends after epochs={epochs} anyway, give "
            "fewer, or null"
        )


def check_frozen(config: dict) -> None:
    """No rate for what does not train."""
    for key, unsaid in (("backbone_lr", None), ("layer_decay", 1)):
        value = config["optimizer"][key]
        if config["init"]["freeze"] == "body" and value != unsaid:
            raise UserError(f"optimizer.{key}={value}: with init.freeze=body nothing trains at it")


def check_sampler(sampler: dict) -> None:
    of_classes, value = sampler["name"] == "classes", sampler["samples_per_class"]
    if of_classes and not (is_whole(value) and value >= 2):
        raise UserError(f"sampler.samples_per_class={value}: a whole number from 2, of a batch's images")
    if not of_classes and value is not None:
        raise UserError(f"sampler.samples_per_class={value}: nothing reads it but sampler.name=classes")


def check_margin(config: dict) -> None:
    """A legal margin for a loss that has one, none for a loss that has none."""
    name, loss, margin = config["loss"]["name"], target_of("loss", config["loss"]), config["margin"]
    warmup, value = margin["name"] == "warmup", margin.get("value")
    if not issubclass(loss, MarginHead):
        if value is not None or warmup:
            given = f"margin={margin['name']}" if value is None else f"margin.value={value}"
            raise UserError(f"{given}: loss={name} has no margin, leave it out or use another loss")
        return
    mistakes = Mistakes()
    for key in ("start", "epochs", "shape"):
        if (key in margin) != warmup:
            whole = "choose the whole group, margin=warmup"
            given = "margin.name=warmup" if warmup else f"margin.{key}={margin[key]}"
            mistakes.add(f"{given}: {whole}")
    mistakes.refuse()
    for key in ("value", "start") if warmup else ("value",):
        if key == "start" and margin["start"] is None:
            continue
        try:
            loss.check_margin(margin.get(key))
        except ValueError as error:
            mistakes.add(f"margin.{key}={margin.get(key)} with loss={name}: {error}")
    if warmup:
        if margin["shape"] not in tuple(WARMUPS):
            mistakes.add(f"margin.shape={margin['shape']}: choose one of {', '.join(WARMUPS)}")
        if not is_rate(margin["epochs"]):
            mistakes.add(f"margin.epochs={margin['epochs']}: a number of epochs above 0")
    mistakes.refuse()


def check_scale(config: dict) -> None:
    """A legal scale for a loss that has one, none for a loss that has none."""
    loss_name, loss, scale = config["loss"]["name"], target_of("loss", config["loss"]), config["scale"]
    name, value = str(scale["name"]), scale.get("value")
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
