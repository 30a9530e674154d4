"""A run as W&B shows it: a row an epoch, then metrics, pictures and a cloud of embeddings."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..config.tree import Logger
from ..errors import Pruned
from .session import Session, names
from .settings import mode_of, own_settings, reason

log = logging.getLogger(__name__)
CLOUD_CATEGORIES = 14  # as many as wandb.Object3D colours by number
CLOUD_POINTS = 10_000


class Tracker:
    """Where a run reports to. This one reports nowhere. `url` is its page, if it has one."""

    url: str | None = None

    def epoch(self, row: dict) -> None:
        """Metrics of an epoch; `row["epoch"]` is its number from 1."""

    def result(self, metrics: dict) -> None:
        """Final metrics."""

    def pictures(self, paths: list[Path], cloud: Callable[[], np.ndarray]) -> None:
        """Pictures, and what makes a cloud (N, 4 or 6) by `point_cloud`."""

    def tag(self, name: str) -> None:
        """One more tag on the run."""


class WandbTracker(Tracker):
    """Reports to a W&B run. An epoch's number is its step, so that a row is there once however often it
    is reported. What fails in it is said once, and then nothing more is reported."""

    def __init__(self, run, url: str | None = None):
        self.run, self.url, self.failed, self.epochs = run, url, False, 0
        self._try(self._define)

    def _define(self) -> None:
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")

    def _try(self, report: Callable, *arguments) -> None:
        if self.failed:
            return
        try:
            report(*arguments)
        except Exception as error:  # of its process, the disk, the server
            self.failed = True
            log.warning(f"W&B: {reason(error)}: nothing more is logged there")

    def epoch(self, row: dict) -> None:
        self.epochs = int(row["epoch"])
        values = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        self._try(self._log, values | {"epoch": self.epochs}, self.epochs)

    def _log(self, values: dict, step: int) -> None:
        if step >= self.run.starting_step:  # else W&B has it from an earlier process
            self.run.log(values, step=step, commit=True)

    def result(self, metrics: dict) -> None:
        self._try(lambda: self.run.summary.update(metrics))

    def pictures(self, paths: list[Path], cloud: Callable[[], np.ndarray]) -> None:
        self._try(self._pictures, paths, cloud)

    def _pictures(self, paths: list[Path], cloud: Callable[[], np.ndarray]) -> None:
        import wandb

        pictures = {
            f"plots/{path.stem}": wandb.Video(str(path), format="gif")
            if path.suffix == ".gif"
            else wandb.Image(str(path))
            for path in paths
        }
        # Again after a kill: W&B may have the row and not the files.
        step = max(self.epochs + 1, self.run.starting_step)
        self._log(pictures | {"embedding": wandb.Object3D(cloud())}, step)

    def tag(self, name: str) -> None:
        self._try(lambda: setattr(self.run, "tags", (*(self.run.tags or ()), name)))

    def pruned(self) -> None:
        self._try(lambda: self.run.summary.update({"pruned": True}))


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
def track(
    logger: Logger,
    *,
    config: dict,
    folder: Path,
    group: str | None,
    tags: list[str],
    rows: Iterable[dict] = (),
    resumed: bool = False,
) -> Iterator[Tracker]:
    """A run in W&B for the length of the block; an exception in it marks the run failed. A run that an
    earlier process began in `folder` goes on under its id, and of `rows`, the epochs before this block,
    those that W&B lacks are logged again. `resumed` is a tag. `group` is the sweep's, if it is of one.
    The block's end waits for uploads, for `logger.timeout` seconds at most."""
    if mode_of(logger) == "disabled":
        yield Tracker()
        return
    session = Session(logger, folder, own_id=group is None, identity=config.get("identity"))
    settings = own_settings()
    name = f"{settings.run_name or folder.parent.name}/{folder.name}"
    if group is None and settings.run_name:
        name = settings.run_name
    session.begin(
        config=config,
        **names(logger, settings, name, group, tags + ["resumed"] * resumed),
    )
    if session.run is None:
        yield Tracker()
        return
    tracker = WandbTracker(session.run, session.run.url if session.online else None)
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
    session.end()
