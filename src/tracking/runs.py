"""A run as W&B shows it: a row an epoch, then metrics, pictures and a cloud of embeddings."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config.tree import Logger
from ..errors import Pruned
from .session import Session, init_arguments
from .settings import mode_of, own_settings, reason

log = logging.getLogger(__name__)
CLOUD_CATEGORIES = 14  # as many as wandb.Object3D colours by number
CLOUD_POINTS = 10_000


class Shown(NamedTuple):
    """What W&B shows of a finished run beside its numbers."""

    figures: list[Path]
    cloud: np.ndarray  # by `point_cloud`
    predictions: tuple[list[str], list[list]] | None = None  # columns and rows of a table
    log: Path | None = None
    model: Path | None = None  # kept as an artifact


class Tracker:
    """Where a run reports to. This one reports nowhere. `url` is its page, if it has one."""

    url: str | None = None
    reports = False  # anywhere

    def epoch(self, row: dict) -> None:
        """Metrics of an epoch; `row["epoch"]` is its number from 1."""

    def result(self, metrics: dict) -> None:
        """Final metrics."""

    def show(self, shown: Callable[[], Shown]) -> None:
        """Figures and more; `shown` is called only if they go somewhere."""

    def tag(self, name: str) -> None:
        """One more tag on the run."""

    def failed(self) -> None:
        """The run has failed, or was interrupted."""

    def pruned(self) -> None:
        """The run was ended early, because it was expected to be worse than others."""


class Reporter(Tracker):
    """A tracker that reports somewhere. What fails in it is said once, and then nothing more is
    reported there."""

    reports, broken, name = True, False, ""

    def _try(self, report: Callable, *arguments) -> None:
        if self.broken:
            return
        try:
            report(*arguments)
        except Exception as error:  # of its process, the disk, the server
            self.broken = True
            log.warning(f"{self.name}: {reason(error)}: nothing more is logged there")


class Several(Tracker):
    """Reports to each of several trackers."""

    reports = True

    def __init__(self, trackers: Iterable[Tracker]):
        self.trackers = list(trackers)
        self.url = next((one.url for one in self.trackers if one.url), None)

    def epoch(self, row: dict) -> None:
        for one in self.trackers:
            one.epoch(row)

    def result(self, metrics: dict) -> None:
        for one in self.trackers:
            one.result(metrics)

    def show(self, shown: Callable[[], Shown]) -> None:
        shown = functools.cache(shown)
        for one in self.trackers:
            one.show(shown)

    def tag(self, name: str) -> None:
        for one in self.trackers:
            one.tag(name)

    def failed(self) -> None:
        for one in self.trackers:
            one.failed()

    def pruned(self) -> None:
        for one in self.trackers:
            one.pruned()


class WandbTracker(Reporter):
    """Reports to a W&B run. An epoch's number is its step, so that a row is there once however often it
    is reported. `objective` is the metric whose best value W&B shows, `higher` says which is better."""

    name = "W&B"

    def __init__(self, session: Session, objective: str | None = None, higher: bool = True):
        self.session, self.run, self.url = session, session.run, session.run.url
        self.epochs, self.exit_code = 0, 0
        self._try(self._define, objective, higher)

    def _define(self, objective: str | None, higher: bool) -> None:
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")
        if objective:
            best = "max" if higher else "min"
            self.run.define_metric(objective, step_metric="epoch", summary=f"last,{best}")

    def epoch(self, row: dict) -> None:
        self.epochs = int(row["epoch"])
        values = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        self._try(self._log, values | {"epoch": self.epochs}, self.epochs)

    def _log(self, values: dict, step: int) -> None:
        self.session.last_step = max(self.session.last_step, step)
        if step >= self.run.starting_step:  # else W&B has it from an earlier process
            self.run.log(values, step=step, commit=True)

    def result(self, metrics: dict) -> None:
        self._try(lambda: self.run.summary.update(metrics))

    def show(self, shown: Callable[[], Shown]) -> None:
        self._try(lambda: self._show(shown()))

    def _show(self, shown: Shown) -> None:
        import wandb

        media = {
            f"plots/{path.stem}": wandb.Video(str(path), format="gif")
            if path.suffix == ".gif"
            else wandb.Image(str(path))
            for path in shown.figures
        }
        media["embedding"] = wandb.Object3D(shown.cloud)
        if shown.predictions:
            columns, rows = shown.predictions
            media["predictions"] = wandb.Table(columns=columns, data=rows)
        # Again after a kill: W&B may have the row and not the files.
        step = max(self.epochs + 1, self.run.starting_step)
        self._log(media, step)
        self.session.media += len(media)
        if shown.log:
            self.run.save(escape(str(shown.log)), base_path=str(shown.log.parent), policy="now")
        if shown.model:
            artifact = wandb.Artifact(f"model-{self.run.id}", type="model")
            artifact.add_file(str(shown.model))
            self.run.log_artifact(artifact)

    def tag(self, name: str) -> None:
        self._try(lambda: setattr(self.run, "tags", tuple({*(self.run.tags or ()), name})))

    def pruned(self) -> None:
        self._try(lambda: self.run.summary.update({"pruned": True}))

    def failed(self) -> None:
        self.exit_code = 1


def point_cloud(points: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Points (N, ≤3) as wandb.Object3D takes them: (n, 4) with a category, or, with more classes
    than it has categories, (n, 6) with the class's colour from `colours` (C, 3) in 0…255. A missing
    third dimension is 0; at most 10,000 points, evenly picked."""
    picked = np.linspace(0, len(points) - 1, min(len(points), CLOUD_POINTS)).astype(int)
    points, labels = points[picked], labels[picked]
    points = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    if len(colours) <= CLOUD_CATEGORIES:
        return np.column_stack([points, labels + 1])
    return np.column_stack([points, colours[labels]])


