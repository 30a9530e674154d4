"""What groups with a class hold, what of it the class gets, and whether the class takes it."""

import re
from collections.abc import Callable, Iterable, Mapping

from ..arguments import check_arguments, parameters
from ..datasets import Augmentation, check_fold, load
from ..errors import Mistakes, UserError
from ..losses import Head
from ..models import build_backbone, check_neck
from .keys import OWN_KEYS
from .targets import call_arguments, in_keys, locate, qualified

# The baselines: the loss without angles, and the model that is none.
SOFTMAX, PIXELS = "softmax", "pixels"
# Keys of the model group that its class gets too, where it has a parameter for them.
GIVEN_BY_GROUP = ("name", "pretrained")
# Parameters that a run fills in itself, so that no option may.
FILLED_IN = {
    "loss": (
        *("embedding_dim", "num_classes", "margin", "scale"),
        *("learnable_scale", "dynamic_scale"),
    ),
    "model": ("image_shape", "fetch", *GIVEN_BY_GROUP),
    "dataset": ("root",),
    # The last three want another kernel than `foreach`, which is what the project's optimizers use.
    "optimizer": ("params", "lr", "foreach", "fused", "capturable", "differentiable"),
    "schedule": ("optimizer", "steps", "epochs"),
}


def keys_of(group: str, config: dict) -> dict[str, str]:
    """The key of each argument of a group's class: `hidden` -> `model.options.hidden`."""
    section = config[group]
    known = parameters(locate(group, section["_target_"]))
    if group == "dataset":
        return {name: f"dataset.{name}" for name in (*known, *section)} | {"name": "dataset"}
    keys = {name: f"{group}.options.{name}" for name in (*known, *section["options"])}
    return keys | ({name: f"model.{name}" for name in GIVEN_BY_GROUP} if group == "model" else {})


def options_of(group: str, section: dict) -> dict:
    """What a user gives to a group's class."""
    if group == "dataset":
        return {key: value for key, value in section.items() if key not in OWN_KEYS["dataset"]}
    if not isinstance(section["options"], dict):
        raise UserError(
            f"{group}.options={section['options']}: give its keys, as in {group}.options.x=1"
        )
    return dict(section["options"])


def model_arguments(model: dict) -> dict:
    """What the body of a model is called with, besides the images' shape."""
    body = locate("model", model["_target_"])
    own = {key: model[key] for key in GIVEN_BY_GROUP if key in model}
    return call_arguments(body, own, options_of("model", model))


def check_targets(config: dict, groups: Iterable[str]) -> None:
    """Each group's class can be imported, is of the right kind, and takes the options that are given."""
    mistakes = Mistakes()
    for group in groups:
        mistakes.of(check_target, config, group)
    if "model" in groups:
        mistakes.of(check_model, config["model"])
    if "dataset" in groups:
        mistakes.of(check_data, config["dataset"])
    known = parameters(Augmentation)  # of others, the schema says that nothing reads them
    changes = {key: value for key, value in config["augment"].items() if key in known}
    mistakes.of(check_given, Augmentation, changes, "augment.")
    mistakes.refuse()


def target_of(group: str, section: dict) -> Callable:
    """The class or function of a group. Raises UserError if there is none, or none of the right kind."""
    path = section["_target_"]
    if not isinstance(path, str):
        raise UserError(f"{group}._target_={path}: name a class, as in a.module.Class")
    target = locate(group, path)
    if group == "loss" and not (isinstance(target, type) and issubclass(target, Head)):
        raise UserError(f"loss._target_={path}: not a subclass of src.losses.Head")
    return target


def check_target(config: dict, group: str) -> None:
    section = config[group]
    target = target_of(group, section)
    prefix = "dataset." if group == "dataset" else f"{group}.options."
    options = options_of(group, section)
    check_given(target, options, prefix, FILLED_IN[group], f"{group}={section['name']}")


def check_model(model: dict) -> None:
    body, mistakes = target_of("model", model), Mistakes()
    if "pretrained" in model and "pretrained" not in parameters(body):
        name = model["name"]
        raise UserError(f"model.pretrained={model['pretrained']}: model={name} has no such option")
    given = {key: model[key] for key in GIVEN_BY_GROUP if key in model and key in parameters(body)}
    mistakes.of(check_given, body, given, "model.")
    neck = {key: model[key] for key in ("embedding_dim", "norm", "dropout")}
    if mistakes.of(check_given, build_backbone, neck, "model."):
        mistakes.of(check_no_neck, body, neck)
    mistakes.refuse()


def check_no_neck(body: Callable, neck: dict) -> None:
    with qualified({key: f"model.{key}" for key in neck}, "model"):
        check_neck(body, norm=neck["norm"], dropout=neck["dropout"])


def check_data(dataset: dict) -> None:
    reader, mistakes = target_of("dataset", dataset), Mistakes()
    shared = {key: dataset[key] for key in ("root", "val_fraction", "memory")}
    shared |= {key: dataset[key] for key in ("folds", "fold") if key in dataset}
    if mistakes.of(check_given, load, shared, "dataset."):
        mistakes.of(check_folds, dataset, reader)
    published = getattr(reader, "published", False)
    if dataset.get("published", False) is not published:
        mistakes.add(
            f"dataset.published={dataset.get('published')}: says whether images are the same in every "
            f"root; for dataset={dataset['name']} that is {str(published).lower()}"
        )
    mistakes.refuse()


def check_folds(dataset: dict, reader: Callable) -> None:
    """One of the folds is tested, of a data set that can have some, and nothing else splits it."""
    folds, fold = dataset.get("folds"), dataset.get("fold")
    if folds and fold is None:
        raise UserError(
            f"dataset.folds={folds}: choose the fold to test, dataset.fold=0 to {folds - 1}, or run all "
            "of them in a sweep, with -m"
        )
    with qualified({"folds": "dataset.folds", "fold": "dataset.fold"}, "dataset"):
        check_fold(folds, fold)
    if folds and "pairs" in parameters(reader):
        raise UserError(f"dataset.folds={folds}: dataset={dataset['name']} tests pairs, leave it out")
    share, usual = dataset.get("test_fraction"), parameters(reader).get("test_fraction")
    if folds and usual and share != usual.default:
        raise UserError(
            f"dataset.test_fraction={share}: of dataset.folds={folds} one is tested, leave it out"
        )


def check_given(
    target: Callable, given: Mapping, prefix: str, filled: tuple[str, ...] = (), what: str = ""
) -> None:
    """Raise UserError, naming `<prefix><argument>`, for what `target` does not take."""
    try:
        check_arguments(target, given, filled)
    except ValueError as error:
        message = str(error)
        if what:
            message = message.replace("no such option", f"{what} has no such option")
        message = re.sub(r"(?<=did you mean )(?=\w)", prefix, message)
        raise UserError(in_keys(message, {name: f"{prefix}{name}" for name in given})) from None


def check_augmentation(config: dict, pictures: bool) -> None:
    """Raise UserError if features, which are no `pictures`, are to be turned or moved."""
    changes = [f"augment.{key}={value}" for key, value in config["augment"].items() if value]
    if changes and not pictures:
        name = config["dataset"]["name"]
        raise UserError(f"{changes[0]}: dataset={name} has features, not images: leave it out")
