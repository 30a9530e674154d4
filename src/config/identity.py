"""Which run is it? A hash of what a configuration computes."""

import hashlib
import json
import math
import os
from typing import Any

from .classes import is_own, locate, parameters
from .tree import PACKAGES, Config, leaves


def identity(config: Config) -> str:
    """Return sixteen hex digits for what a configuration computes: equal hashes, equal results, by one
    code on one machine with one number of threads."""
    return digest(computed(config))


def setting(config: Config) -> str:
    """Return the identity that runs have in common which differ in their seed and fold only."""
    return digest({k: v for k, v in computed(config).items() if k not in ("seed", "dataset.fold")})


def computed(config: Config) -> dict[str, Any]:
    """The keys that change what a configuration computes, with normalised values. A key with its neutral
    value changes nothing, nor does an argument of this project's own classes with its default; of
    others' classes every argument counts, since importing them would run their code."""
    kept = {}
    defaults = own_defaults(config)
    for leaf in leaves(config):
        value = normalised(leaf.value)
        neutral = defaults.get(leaf.key, ...) if leaf.argument else leaf.neutral
        if leaf.identity and value != normalised(neutral) and not (value is None and not leaf.argument):
            kept[leaf.key] = value
    if is_published(config):
        kept.pop("dataset.root", None)
    else:
        kept["dataset.root"] = config.dataset.place
        kept.pop("dataset.file", None)
    if config.checkpoint.keep != "last" or config.early_stopping.patience:
        kept["objective"] = config.objective
    if config.init.source:
        kept["init.from"] = absolute(config.init.source)
    return kept


def own_defaults(config: Config) -> dict[str, Any]:
    """The defaults of the arguments of this project's own classes, by their keys."""
    return {
        f"{group}.{name}": parameter.default
        for group in PACKAGES
        if is_own(group, getattr(config, group).target)
        for name, parameter in parameters(locate(group, getattr(config, group).target)).items()
        if parameter.default is not parameter.empty
    }


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
