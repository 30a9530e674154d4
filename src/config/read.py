"""From what Hydra composed to the typed configuration."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from pydantic import BaseModel, ValidationError

from .checks import check_across, keys_of
from .errors import MISSING, BadKey, Mistakes, Refused, mistakes_in, suggestion
from .fields import in_words
from .tree import FILLED_IN, PACKAGES, Config, Group, leaves


def read(composed: DictConfig, overrides: Iterable[str] = (), hydra: DictConfig | None = None) -> Config:
    """Return the configuration that Hydra composed for some overrides; `hydra` is its own node, if that
    is not in it. Raises Refused with all mistakes that show without importing a class."""
    hydra = composed.hydra if hydra is None else hydra
    for name in set(FILLED_IN) & set(composed):
        raise BadKey(name, composed[name], f"nothing reads this key, {suggestion(name, FIELDS)}")
    config = checked(plain(composed) | {"choices": choices_of(hydra, overrides), "start": None})
    check_defaults_are_read(config, overrides)
    return config


def plain(composed: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain data, without Hydra's part. Raises Refused for values that were
    not given."""
    groups = [name for name in composed if name != "hydra"]
    try:
        values = {name: resolved(composed, name) for name in groups}
    except InterpolationToMissingValueError:
        whole = OmegaConf.to_container(composed, resolve=False)
        values = {name: whole[name] for name in groups}
    mistakes = Mistakes()
    for name in sorted(missing_in(values)):
        example = "<file>" if name.endswith("file") else "0.3"
        mistakes.add(BadKey(name, MISSING, f"has no value, give one, as in {name}={example}"))
    mistakes.refuse()
    return values


def resolved(composed: DictConfig, name: str) -> Any:
    if OmegaConf.is_missing(composed, name):
        return "???"
    value = composed[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def missing_in(values: Mapping, prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += missing_in(value, f"{prefix}{name}.")
        elif value == "???":
            found.append(f"{prefix}{name}")
    return found


def choices_of(hydra: DictConfig, overrides: Iterable[str]) -> dict[str, str]:
    """The choice of each group that names a class, and of the experiment. A class that was typed is
    known by its own name."""
    typed = keys_of(overrides)
    chosen = hydra.runtime.choices
    groups = [group for group in PACKAGES if f"{group}._target_" not in typed]
    return {group: chosen[group] for group in (*groups, "experiment") if chosen.get(group)}


def checked(values: Mapping[str, Any]) -> Config:
    """Return the configuration in plain data. Raises Refused with all mistakes that show without
    importing a class."""
    mistakes, spoiled = Mistakes(), set()
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        wrong = mistakes_in(error, values, legal)
        for each in wrong:
            mistakes.add(named(each))
        spoiled = {each.key.partition(".")[0] for each in wrong if legal(each.key)}
        config = without(values, [each.key for each in wrong])
    if config is not None:
        check_across(config, spoiled, mistakes)
    if mistakes.errors:
        raise Refused(mistakes.errors, config, spoiled)
    return config


def without(values: Mapping[str, Any], keys: Iterable[str]) -> Config | None:
    """The configuration in plain data with defaults for some keys; None if that is none either."""
    rest = copy.deepcopy(dict(values))
    for key in keys:
        *parents, last = key.split(".")
        node = rest
        for part in parents:
            node = node.get(part, {})
        node.pop(last, None)
    try:
        return Config.model_validate(rest)
    except ValidationError:
        return None


def read_and_check(
    composed: DictConfig, overrides: Iterable[str], check: Callable[..., Config]
) -> Config:
    """`check` of what `read` returns. Raises Refused with the mistakes of both."""
    try:
        config = read(composed, overrides)
    except Refused as error:
        mistakes = Mistakes()
        mistakes.add(error)
        if error.rest is not None:
            mistakes.of(check, error.rest, tuple(PACKAGES), error.spoiled)
        mistakes.refuse()
    return check(config)


def named(error: BadKey) -> BadKey:
    """The same for a key that does not exist, with the nearest that does."""
    if legal(error.key) is not None or (isinstance(error.value, Mapping) and not error.value):
        return error
    key, value = error.key, error.value
    while isinstance(value, Mapping) and value:  # of a whole tree, the first leaf is named
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return BadKey(key, value, f"nothing reads this key, {suggestion(key, FIELDS)}")


def _fields(group: type[Group], prefix: str = "") -> dict[str, Any]:
    """The fields of all keys of a tree, by their dotted names."""
    found = {}
    for name, field in group.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= _fields(field.annotation, f"{dotted}.")
        elif dotted not in FILLED_IN:
            found[dotted] = field
    return found


FIELDS = _fields(Config)


def legal(key: str) -> str | None:
    """The values that a key may have, in words; None for a key that the tree does not have."""
    if key in FIELDS:
        return in_words(FIELDS[key].annotation, FIELDS[key].metadata)
    inside = [name for name in FIELDS if name.startswith(f"{key}.")]
    return f"its keys, as in {inside[0]}=…" if inside else None


def check_defaults_are_read(config: Config, overrides: Iterable[str]) -> None:
    """Raise Refused for a typed key that is only another one's default, where that one has its own
    value: `loss.scale=8` beside `scale.value=16`."""
    typed, mistakes = keys_of(overrides), Mistakes()
    values = {leaf.key: leaf.value for leaf in leaves(config)}
    for key, field in FIELDS.items():
        reader = field.json_schema_extra["default_of"]
        if reader and key in typed and values[key] is not None and values[reader] != values[key]:
            computes = config.scale.kind != "fixed" and reader == "scale.value" and not values[reader]
            other = (
                f"scale={config.scale.kind} computes it" if computes else f"{reader} has its own value"
            )
            mistakes.add(BadKey(key, values[key], f"nothing reads this key here, {other}"))
    if mistakes.errors:
        raise Refused(mistakes.errors, config)
