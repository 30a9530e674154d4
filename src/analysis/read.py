"""What lies in a sweep's folder: its runs, in whatever state, and what is no run at all."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..config import Config, setting
from ..errors import UserError
from ..evaluation import metrics_of
from ..foreign import printable
from ..run.folder import RunFolder
from ..run.summary import Summary, first_mistake
from ..words import first_line
from .statistics import Repeat

BESIDE_RUNS = ("comparison",)  # folders of a sweep that are no runs


@dataclass(frozen=True)
class RunRecord:
    """One run folder. `state` is summary.json's, or running or unfinished where there is none."""

    folder: Path
    state: str
    config: Config
    summary: Summary | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def repeat(self) -> Repeat:
        """Which of its setting's runs it is."""
        return Repeat(self.seed, self.config.dataset.fold)

    @property
    def is_done(self) -> bool:
        return self.summary is not None and self.summary.done

    @property
    def setting(self) -> str:
        """What runs that differ in their seed and fold only have in common."""
        return self.summary.setting if self.summary else setting(self.config)

    @property
    def metrics(self) -> dict[str, float] | None:
        """Metrics of the test split, of a finished run."""
        return self.summary.metrics if self.is_done else None

    @property
    def validation(self) -> dict[str, float] | None:
        """Metrics of the split that settings are chosen by."""
        return self.summary.validation if self.is_done else None

    @property
    def error(self) -> str | None:
        """Why it ended as it did."""
        return self.summary and (self.summary.error or self.summary.collapse)

    @property
    def seconds(self) -> float | None:
        return self.summary and self.summary.seconds

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.summary.classes) if self.summary else ()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The numbers of images and pairs of each split."""
        return self.summary.counts if self.summary else {}

    @property
    def measured(self) -> set[str]:
        """The metrics that it can be compared by, on every split that counts."""
        return set(self.metrics) & set(self.validation or self.metrics)

    def chosen_by(self, metric: str) -> float:
        """What the run counts when a setting is chosen."""
        return self.summary.objective(metric)


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
            if folder.name != printable(folder.name):
                problems.append(f"{printable(folder)}: skipped, control characters in its name")
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
                why = first_line(error)
                problems.append(f"{folder}: skipped, {why}")
        if not count:
            raise UserError(f"{sweep}: holds no run" + "".join(f"\n  {line}" for line in problems))
    return runs, problems


def read_run(path: Path) -> RunRecord:
    """Raises ValueError for a folder that holds no run, or one with a broken summary."""
    folder = RunFolder(path)
    if not (path / "summary.json").exists():
        config = folder.begun().get("config")
        if config is None:
            raise ValueError("no run has begun in it: it has neither summary.json nor .hydra/run.json")
        try:
            config = Config.model_validate(config)
        except ValidationError as error:
            raise ValueError(f"run.json is not that of a run: {first_mistake(error)}") from None
        return RunRecord(path, "running" if folder.running else "unfinished", config)
    summary = folder.read_summary()
    if summary.done:
        for what in ("metrics", "validation"):
            check_metrics(getattr(summary, what), what, summary.config)
    return RunRecord(path, summary.state, summary.config, summary)


def check_metrics(metrics: dict[str, float] | None, what: str, config: Config) -> None:
    """Raise ValueError unless the metric that the run was judged by is there."""
    if metrics is None and what == "validation":
        return
    evaluation = config.evaluation
    known = metrics_of(evaluation.protocol, evaluation.ranks, evaluation.map_at)
    if not set(known) & set(metrics):
        raise ValueError(f"its summary.json has no metric in {what}")
    if config.objective in known and config.objective not in metrics:
        raise ValueError(f"its summary.json has no number for {config.objective} in {what}")
