"""Checks that the type of one key cannot express: a margin that suits its loss, patience shorter than
training, folds of the data.

A check names the groups it reads, and runs where all of those are valid by themselves. Those of
CLASS_CHECKS also need the classes of these groups, which takes torch.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from .classes import checked_arguments, locate, parameters, target_of
from .errors import BadKey, Mistakes
from .tree import PACKAGES, Config

Check = tuple[tuple[str, ...], Callable[[Config], None]]
CHECKS: list[Check] = []
CLASS_CHECKS: list[Check] = []


def reads(*keys: str, classes: bool = False):
    """Register a check of a configuration that reads these groups and keys."""

    def register(check: Callable[[Config], None]) -> Callable[[Config], None]:
        (CLASS_CHECKS if classes else CHECKS).append((keys, check))
        return check

    return register


def refuse_given(config: Config, group: str, names: Iterable[str], why: str) -> None:
    """Raise BadKey for the first of these keys of a group that does not have its default."""
    values = getattr(config, group)
    for name in names:
        value = getattr(values, name)
        if value != type(values).model_fields[name].default:
            raise BadKey(f"{group}.{name}", value, why)


@reads("early_stopping", "epochs")
def patience_is_shorter_than_training(config: Config) -> None:
    patience = config.early_stopping.patience
    if patience and patience >= config.epochs:
        why = f"training ends after epochs={config.epochs} anyway; give fewer, or null"
        raise BadKey("early_stopping.patience", patience, why)


@reads("init", "optimizer")
def frozen_layers_have_no_rate(config: Config) -> None:
    if config.init.freeze == "body":
        why = "init.freeze=body leaves nothing to train at this rate"
        refuse_given(config, "optimizer", ("backbone_lr", "layer_decay"), why)


@reads("sampler")
def samples_per_class_belong_to_their_sampler(config: Config) -> None:
    sampler = config.sampler
    if sampler.kind == "classes" and sampler.samples_per_class is None:
        raise BadKey("sampler.samples_per_class", None, "sampler.kind=classes needs it, an integer ≥ 2")
    if sampler.kind != "classes":
        why = "only sampler.kind=classes reads it"
        refuse_given(config, "sampler", ("samples_per_class",), why)


@reads("margin")
def warmup_has_epochs(config: Config) -> None:
    if config.margin.epochs is None:
        refuse_given(config, "margin", ("start", "shape"), "only margin=warmup reads it")


@reads("margin")
def class_sizes_have_a_power(config: Config) -> None:
    margin = config.margin
    if margin.power is None:
        refuse_given(config, "margin", ("floor",), "only margin=class_sizes reads it")
    if margin.power is not None and margin.epochs is not None:
        raise BadKey("margin.power", margin.power, "a margin grows or differs by class, not both")
    if margin.power is not None and isinstance(margin.value, list):
        raise BadKey(
            "margin.power", margin.power, "a margin of several numbers does not differ by class"
        )


@reads("scale")
def adacos_computes_the_scale(config: Config) -> None:
    kind, value = config.scale.kind, config.scale.value
    if kind.startswith("adacos") and value is not None:
        raise BadKey("scale.value", value, f"scale={kind} computes it, leave one of them out")


@reads("evaluation")
def closed_sets_draw_no_pairs(config: Config) -> None:
    if config.evaluation.protocol == "closed_set":
        refuse_given(config, "evaluation", ("pairs",), "evaluation=closed_set draws no pairs")


@reads("evaluation")
def only_open_sets_are_searched(config: Config) -> None:
    evaluation = config.evaluation
    if evaluation.protocol != "open_set":
        why = "only evaluation=open_set searches"
        refuse_given(config, "evaluation", ("ranks", "map_at"), why)
    if sorted(set(evaluation.ranks)) != evaluation.ranks:
        raise BadKey("evaluation.ranks", evaluation.ranks, "expected rising numbers, as in [1,10,100]")


@reads("dataset")
def one_fold_is_tested(config: Config) -> None:
    folds, fold = config.dataset.folds, config.dataset.fold
    if folds is None and fold is not None:
        raise BadKey("dataset.fold", fold, "give the number of folds too, as in dataset.folds=5")
    if folds is not None and fold is None:
        why = f"choose the fold to test, dataset.fold=0 to {folds - 1}, or run all of them with -m"
        raise BadKey("dataset.folds", folds, why)
    if folds is not None and fold >= folds:
        raise BadKey("dataset.fold", fold, f"expected one of 0 to {folds - 1} (dataset.folds={folds})")


@reads("logger")
def disabled_logger_has_no_settings(config: Config) -> None:
    if config.logger.mode == "disabled":
        why = "nothing reads it with logger.mode=disabled"
        refuse_given(config, "logger", ("project", "entity", "group", "tags"), why)


# ---------------------------------------------------------------------- with the classes that are named


@reads("evaluation", "objective", classes=True)
def objective_is_measured(config: Config) -> None:
    from ..evaluation import metrics_of

    evaluation = config.evaluation
    known = metrics_of(evaluation.protocol, evaluation.ranks, evaluation.map_at)
    if config.objective not in known:
        why = f"choose one of {', '.join(known)} (evaluation={evaluation.protocol})"
        raise BadKey("objective", config.objective, why)


@reads("loss", "margin", classes=True)
def margin_suits_the_loss(config: Config) -> None:
    from ..losses import BadArgument, MarginHead

    loss, margin, name = target_of(config, "loss"), config.margin, config.name("loss")
    if not issubclass(loss, MarginHead):
        why = f"loss={name} has no margin; leave it out or use another loss"
        return refuse_given(config, "margin", ("value", "epochs", "power"), why)
    mistakes = Mistakes()
    grows = margin.epochs and margin.start is not None
    for key in ("value", *["start"] * bool(grows), *["floor"] * (margin.floor is not None)):
        value = getattr(margin, key)
        if value is None and loss.published_margin is not None:
            continue
        if value is None:
            why = f"loss={name} has no default: give margin.value=0.3, or `margin:` in its YAML"
            mistakes.add(BadKey("margin.value", None, why))
            continue
        try:
            loss.check_margin(value)
        except BadArgument as error:
            mistakes.add(BadKey(f"margin.{key}", value, f"{error.why} (loss={name})"))
    mistakes.refuse()


@reads("loss", "scale", classes=True)
def scale_suits_the_loss(config: Config) -> None:
    from ..losses import BadArgument, CosineHead

    loss, scale, name = target_of(config, "loss"), config.scale, config.name("loss")
    if not loss.has_scale:
        if scale.value is not None or scale.kind != "fixed":
            what = (
                ("scale.value", scale.value) if scale.value is not None else ("scale.kind", scale.kind)
            )
            raise BadKey(*what, f"loss={name} has no scale, leave it out")
    elif scale.kind.startswith("adacos"):
        if not loss.softmax_type:
            why = f"made for softmax, which loss={name} does not use; use scale.value=8"
            raise BadKey("scale.kind", scale.kind, why)
    elif scale.value is None and loss.published_scale is None:
        why = f"loss={name} has no default: give scale.value=16, or `scale:` in its YAML"
        raise BadKey("scale.value", None, why)
    elif scale.value is not None:
        try:
            CosineHead.check_scale(scale.value)
        except BadArgument as error:
            raise BadKey("scale.value", scale.value, f"{error.why} (loss={name})") from None


@reads("model", "neck", classes=True)
def neck_has_a_place(config: Config) -> None:
    if getattr(target_of(config, "model"), "features_are_embeddings", False):
        why = f"model={config.name('model')} has no embedding layer"
        refuse_given(config, "neck", ("norm", "dropout"), why)


@reads("dataset", classes=True)
def folds_suit_the_data(config: Config) -> None:
    dataset, known = config.dataset, parameters(target_of(config, "dataset"))
    if dataset.folds and "pairs" in known:
        why = f"dataset={config.name('dataset')} tests pairs, leave it out"
        raise BadKey("dataset.folds", dataset.folds, why)
    share, usual = dataset.arguments.get("test_fraction"), known.get("test_fraction")
    if dataset.folds and usual and share not in (None, usual.default):
        why = f"one of dataset.folds={dataset.folds} is tested, leave it out"
        raise BadKey("dataset.test_fraction", share, why)


def check_across(config: Config, spoiled: Iterable[str], mistakes: Mistakes) -> None:
    """Run the checks that need no class, and read no group with a mistake of its own."""
    for keys, check in CHECKS:
        if not set(keys) & set(spoiled):
            mistakes.of(check, config)


def with_classes(
    config: Config,
    groups: Iterable[str] = tuple(PACKAGES),
    spoiled: Iterable[str] = (),
    further: Iterable[Check] = (),
) -> Config:
    """Return the configuration with the arguments of its classes checked and converted. Raises Refused
    with all mistakes. Only the classes of `groups` are imported, and only checks that need no others
    run; `further` ones run last."""
    mistakes, groups, checked, refused = Mistakes(), tuple(groups), {}, set()
    # Groups whose class is not to be had, or that have mistakes of their own.
    missing = set(PACKAGES) - set(groups) | set(spoiled)
    for group in groups:
        section = getattr(config, group)
        target = mistakes.of(locate, group, section.target)
        if target is None:
            missing.add(group)
            continue
        arguments = mistakes.of(checked_arguments, group, target, section.arguments)
        if arguments is None:
            refused.add(group)
        else:
            checked[group] = section.model_copy(update=arguments)
    config = config.model_copy(update=checked)
    for keys, check in CLASS_CHECKS:
        if not set(keys) & missing:
            before = len(mistakes.errors)
            mistakes.of(check, config)
            refused |= set(keys) if len(mistakes.errors) > before else set()
    for keys, check in further:
        if not set(keys) & (missing | refused):  # what is refused already is not built
            with suppress(Exception):  # a bug in somebody's class: its run fails with the traceback
                mistakes.of(check, config)
    mistakes.refuse()
    return config


def check_typed(config: Config, overrides: Iterable[str]) -> None:
    """Raise BadKey for a key that was typed and does nothing here: dimensions for a model that has its
    own."""
    body, typed = target_of(config, "model"), keys_of(overrides)
    if "model.embedding_dim" in typed and getattr(body, "features_are_embeddings", False):
        why = f"model={config.name('model')} has as many dimensions as features, leave it out"
        raise BadKey("model.embedding_dim", config.model.embedding_dim, why)


def keys_of(overrides: Iterable[str]) -> list[str]:
    """The keys and groups of some overrides."""
    return [override.lstrip("+").partition("=")[0] for override in overrides]
