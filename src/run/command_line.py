"""Between a command line and a run: what is typed is checked, and what Hydra says of it is put in one
line."""

import functools
import os
import pickle
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from ..arguments import suggestion
from ..commands import command
from ..errors import Mistakes, UserError, interrupt_once, on_interrupt
from .best import PREFIX
from .folder import holds_foreign_files, holds_work, identity_in, is_done, read_summary
from .identity import ROOT, code_of, config_hash, flattened
from .keys import check_values
from .targets import locate

CONF = ROOT / "conf"
# Hydra copies its sources whenever it composes, and for each group that --help lists, and with them all
# that plugins have registered. Nothing is written there, and what is taken from there is copied again.
ConfigStore.__deepcopy__ = lambda store, _: store


def to_dict(config: DictConfig) -> dict:
    """A composed configuration as plain data, without Hydra's part. Raises UserError naming the values
    that were not given."""
    groups = [key for key in config if key != "hydra"]
    try:
        plain = {key: _plain(config, key) for key in groups}
    except InterpolationToMissingValueError:
        plain = {key: _plain(config, key, resolve=False) for key in groups}
    missing = [key for key, value in sorted(flattened(plain).items()) if value == "???"]
    if missing:
        lines = (f"{key} has no value: give one, as in {key}={example(key)}" for key in missing)
        raise UserError("\n".join(lines))
    return plain


def example(key: str) -> str:
    return "<file>" if key.endswith("file") else "0.3"


def _plain(config: DictConfig, key: str, resolve: bool = True) -> object:
    if OmegaConf.is_missing(config, key):
        return "???"
    value = config[key] if resolve else config._get_node(key)
    return OmegaConf.to_container(value, resolve=resolve) if OmegaConf.is_config(value) else value


def check_group_values(overrides: list[str], groups: Path = CONF) -> None:
    """Raise UserError for `margin=0.3`, which Hydra answers in a way that does not help."""
    for override in overrides:
        group, _, value = override.partition("=")
        if value == "null" and group != "experiment" and (groups / group).is_dir():
            raise UserError(f"{override}: choose one of {choices_of(groups / group)}")
        if group == "dataset" and value.startswith(("/", ".", "~")):
            raise UserError(
                f"{override}: a folder goes to dataset.root, as in dataset=image_folder "
                f"dataset.root={value}"
            )
        if is_number_text(value.split(",")[0]) and (groups / group).is_dir():
            if group in ("margin", "scale"):
                raise UserError(
                    f"{override}: {group} takes a name; for a value use {group}.value={value}"
                )
            raise UserError(f"{override}: choose one of {choices_of(groups / group)}")


def values_of(config: DictConfig, overrides: Iterable[str]) -> dict:
    """`to_dict` of a configuration that some overrides were typed for, if each of them is read."""
    values = to_dict(config)
    check_typed(config, overrides)
    return values


def check_command(arguments: list[str]) -> None:
    """Raise UserError for what Hydra answers in a way that does not help: two of its modes at once
    (-m --cfg), and `margin=0.3`."""
    modes = {"-m": "--multirun", "-c": "--cfg", "-i": "--info", "-r": "--run"}
    given = [modes.get(word, word).partition("=")[0] for word in arguments]
    given = [word for word in dict.fromkeys(given) if word in modes.values()]
    if len(given) > 1:
        raise UserError(f"{' '.join(given)}: give one of them; --cfg job shows one run's configuration")
    check_group_values(arguments)


# Keys that nothing reads by themselves, and the keys that can refer to them.
REFERRED_TO = {
    "loss.margin": "margin.value",
    "loss.scale": "scale.value",
    "loss.few_classes.margin": "margin.value",
    "loss.few_classes.scale": "scale.value",
    "loss.few_classes.head_lr": "optimizer.head_lr",
    "dataset.embedding_dim": "model.embedding_dim",
    "evaluation.objective": "objective",
}


def check_typed(config: DictConfig, overrides: Iterable[str]) -> None:
    """Raise UserError for keys of a composed configuration that were typed and that nothing refers to
    there, so that they would do nothing: `loss.scale=8` with `scale=adacos`."""
    mistakes = Mistakes()
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "model.embedding_dim":
            mistakes.of(check_dimensions, config, value)
        if key not in REFERRED_TO or OmegaConf.select(config, key) is None:
            continue
        reader, probe = REFERRED_TO[key], pickle.loads(pickle.dumps(config))
        OmegaConf.update(probe, key, "probe", force_add=True)
        if OmegaConf.select(probe, reader) == OmegaConf.select(config, reader):
            mistakes.add(f"{key}={value}: nothing reads this key here, {reader} has another source")
    mistakes.refuse()


def check_dimensions(config: DictConfig, typed: str) -> None:
    """UserError for a number of dimensions that was typed for a model with its own: pixels."""
    model = locate("model", config.model._target_)
    if getattr(model, "features_are_embeddings", False):
        raise UserError(
            f"model.embedding_dim={typed}: model={config.model.name} has as many as it has features, "
            "leave it out"
        )


def quoted(text: str) -> str:
    """A value as it is typed in Hydra's grammar, where apostrophes, spaces and much else are special."""
    plain = re.fullmatch(r"[\w./+@-]+", text, re.ASCII)
    return text if plain else QuotedString(text, Quote.single).with_quotes()


def choices_of(group: Path) -> str:
    return ", ".join(sorted(path.stem for path in group.glob("[!_]*.yaml")))


