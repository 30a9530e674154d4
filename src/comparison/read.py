"""What lies in a sweep's folder: its runs, in whatever state, and what is no run at all."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from ..config import config_hash
from ..errors import UserError
from ..runs import is_claimed, objective_of

OURS = ("comparison", ".submitit")  # folders beside the runs


@dataclass(frozen=True)
class Run:
    """One run folder. `state` is summary.json's, or running or unfinished where there is none;
    `metrics` are of the test split, `validation` of the one that settings are chosen by."""

    folder: Path
    state: str
    config: dict
    metrics: dict[str, float] | None = None
    validation: dict[str, float] | None = None
    error: str | None = None
    seconds: float | None = None
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def setting(self) -> str:
        """What runs that differ in their seed only have in common."""
        return config_hash(self.config | {"seed": None})

    def chosen_by(self, metric: str) -> float:
        """What the run counts when a setting is chosen."""
        return objective_of({"metrics": self.metrics, "validation": self.validation}, metric)


def read_runs(folders: list[Path]) -> tuple[list[Run], list[str]]:
    """All runs in sweeps' folders, and a line for each thing in them that is none. Raises UserError for
    a folder without a run."""
    runs, problems = [], []
    for sweep in folders:
        if not sweep.is_dir():
            raise UserError(f"{sweep}: no such folder")
        candidates = [sweep] if (sweep / ".hydra").is_dir() else sorted(sweep.iterdir())
        found = 0
        for folder in candidates:
            if not folder.is_dir() or folder.name in OURS or folder.name.startswith("."):
                continue
            try:
                runs.append(read_run(folder))
                found += 1
            except (OSError, ValueError, KeyError, TypeError) as error:
                why = str(error).splitlines()[0] if str(error) else type(error).__name__
                problems.append(f"{folder}: skipped, {why}")
        if not found:
            raise UserError(f"{sweep}: holds no run" + "".join(f"\n  {line}" for line in problems))
    return runs, problems


def read_run(folder: Path) -> Run:
    """Raises ValueError, or KeyError, for a folder that holds no run."""
    path = folder / "summary.json"
    if not path.exists():
        source = folder / ".hydra" / "config.yaml"
        if not source.exists():
            raise ValueError("neither summary.json nor .hydra/config.yaml is in it")
        try:
            config = OmegaConf.to_container(OmegaConf.load(source), resolve=True)
        except Exception as error:  # half written, or not ours
            raise ValueError(f".hydra/config.yaml cannot be read: {error}") from error
        checked(config)
        return Run(folder, "running" if is_claimed(folder) else "unfinished", config)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"summary.json cannot be read: {error}") from error
    if not isinstance(summary, dict) or not {"state", "config"} <= set(summary):
        raise ValueError("summary.json is not a run's: it has no state or no config")
    checked(summary["config"])
    metrics, validation = summary.get("metrics"), summary.get("validation")
    if summary["state"] == "finished":
        if not isinstance(metrics, dict) or not metrics:
            raise ValueError("summary.json says finished and has no metrics")
        for value in [*metrics.values(), *(validation or {}).values()]:
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"summary.json has a metric that is no number: {value}")
    return Run(
        folder,
        summary["state"],
        summary["config"],
        metrics,
        validation,
        summary.get("error"),
        summary.get("seconds"),
        tuple(summary.get("recall") or ()),
    )


def checked(config: dict) -> None:
    """Raises ValueError if what comparing needs is not there."""
    if not isinstance(config, dict) or not isinstance(config.get("seed"), int):
        raise ValueError("its configuration is not a run's: it has no seed")
    for group in ("loss", "margin", "scale", "dataset", "device"):
        if not isinstance(config.get(group), dict):
            raise ValueError(f"its configuration is not a run's: it has no {group}")
    if not isinstance(config["loss"].get("name"), str):
        raise ValueError("its configuration is not a run's: it has no loss.name")
