"""What a configuration may say: everything that can be wrong, found before training starts.

Configurations are plain dicts here, as Hydra composed them. Data sets and devices check themselves
when they are opened, also before training.
"""

import copy
import difflib
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override

from .datasets import AUGMENTATIONS, FOLDERS, READERS, reader_options
from .errors import UserError
from .evaluation import EVALUATIONS
from .losses import HEADS, CosineHead, MarginHead, adacos_scale
from .models import BACKBONES, LIBRARIES, NECKLESS, library_names
from .runs import read_summary
from .training import OPTIMIZERS, SCHEDULES, WARMUPS

CONF = Path(__file__).parents[1] / "conf"

# Where and how a run computes and reports does not change what it is.
NOT_IDENTITY = ("logger", "device", "objective", "plots")

CHOICES = {
    "loss.name": tuple(HEADS),
    "margin.name": ("paper", "few_classes", "constant", "warmup"),
    "scale.name": ("paper", "few_classes", "fixed", "adacos", "adacos_dynamic", "learnable"),
    "dataset.name": tuple(READERS),
    "optimizer.name": tuple(OPTIMIZERS),
    "schedule.name": tuple(SCHEDULES),
    "device.name": ("auto", "cpu", "cuda", "mps"),
    "device.precision": ("fp32", "bf16"),
    "logger.name": ("wandb", "none"),
    "evaluation.name": tuple(EVALUATIONS),
}


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole_from(least: int) -> tuple[str, Callable[[object], bool]]:
    return f"a whole number from {least}", lambda v: _is_whole(v) and v >= least


# What the options of data sets may be, in words and as a test.
DATASET_OPTIONS = {
    "root": (
        "a folder, a number in quotes: 'dataset.root=\"2024\"'",
        lambda v: isinstance(v, str),
    ),
    "memory": ("GiB, 0 or more", lambda v: _is_number(v) and v >= 0),
    "size": (
        "height and width, 4 to 4096 pixels, as in dataset.size=[112,112]; null: as they are",
        lambda v: (
            v is None
            or (isinstance(v, list) and len(v) == 2 and all(_is_whole(n) and 4 <= n <= 4096 for n in v))
        ),
    ),
    "channels": (
        "1 grey, 3 RGB, null as the images are",
        lambda v: v is None or (_is_whole(v) and v in (1, 3)),
    ),
    "min_images": ("a whole number from 1, or null", lambda v: v is None or (_is_whole(v) and v >= 1)),
    "skip_broken": ("true or false", lambda v: type(v) is bool),
    "split": (f"choose one of {', '.join(EVALUATIONS)}", lambda v: v in EVALUATIONS),
    "pairs": ("a file below dataset.root", lambda v: isinstance(v, str)),
    "train": ("a folder, from dataset.root, or null", lambda v: v is None or isinstance(v, str)),
    "test_fraction": ("a share above 0, 1 to train on none", lambda v: _is_number(v) and 0 < v <= 1),
    "concentration": ("a number above 0", lambda v: _is_number(v) and v > 0),
    "split_seed": _whole_from(0),
    "data_seed": _whole_from(0),
    "classes": _whole_from(2),
    "dimension": _whole_from(2),
    "per_class": _whole_from(1),
    "test_per_class": _whole_from(1),
}
AS_THE_LOSS_HAS_IT = ("paper", "few_classes")  # margins and scales that may be none
WHOLE_NUMBERS_FROM = {"seed": 0, "epochs": 1, "batch_size": 1, "model.embedding_dim": 2}


def to_dict(config: DictConfig) -> dict:
    """A composed configuration as plain data. Raises UserError naming a value that
    was not given."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} has no value: give one, as in {missing[0]}=0.3")
    return OmegaConf.to_container(config, resolve=True)


def get(config: dict, key: str):
    """`get(config, "margin.value")`; None where there is no such key."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def config_hash(config: dict) -> str:
    """Sixteen hex digits of what a run computes, without where and how: equal hashes, equal results
    on one machine with one number of threads."""
    identity = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    here = ("memory",) if config["dataset"]["name"] in FOLDERS else ("memory", "root")
    identity["dataset"] = {key: value for key, value in config["dataset"].items() if key not in here}
    identity["precision"] = config["device"]["precision"]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def identity_in(folder: Path) -> str | None:
    """The `config_hash` of the run that a folder holds, finished or not; None where there is none, or
    none that got so far that it could be told."""
    summary = read_summary(folder)
    if summary and "config_hash" in summary:
        return summary["config_hash"]
    try:
        return config_hash(to_dict(OmegaConf.load(folder / ".hydra" / "config.yaml")))
    except Exception:  # not a run's folder, or one that was killed while Hydra wrote
        return None


