"""What lies in a sweep's folder: its runs, in whatever state, and what is no run at all."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..evaluation import EVALUATIONS
from ..run.folder import DONE, is_claimed, objective_of, text_of
from ..run.identity import setting_hash
from .foreign import read_config
from .statistics import Repeat

NEEDED = (
    "loss._target_",
    "loss.name",
    "margin",
    "scale",
    "dataset.name",
    "model.name",
    "logger",
    "device",
)
GROUPS = ("margin", "scale", "logger", "device")
BESIDE_RUNS = ("comparison",)  # folders of a sweep that are no runs


@dataclass(frozen=True)
class RunRecord:
    """One run folder. `state` is summary.json's, or running or unfinished where there is none; `error`
    says why it ended so. `metrics` are of the test split, `validation` of the one that settings are
    chosen by."""

    folder: Path
    state: str
    config: dict
    metrics: dict[str, float] | None = None
    validation: dict[str, float] | None = None
    error: str | None = None
    seconds: float | None = None
    classes: tuple[str, ...] = ()
    code: dict | None = None  # that computed it, see run/identity.py
    data: str | None = None  # the fingerprint of its images
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # of each split's images and pairs
    wandb_url: str | None = None  # its page, if it was online

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def repeat(self) -> Repeat:
        """Which of its setting's runs it is."""
        fold = self.config["dataset"].get("fold")
        return Repeat(self.seed, fold if isinstance(fold, int) else None)

    @property
    def is_done(self) -> bool:
        return self.state in DONE

    @property
    def setting(self) -> str:
        """What runs that differ in their seed and fold only have in common."""
        return setting_hash(self.config)

    @property
    def measured(self) -> set[str]:
        """The metrics that it can be compared by, on every split that counts."""
        return set(self.metrics) & set(self.validation or self.metrics)

    def chosen_by(self, metric: str) -> float:
        """What the run counts when a setting is chosen."""
        return objective_of({"metrics": self.metrics, "validation": self.validation}, metric)


def read_runs(folders: list[Path]) -> tuple[list[RunRecord], list[str]]:
    """All runs in sweeps' folders, and a line for each thing in them that is none. Raises UserError for
    a folder without a run."""
    runs, problems = [], []
    for sweep in folders:
        if not sweep.is_dir():
            raise UserError(f"{sweep}: no such folder")
        candidates = [sweep] if (sweep / ".hydra").is_dir() else sorted(sweep.iterdir())
        count = 0
        for folder in candidates:
            if not folder.is_dir() or folder.name in BESIDE_RUNS or folder.name.startswith("."):
                continue
            try:
                runs.append(read_run(folder))
                count += 1
            except (
                OSError,
                ValueError,
                TypeError,
                AttributeError,
                OverflowError,
                RecursionError,
            ) as error:
                why = str(error).splitlines()[0] if str(error) else type(error).__name__
                problems.append(f"{folder}: skipped, {why}")
        if not count:
            raise UserError(f"{sweep}: holds no run" + "".join(f"\n  {line}" for line in problems))
    return runs, problems


def read_run(folder: Path) -> RunRecord:
    """Raises ValueError for a folder that holds no run, or one with a broken summary."""
    path = folder / "summary.json"
    if not path.exists():
        return RunRecord(
            folder, "running" if is_claimed(folder) else "unfinished", composed_config(folder)
        )
    try:
        summary = json.loads(text_of(path))
    except ValueError as error:
        raise ValueError(f"summary.json cannot be read: {error}") from error
    if not isinstance(summary, dict) or not isinstance(summary.get("state"), str):
        raise ValueError("summary.json is not a run's: it has no state")
    config = checked_config(summary.get("config"))
    finished = summary["state"] in DONE  # whether its metrics are numbers is looked at here
    return RunRecord(
        folder,
        summary["state"],
        config,
        validated(summary.get("metrics"), "metrics", config) if finished else None,
        validated(summary["validation"], "validation", config)
        if finished and summary.get("validation")
        else None,
        next((str(summary[key]) for key in ("error", "collapse") if summary.get(key)), None),
        summary["seconds"] if isinstance(summary.get("seconds"), int | float) else None,
        tuple(map(str, summary.get("classes") or ())),
        code_in(summary),
        summary["data"] if isinstance(summary.get("data"), str) else None,
        counts_in(summary),
        web_address(summary.get("wandb_url")),
    )


def code_in(summary: dict) -> dict | None:
    """The code that a summary says computed it, None if it says so in other words than ours."""
    code = summary.get("code")
    plain = isinstance(code, dict) and all(isinstance(v, str | bool | None) for v in code.values())
    return code if plain else None


def counts_in(summary: dict) -> dict[str, dict[str, int]]:
    """What a summary says of its splits' sizes; nothing of a run from before it did."""
    found = summary.get("counts")
    found = found if isinstance(found, dict) else {}
    return {
        split: {name: number for name, number in counts.items() if isinstance(number, int)}
        for split, counts in found.items()
        if isinstance(counts, dict)
    }


def web_address(value: object) -> str | None:
    """An address that a page may link to: no script, no file."""
    web = isinstance(value, str) and value.startswith(("https://", "http://"))
    return value if web else None


def composed_config(folder: Path) -> dict:
    """The configuration as Hydra wrote it."""
    source = folder / ".hydra" / "config.yaml"
    if not source.exists():
        raise ValueError("no configuration is in it, neither in summary.json nor in .hydra/config.yaml")
    try:
        config = read_config(source)
    except Exception as error:  # half written, or not ours
        raise ValueError(f".hydra/config.yaml cannot be read: {error}") from error
    return checked_config(config)


def checked_config(config: object) -> dict:
    """Raises ValueError if what comparing needs is not there."""
    for key in ("seed", *NEEDED):
        value = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        kind = int if key == "seed" else dict if key in GROUPS else str
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"its configuration is not a run's: it has no {key}")
    return config


def evaluation_of(config: dict) -> str:
    return (config.get("evaluation") or {}).get("name", "closed_set")


def validated(metrics: object, what: str, config: dict) -> dict[str, float]:
    """Raises ValueError unless the metric that the run was judged by is there, and every one a
    number."""
    known, objective = EVALUATIONS.get(evaluation_of(config), ()), config.get("objective")
    names = [name for name in known if isinstance(metrics, dict) and name in metrics]
    for name in dict.fromkeys([*([objective] if objective in known else []), *names]):
        value = metrics.get(name) if isinstance(metrics, dict) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"its summary.json has no number for {name} in {what}, but {value}")
    if not names:
        raise ValueError(f"its summary.json has no metric in {what}")
    return metrics
