"""Compose configurations with Hydra, and explain its errors in one line."""

import functools
import os
import pickle
import re
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from ..errors import UserError
from .checks import with_classes
from .errors import nearest, suggestion
from .read import FIELDS
from .tree import Config, base

CONF = Path(__file__).parents[2] / "conf"
# Hydra deep-copies this store whenever it composes, and once for each group that --help lists. Nothing
# writes to the store, and Hydra copies again what it takes from it.
ConfigStore.__deepcopy__ = lambda store, _: store
ConfigStore.instance().store("keys", base())  # the first of train.yaml's defaults

# Hydra's options that are followed by a value.
OPTIONS = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn")
OPTIONS += ("--config-dir", "-cd", "--info", "-i")
MODES = {"-m": "--multirun", "-c": "--cfg", "-i": "--info", "-r": "--run"}


def compose_choices(overrides: list[str]) -> DictConfig:
    """Return what Hydra composes for some overrides outside of a command, with its `hydra` node."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=overrides, return_hydra_config=True)


class Composer:
    """Composes the runs of a sweep whose own configuration is `master`, exactly as Hydra does, in a
    tenth of the time. Hydra merges some twenty files for every run, and which files those are, only the
    choices of groups say: runs that choose alike share what Hydra composed for the first of them, and
    values are applied to it. `check` raises UserError for a run that cannot be trained."""

    def __init__(
        self, loader: ConfigLoader, master: DictConfig, check: Callable[[Config], Config] = with_classes
    ):
        self.loader, self.master, self.check = loader, master, check
        parser = OverridesParser.create()
        self.parse = functools.cache(lambda override: parser.parse_overrides([override])[0])
        self.is_group = functools.cache(lambda name: bool(loader.get_group_options(name)))
        self.composed: dict[tuple[str, ...], bytes] = {}  # by the overrides that choose, pickled

    def compose(self, overrides: list[str]) -> DictConfig:
        """Return the same as `load_sweep_config` of Hydra's loader, and raise the same errors."""
        parsed = [self.parse(override) for override in overrides]
        values = [override for override in parsed if self.is_value(override)]
        choices = tuple(o.input_line for o in parsed if not self.is_value(o))
        if choices not in self.composed:
            config = self.loader.load_sweep_config(self.master, list(choices))
            self.composed[choices] = pickle.dumps(config)
        config = pickle.loads(self.composed[choices])  # five times as fast as a deep copy
        for override in values:
            apply(override, config)
        own = [override for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in own]
        config.hydra.job.override_dirname = dirname(own, config.hydra.job.config.override_dirname)
        return config

    def is_value(self, override: Override) -> bool:
        """Return whether an override gives a key of the run a value, and so has no say in what is
        merged."""
        if override.is_hydra_override() or override.is_sweep_override():
            return False
        return not self.is_group(override.key_or_group) or isinstance(override.value(), dict)


def apply(override: Override, config: DictConfig) -> None:
    """Change a composed configuration as Hydra's override says. Raises ConfigCompositionException."""
    key, value = override.key_or_group, override.value()
    try:
        if override.is_delete():
            parent, _, last = key.rpartition(".")
            node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
            if node is None or last not in node or value not in (None, node[last]):
                raise ConfigKeyError(f"{override.input_line}: there is nothing to delete")
            with open_dict(node):
                del node[last]
        elif override.is_add():
            there = OmegaConf.select(config, key) is not None and not isinstance(value, (dict, list))
            if there and not override.is_force_add():
                raise ConfigKeyError(f"{override.input_line}: is there already, leave out the +")
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        else:
            OmegaConf.update(config, key, value, merge=True)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise ConfigCompositionException(f"Could not override '{key}'. {error}") from error


def dirname(overrides: Iterable[Override], how: DictConfig) -> str:
    """The overrides as the name of a folder, as Hydra's `hydra.job.override_dirname` has them."""
    lines = [o.input_line for o in overrides if o.key_or_group not in how.exclude_keys]
    return how.item_sep.join(line.replace("=", how.kv_sep, 1) for line in sorted(lines))


# ---------------------------------------------------------------------------------------- what is typed