def check(config: dict) -> None:
    """Raise UserError, one line, for the first thing that is wrong in a resolved configuration."""
    for key, choices in CHOICES.items():
        if get(config, key) not in choices:
            raise UserError(f"{key}={get(config, key)}: choose one of {', '.join(choices)}")
    for key, least in WHOLE_NUMBERS_FROM.items():
        value = get(config, key)
        if not _is_whole(value) or not least <= value < 2**63:
            raise UserError(f"{key}={value}: a whole number from {least}")
    threads = config["device"]["threads"]
    if threads is not None and not (_is_whole(threads) and threads >= 1):
        raise UserError(f"device.threads={threads}: a whole number from 1, or null for every core")
    for key in ("optimizer.lr", "optimizer.head_lr"):
        rate = get(config, key)
        if not (rate is None and key.endswith("head_lr")) and not (_is_number(rate) and 0 < rate < 1e6):
            raise UserError(f"{key}={rate}: a number above 0 and below a million")
    fraction = get(config, "dataset.val_fraction")
    if not (_is_number(fraction) and 0 <= fraction < 1):
        raise UserError(
            f"dataset.val_fraction={fraction}: a share of the training images, from 0 to below 1"
        )
    check_model(config["model"])
    check_dataset(config["dataset"])
    check_evaluation(config)
    if not isinstance(config["augment"], dict):
        raise UserError(f"augment={config['augment']}: give what is wanted, as in augment.flip=0.5")
    for key, value in config["augment"].items():
        if key not in AUGMENTATIONS:
            raise UserError(f"augment.{key}={value}: choose from {', '.join(AUGMENTATIONS)}")
        least, most = AUGMENTATIONS[key]
        right, kind = (_is_whole, "whole number") if key == "crop" else (_is_number, "number")
        if not (right(value) and least <= value <= most):
            raise UserError(f"augment.{key}={value}: a {kind} from {least} to {most}")
    if type(get(config, "plots.animate")) is not bool:
        raise UserError(f"plots.animate={get(config, 'plots.animate')}: true or false")
    check_margin(config["loss"]["name"], config["margin"])
    check_scale(config["loss"]["name"], config["scale"])


def check_model(model: dict) -> None:
    """A name that the model's library has, and a neck that can be."""
    library = model.get("library")
    if library not in (None, *LIBRARIES):
        raise UserError(f"model.library={library}: choose one of {', '.join(LIBRARIES)}, or null")
    name, known = model["name"], library_names(library) if library else tuple(BACKBONES)
    if name not in known and library:
        near = ", ".join(difflib.get_close_matches(str(name), known, 8, 0.4)) or "none"
        raise UserError(f"model.name={name}: {library} has none of this name; near it are {near}")
    if name not in known:
        raise UserError(f"model.name={name}: choose one of {', '.join(known)}")
    for key in ("norm", "pretrained"):
        if type(model.get(key, False)) is not bool:
            raise UserError(f"model.{key}={model[key]}: true or false")
    if not (_is_number(model["dropout"]) and 0 <= model["dropout"] < 1):
        raise UserError(f"model.dropout={model['dropout']}: a share from 0 to below 1")
    for key in ("norm", "dropout") if name in NECKLESS else ():
        if model[key]:
            raise UserError(f"model.{key}={model[key]}: model={name} has no neck, leave it out")


def check_dataset(dataset: dict) -> None:
    """Options that the data set's reader has, each of a kind that it takes."""
    options = reader_options(dataset["name"])
    for key in set(dataset) - options - {"name", "root", "val_fraction", "memory"}:
        known = f"its options are {', '.join(sorted(options))}" if options else "it has no options"
        raise UserError(f"dataset.{key}={dataset[key]}: dataset={dataset['name']} has no {key}, {known}")
    for key, (right, legal) in DATASET_OPTIONS.items():
        if key in dataset and not legal(dataset[key]):
            raise UserError(f"dataset.{key}={dataset[key]}: {right}")


def check_evaluation(config: dict) -> None:
    """An objective that the evaluation knows, and a number of pairs."""
    evaluation, objective = config["evaluation"], config["objective"]
    known = EVALUATIONS[evaluation["name"]]
    if objective not in known:
        raise UserError(
            f"objective={objective}: choose one of {', '.join(known)} (evaluation={evaluation['name']})"
        )
    if evaluation["name"] != "closed_set" and "pairs" not in evaluation:  # another group's, renamed
        name = evaluation["name"]
        raise UserError(f"evaluation.name={name}: choose the whole group, as in evaluation={name}")
    pairs = evaluation.get("pairs")
    if pairs is not None and not (_is_whole(pairs) and pairs >= 10):
        raise UserError(f"evaluation.pairs={pairs}: a whole number from 10, or null for every pair")