def is_number_text(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def explain(error: Exception, overrides: list[str] | None = None) -> str:
    """One line for what Hydra or OmegaConf say in several; `overrides` are those of the command line."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        choices = ", ".join(option for option in error.options if not option.startswith("_"))
        return f"{group}={choice}: choose one of {choices}"
    said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, OverrideParseException):
        why = said.partition(" See https")[0]
        return f"{error.override}: {why}; odd characters go in quotes, as in 'key=\"value\"'"
    unknown = isinstance(error.__cause__, (ConfigAttributeError, ConfigKeyError))
    if (
        isinstance(error, ConfigCompositionException)
        and said.startswith("Could not override")
        and unknown
    ):
        given = overrides or sys.argv[1:]
        keys = known_keys(tuple(o for o in given if chooses(o)))
        wrong = [o for o in given if unknown_key(o, keys)]
        wrong = wrong or [said.split("'")[1]]
        return "\n".join(f"{o}: no such key, {suggestion(o.split('=')[0], list(keys))}" for o in wrong)
    return said


def chooses(override: str) -> bool:
    """Whether an override chooses from a group: `loss=arcface`."""
    return "=" in override and (CONF / override.split("=")[0]).is_dir()


def unknown_key(override: str, keys: Iterable[str]) -> bool:
    key = override.split("=")[0]
    if "=" not in override or key[0] in "+~-" or key.startswith(("hydra.", "hydra/")) or "@" in key:
        return False
    return not any(known == key or known.startswith(f"{key}.") for known in keys)


@functools.cache
def known_keys(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that the groups chosen by some overrides have. Hydra would propose to add any other with
    `+`, where nothing would read it."""
    GlobalHydra.instance().clear()
    for attempt in (choices, ()):
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                composed = compose("train", overrides=list(attempt))
            return tuple(flattened(OmegaConf.to_container(composed)))
        except Exception:  # another of the overrides is wrong too: the defaults' keys will do
            continue
    return ()


def continue_command(key: str, folder: Path, typed_in: str | Path = ".") -> str:
    """The command that this process was started with, in the folder `typed_in`, going on in `folder`."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith(f"{key}=")]
    place = f"{key}={quoted(os.path.relpath(folder, typed_in))}"
    return command("train", *given, place)


def remove_refused(folder: Path) -> None:
    """Remove what a run has made that was refused before it began to train: its folder, unless it was
    there before, and those above it."""
    summary = read_summary(folder) if folder.resolve() in KeepRuns.made else None
    if not summary or "counts" in summary or holds_work(folder):
        return
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    for name in ("summary.json", "train.log", ".lock"):
        (folder / name).unlink(missing_ok=True)
    for each in KeepRuns.made:
        try:
            each.rmdir()
        except OSError:  # something else is there
            return


def values_for_task(composed: DictConfig, hydra: DictConfig) -> dict:
    """`values_of` what Hydra composed for a run, by its own part of the configuration. With
    hydra.job.chdir=true, Hydra has moved to the run's folder: relative paths begin where they were
    typed."""
    config = values_of(composed, hydra.overrides.task)
    if not hydra.job.chdir:
        return config
    for group, key in (("dataset", "root"), ("init", "from")):
        value = config[group][key]
        if isinstance(value, str):  # else it is refused later, or null
            best = PREFIX * value.startswith(PREFIX)
            path = os.path.expanduser(value.removeprefix(PREFIX))
            config[group][key] = best + os.path.join(hydra.runtime.cwd, path)
    return config


class KeepRuns(Callback):
    """Hydra callback: before Hydra writes into a folder, refuse one that holds another run, or this one
    finished, and values that are wrong on their own; and what Ctrl-C does in another's sweep.

    Hydra turns an ordinary exception in a callback into a warning; SystemExit gets through.
    """

    made: tuple[Path, ...] = ()  # folders of this process's run that were not there, from its own up

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        if not config.hydra.sweeper._target_.startswith("hydra_plugins.angular_penalty"):
            on_interrupt(interrupt_once)  # ours say for themselves how they end

    def on_run_start(self, config: DictConfig, **_) -> None:
        folder = Path(config.hydra.run.dir).resolve()
        KeepRuns.made = tuple(each for each in (folder, *folder.parents) if not each.exists())
        try:
            self.look(config, Path(config.hydra.run.dir))
            check_values(to_dict(config))  # before the seconds that torch takes
        except UserError as error:
            sys.exit(str(error))
        except OmegaConfBaseException:  # as of an interpolation: the task says so
            pass

    def look(self, config: DictConfig, folder: Path) -> None:
        there = identity_in(folder)
        if there is None:
            if holds_foreign_files(folder):
                sys.exit(f"hydra.run.dir={folder}: holds files of something else; name a new folder")
            return
        values = to_dict(config)
        if there != config_hash(values):
            if not holds_work(folder):  # a mistake was refused there, and is mended now
                return
            sys.exit(
                f"hydra.run.dir={folder}: holds another run, which would be overwritten; name a new one"
            )
        summary = read_summary(folder) or {}
        if is_done(summary):
            from .finished import refusal  # torch takes a second, which the other answers can do without

            why = refusal(folder, summary, values, code_of(values))
            if why:
                sys.exit(f"hydra.run.dir={folder}: {why}")
            print(f"{folder}: finished already")
            sys.exit(0)
