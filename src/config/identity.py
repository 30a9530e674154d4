"""Identify a run by a hash of what its configuration computes."""

import hashlib
import json
import math
import os
from contextlib import suppress
from typing import Any

from .classes import arguments, converted, is_own, locate
from .errors import BadKey
from .fields import spelled
from .tree import PACKAGES, Config, leaves

# Arguments of this project's own readers that say where data lie. Like dataset.root they do not count:
# the fingerprint in a run's summary says which images it saw, wherever they lay.
PLACES = ("dataset.file", "dataset.labels")


def identity(config: Config) -> str:
    """Return sixteen hex digits for what a configuration computes: equal hashes, equal results, by one
    code on one machine with one number of threads."""
    return digest(computed(config))


def setting(config: Config) -> str:
    """Return the identity that runs have in common which differ in their seed and fold only."""
    return digest({k: v for k, v in computed(config).items() if k not in ("seed", "dataset.fold")})


def computed(config: Config) -> dict[str, Any]:
    """The keys that change what a configuration computes, with normalised values. Defaults do not count,
    so that a new key leaves old runs what they were, but for keys that `always` count and arguments of
    others' classes, whose defaults are unknown: importing them would run their code."""
    kept, own = {}, own_arguments(config)
    for leaf in leaves(config):
        if not leaf.argument:
            counts = leaf.identity and leaf.value is not None
            value, default = leaf.value, leaf.default
        else:
            counts, (value, default) = True, own.get(leaf.key, (leaf.value, ...))
        if counts and normalised(value) != normalised(default):
            kept[leaf.key] = normalised(value)
    if is_own("dataset", config.dataset.target):
        for key in PLACES:
            kept.pop(key, None)
    if config.dataset.duplicates == "refuse":  # what is not refused computes the same
        kept.pop("dataset.duplicates")
    if config.checkpoint.keep != "last" or config.early_stopping.patience:
        kept["objective"] = config.objective
    if config.init.source:
        kept["init.from"] = config.start or absolute(config.init.source)
    return kept


def differences(there: Config, here: Config) -> dict[str, str]:
    """What two configurations compute otherwise, by keys, in words: `epochs=3 there, 6 here`."""
    both = computed(there), computed(here)
    found = {}
    for key in sorted({*both[0], *both[1]}):
        values = [spelled(values[key]) if key in values else "not given" for values in both]
        if values[0] != values[1]:
            found[key] = f"{key}={values[0]} there, {values[1]} here"
    return found


def own_arguments(config: Config) -> dict[str, tuple[Any, Any]]:
    """The arguments that are given to this project's own classes, converted to their types, and the
    defaults, by their keys."""
    found = {}
    for group in PACKAGES:
        section = getattr(config, group)
        if not is_own(group, section.target):
            continue
        known = arguments(group, locate(group, section.target))
        for name in known.keys() & section.arguments.keys():
            key, value = f"{group}.{name}", section.arguments[name]
            with suppress(BadKey):  # which is refused before anything is computed
                value = converted(known[name], value, key)
            found[key] = value, known[name].default
    return found


def is_published(config: Config) -> bool:
    """Return whether the images of a data set are the same wherever they lie."""
    target = config.dataset.target
    return is_own("dataset", target) and getattr(locate("dataset", target), "published", False)


def absolute(source: str) -> str:
    """A path, or `best:<path>`, from the root."""
    best, path = ("best:", source[5:]) if source.startswith("best:") else ("", source)
    return best + os.path.abspath(os.path.expanduser(path))


def normalised(value: Any) -> Any:
    """One spelling for one number: 64.0 is 64, and 0.30000000000000004 is 0.3."""
    if isinstance(value, (list, tuple)):
        return [normalised(part) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        value = float(f"{value:.12g}")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value


def digest(kept: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
