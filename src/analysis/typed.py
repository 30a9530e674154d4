"""The commands that were typed for the runs of a sweep, as far as their folders tell."""

from pathlib import Path

import yaml

from ..commands import command
from .foreign import plain_yaml
from .read import RunRecord


def read_yaml(path: Path):
    """What is in a YAML file, by libyaml where it is there (ten times faster); None if nothing can be
    read."""
    try:
        return yaml.load(plain_yaml(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def overrides_of(run: RunRecord) -> list[str]:
    given = read_yaml(run.folder / ".hydra" / "overrides.yaml")
    return list(map(str, given)) if isinstance(given, list) else []


def run_command(run: RunRecord) -> str:
    return command("train", *overrides_of(run))


def sweep_overrides(folder: Path) -> list[str] | None:
    """What was typed for a sweep; None where the folder does not tell, as for single runs."""
    try:
        given = read_yaml(folder / "multirun.yaml")["hydra"]["overrides"]
        how = [override for override in given["hydra"] if override != "hydra.mode=MULTIRUN"]
        return [*given["task"], *how]
    except (KeyError, TypeError):
        return None


def sweep_commands(runs: list[RunRecord]) -> list[str]:
    folders = dict.fromkeys(run.folder.parent for run in runs)
    found = [sweep_overrides(folder) for folder in folders]
    return [command("train", "-m", *given) for given in found if given]
