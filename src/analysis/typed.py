"""The commands that were typed for the runs of a sweep, as far as their folders tell."""

from pathlib import Path

from ..commands import command
from ..foreign import read_yaml
from .read import RunRecord


def overrides_of(run: RunRecord) -> list[str]:
    try:
        given = read_yaml(run.folder / ".hydra" / "overrides.yaml")
    except (OSError, ValueError):  # none, or damaged
        return []
    return list(map(str, given)) if isinstance(given, list) else []


def run_command(run: RunRecord) -> str:
    return command("train", *overrides_of(run))


def sweep_overrides(folder: Path) -> list[str] | None:
    """What was typed for a sweep; None where the folder does not tell, as for single runs."""
    try:
        given = read_yaml(folder / "multirun.yaml")["hydra"]["overrides"]
        how = [override for override in given["hydra"] if override != "hydra.mode=MULTIRUN"]
        return [*map(str, given["task"]), *how]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sweep_commands(runs: list[RunRecord]) -> list[str]:
    folders = dict.fromkeys(run.folder.parent for run in runs)
    found = [sweep_overrides(folder) for folder in folders]
    return [command("train", "-m", *given) for given in found if given]