def check_margin(loss: str, margin: dict) -> None:
    """A legal margin for a loss that has one, none for a loss that has none."""
    head, value = HEADS[loss], margin["value"]
    if not issubclass(head, MarginHead):
        if value is not None or margin["name"] not in AS_THE_LOSS_HAS_IT:
            given = f"margin={margin['name']}" if value is None else f"margin.value={value}"
            with_margin = ", ".join(n for n, h in HEADS.items() if issubclass(h, MarginHead))
            raise UserError(f"{given}: loss={loss} has no margin, leave it out or use {with_margin}")
        return
    for key in ("value", "start") if margin["name"] == "warmup" else ("value",):
        if key == "start" and margin["start"] is None:
            continue
        try:
            head.check_margin(margin[key])
        except ValueError as error:
            raise UserError(f"margin.{key}={margin[key]} with loss={loss}: {error}") from None
    if margin["name"] == "warmup":
        if margin["shape"] not in WARMUPS:
            raise UserError(f"margin.shape={margin['shape']}: choose one of {', '.join(WARMUPS)}")
        if not (_is_number(margin["epochs"]) and 0 < margin["epochs"] < 1e6):
            raise UserError(f"margin.epochs={margin['epochs']}: a number of epochs above 0")


def check_scale(loss: str, scale: dict) -> None:
    """A legal scale for a loss that has one, none for a loss that has none."""
    name, value = scale["name"], scale["value"]
    if not HEADS[loss].has_scale:
        if value is not None or name not in AS_THE_LOSS_HAS_IT:
            given = f"scale={name}" if value is None else f"scale.value={value}"
            raise UserError(f"{given}: loss={loss} has no scale, leave it out")
    elif name.startswith("adacos"):
        if value is not None:
            raise UserError(f"scale.value={value}: scale={name} computes it, use scale=fixed")
        if not HEADS[loss].softmax_type:
            raise UserError(f"scale={name}: made for softmax, loss={loss} has none, use scale.value=8")
    else:
        try:
            CosineHead.check_scale(value)
        except ValueError as error:
            raise UserError(f"scale.value={value} with loss={loss}: {error}") from None


def head_options(config: dict, num_classes: int) -> dict:
    """Keyword arguments for the head that a checked configuration asks for."""
    loss, options = HEADS[config["loss"]["name"]], dict(config["loss"]["options"])
    if issubclass(loss, MarginHead):
        options["margin"] = config["margin"]["value"]
    if loss.has_scale:
        options["scale"] = config["scale"]["value"]
        name = config["scale"]["name"]
        options["learnable_scale"] = name == "learnable"
        options["dynamic_scale"] = name == "adacos_dynamic"
        if name.startswith("adacos"):
            try:
                options["scale"] = adacos_scale(num_classes)
            except ValueError as error:
                raise UserError(f"scale={name}: {error}, use scale.value=…") from None
    return options


@contextmanager
def blaming(key: str, value) -> Iterator[None]:
    """Turn what a constructor says of its arguments into a UserError that names their key."""
    try:
        yield
    except (TypeError, ValueError, IndexError, RuntimeError, AssertionError) as error:
        raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from error


def check_group_values(overrides: list[str], groups: Path) -> None:
    """Raise UserError for `margin=0.3`, which Hydra answers with an error of its own kind."""
    for override in overrides:
        group, _, value = override.partition("=")
        if group == "dataset" and "/" in value:
            raise UserError(
                f"{override}: a folder goes to dataset.root, as in dataset=image_folder "
                f"dataset.root={value}"
            )
        if (value[:1].isdigit() or value[:1] in {"-", "."}) and (groups / group).is_dir():
            if group in ("margin", "scale"):
                raise UserError(
                    f"{override}: {group} takes a name, a value goes to {group}.value={value}"
                )
            names = ", ".join(sorted(path.stem for path in (groups / group).glob("[!_]*.yaml")))
            raise UserError(f"{override}: choose one of {names}")


def explain(error: Exception) -> str:
    """One line for what Hydra or OmegaConf say of a user's mistake in several."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        choices = ", ".join(option for option in error.options if not option.startswith("_"))
        return f"{group}={choice}: choose one of {choices}"
    said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, OverrideParseException):
        why = said.partition(" See https")[0]
        said = f"{error.override}: {why}; odd characters go in quotes, as in 'key=\"value\"'"
    return said


def continue_command(key: str, folder: Path) -> str:
    """The command that this process was started with, going on in `folder`."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith(f"{key}=")]
    return shlex.join(["python", "-m", "src.train", *given, f"{key}={os.path.relpath(folder)}"])


class KeepRuns(Callback):
    """Hydra callback: a folder that holds another run, or this one finished, is not written into.

    Hydra turns an ordinary exception in a callback into a warning; SystemExit gets through.
    """

    def on_run_start(self, config: DictConfig, **_) -> None:
        folder = Path(config.hydra.run.dir)
        there = identity_in(folder)
        if there is None:
            return
        composed = copy.deepcopy(config)
        with flag_override(composed, "struct", False):
            del composed["hydra"]
        if there != config_hash(to_dict(composed)):
            sys.exit(
                f"hydra.run.dir={folder}: holds another run, which would be overwritten; name a new one"
            )
        if (read_summary(folder) or {}).get("state") == "finished":
            print(f"{folder}: finished already")
            sys.exit(0)
