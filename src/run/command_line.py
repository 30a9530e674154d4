"""Between a command line and a run: what is typed is checked, and what Hydra says of it is put in one
line."""

import copy
import os
import shlex
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from ..arguments import suggestion
from ..errors import UserError
from .folder import holds_foreign_files, holds_work, identity_in, is_done, read_summary
from .identity import ROOT, code_of, config_hash, flattened

CONF = ROOT / "conf"


def to_dict(config: DictConfig) -> dict:
    """A composed configuration as plain data, without Hydra's part. Raises UserError naming a value that
    was not given."""
    composed = copy.deepcopy(config)
    with flag_override(composed, "struct", False):
        composed.pop("hydra", None)
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise UserError(f"{missing[0]} has no value: give one, as in {missing[0]}=0.3")
    return OmegaConf.to_container(composed, resolve=True)


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
        key = said.split("'")[1]
        given = next((o for o in overrides or sys.argv[1:] if o.split("=")[0] == key), key)
        return f"{given}: no such key, {suggestion(key, known_keys(overrides or sys.argv[1:]))}"
    return said


def known_keys(overrides: list[str]) -> list[str]:
    """The keys that the groups chosen by `overrides` have. Hydra would propose to add any other with
    `+`, where nothing would read it."""
    chosen = [o for o in overrides if "=" in o and "." not in o.split("=")[0] and o[0] not in "+~-"]
    GlobalHydra.instance().clear()
    for attempt in (chosen, []):
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                return list(flattened(OmegaConf.to_container(compose("train", overrides=attempt))))
        except Exception:  # another of the overrides is wrong too: the defaults' keys will do
            continue
    return []


def continue_command(key: str, folder: Path) -> str:
    """The command that this process was started with, going on in `folder`."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith(f"{key}=")]
    return shlex.join(["python", "-m", "src.train", *given, f"{key}={os.path.relpath(folder)}"])


class KeepRuns(Callback):
    """Hydra callback: before Hydra writes into a folder, refuse one that holds another run, or this one
    finished.

    Hydra turns an ordinary exception in a callback into a warning; SystemExit gets through.
    """

    def on_run_start(self, config: DictConfig, **_) -> None:
        try:
            self.look(config, Path(config.hydra.run.dir))
        except UserError as error:
            sys.exit(str(error))

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