def check_command(arguments: list[str]) -> None:
    """Raise UserError for what Hydra answers in a way that does not help: two of its modes at once
    (-m --cfg), spaces around `=` and `,`, and `margin=0.3`."""
    given = [MODES.get(word, word).partition("=")[0] for word in arguments]
    given = [word for word in dict.fromkeys(given) if word in MODES.values()]
    if len(given) > 1:
        raise UserError(f"{' '.join(given)}: give one of them; --cfg job shows one run's configuration")
    for before, word in zip(["", *arguments], arguments, strict=False):
        if before in OPTIONS or word.startswith(("-", "~")):
            continue
        if ("=" not in word.strip("=") and not word.endswith("=")) or word.startswith(("=", ",")):
            raise UserError(
                f"{' '.join(arguments)}: no spaces in an override, as in loss=arcface,cosface; {word} "
                "stands alone"
            )
        if word.endswith(","):
            raise UserError(f"{word}: no spaces after a comma, as in loss=arcface,cosface")
        if word.endswith("="):
            raise UserError(f"{word}: no value; null for none, and no spaces around =")
    check_group_values(arguments)


def check_group_values(overrides: list[str], groups: Path = CONF) -> None:
    """Raise UserError for `margin=0.3`, which Hydra answers in a way that does not help."""
    for override in overrides:
        group, _, value = override.lstrip("+").partition("=")
        if not value or not (groups / group).is_dir():
            continue
        if value == "null" and group != "experiment":
            raise UserError(f"{override}: choose one of {', '.join(choices_in(groups / group))}")
        if group == "dataset" and value.startswith(("/", ".", "~")):
            raise UserError(
                f"{override}: a folder goes to dataset.root, as in dataset=image_folder "
                f"dataset.root={value}"
            )
        if is_number_text(value.split(",")[0]):
            if group in ("margin", "scale"):
                raise UserError(
                    f"{override}: {group} takes a name; for a value use {group}.value={value}"
                )
            raise UserError(f"{override}: choose one of {', '.join(choices_in(groups / group))}")


def choices_in(group: Path) -> list[str]:
    return sorted(path.stem for path in group.glob("[!_]*.yaml"))


def is_number_text(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def group_after_help(words: list[str]) -> str | None:
    """The group in `--help margin`; None where --help is alone, which Hydra answers."""
    following = words[words.index("--help") + 1 :] if "--help" in words else []
    return following[0] if following and "=" not in following[0] else None


def with_home(word: str) -> str:
    """An override whose value begins with ~/, which neither shells nor Hydra's grammar expand."""
    key, _, value = word.partition("=")
    return f"{key}={os.path.expanduser(value)}" if value.startswith("~/") else word


def quoted(text: str) -> str:
    """A value as it is typed in Hydra's grammar, where apostrophes, spaces and much else are special."""
    plain = re.fullmatch(r"[\w./+@-]+", text, re.ASCII)
    return text if plain else QuotedString(text, Quote.single).with_quotes()


def explain(error: Exception, overrides: list[str] | None = None) -> str:
    """Return one line for what Hydra or OmegaConf say in several; `overrides` are those of the command
    line."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = [option for option in error.options if not option.startswith("_")]
        near = nearest(choice, options)
        return f"{group}={choice}: " + (
            f"did you mean {group}={near}?" if near else f"choose one of {', '.join(options)}"
        )
    said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, OverrideParseException):
        why = str(error).splitlines()[0]
        return f"{error.override}: {why}; odd characters go in quotes, as in 'key=\"value\"'"
    unknown = isinstance(error.__cause__, (ConfigAttributeError, ConfigKeyError))
    if isinstance(error, ConfigCompositionException) and unknown:
        given = sys.argv[1:] if overrides is None else overrides
        known = known_keys(tuple(o for o in given if chooses(o)))
        wrong = [o for o in given if is_unknown(o, known)]
        groups = [path.name for path in CONF.iterdir() if path.is_dir()]
        if wrong:
            return "\n".join(
                f"{o}: no such key, {suggestion(o.partition('=')[0], [*known, *groups])}" for o in wrong
            )
    return said


def chooses(override: str) -> bool:
    """Return whether an override chooses from a group: `loss=arcface`, `hydra/launcher=ray`."""
    group, _, value = override.partition("=")
    return bool(value) and ((CONF / group).is_dir() or group.startswith("hydra/"))


def is_unknown(override: str, known: Collection[str]) -> bool:
    key = override.partition("=")[0]
    if "=" not in override or key[:1] in "+~-" or chooses(override) or "@" in key:
        return False
    return not any(name == key or name.startswith(f"{key}.") for name in known)


@functools.cache
def known_keys(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that the groups chosen by some overrides have, Hydra's included."""
    GlobalHydra.instance().clear()
    for attempt in (choices, ()):
        try:
            composed = compose_choices(list(attempt))
        except Exception:  # another of the overrides is wrong too: the defaults' keys will do
            continue
        return tuple(flat(OmegaConf.to_container(composed)))
    return tuple(FIELDS)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"margin": {"value": 0.3}}` -> `{"margin.value": 0.3}`."""
    found = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found