def sweep_group(folder: Path) -> str:
    """What the runs of a sweep in `folder` are grouped as."""
    return "-".join(folder.absolute().parts[-2:])


@contextmanager
def track(logger: Logger, *, folder: Path, rows: Iterable[dict] = (), **about_run) -> Iterator[Tracker]:
    """A run where its `logger` group says, for the length of the block: in W&B, as `in_wandb` takes the
    other arguments, and in TensorBoard. `rows` are those of metrics.csv before this block."""
    rows = list(rows)
    with in_wandb(logger, folder=folder, rows=rows, **about_run) as tracker:
        if not logger.tensorboard:
            yield tracker
            return
        from .tensorboard import TensorboardTracker

        other = TensorboardTracker(folder)
        for row in rows:
            other.epoch(row)
        try:
            yield Several([tracker, other])
        finally:
            other.close()


@contextmanager
def in_wandb(
    logger: Logger,
    *,
    config: dict,
    folder: Path,
    group: str | None,
    tags: list[str],
    split: str,
    objective: str | None = None,
    higher: bool = True,
    rows: Iterable[dict] = (),
    about: dict | None = None,
) -> Iterator[Tracker]:
    """A run in W&B for the length of the block; an exception in it marks the run failed. A run that an
    earlier process began in `folder` goes on under its id, and of `rows`, those of metrics.csv before
    this block, those that W&B lacks are logged again, their metrics as of the `split`. `group` is the
    sweep's, if the run is of one. `about` is what an earlier process called it. The block's end waits
    for uploads, for `logger.timeout` seconds at most."""
    if mode_of(logger) == "disabled":
        yield Tracker()
        return
    settings = own_settings()
    name = f"{settings.run_name or folder.parent.name}/{folder.name}"
    if group is None and settings.run_name:
        name = settings.run_name
    session = Session(
        logger,
        folder,
        id_from_environment=group is None,
        identity=config.get("identity"),
        split=split,
        about=about or init_arguments(logger, settings, name, group, tags),
    )
    session.begin(config)
    if session.run is None:
        yield Tracker()
        return
    tracker = WandbTracker(session, objective and f"{split}/{objective}", higher)
    for row in rows:
        tracker.epoch(row)
    try:
        yield tracker
    except Pruned:  # ended early, not failed
        tracker.pruned()
        session.end()
        raise
    except BaseException:  # as `with run` would, which also prints a traceback
        session.end(exit_code=1)
        raise
    session.end(tracker.exit_code)
