"""What W&B shows of a run, from its folder: as the run ends, and by `make sync` at any time."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from .. import tracking
from ..config import Config
from ..config.tree import Logger
from ..errors import UserError
from ..evaluation import metric_named
from ..evaluation.results import Results
from .epochs import tracked
from .folder import RunFolder, model_file

log = logging.getLogger(__name__)
MOST_PREDICTIONS = 2000  # rows of a table in W&B


def tracked_run(
    config: Config,
    identity: str,
    folder: RunFolder,
    split: str,
    rows: list[dict],
    group: str | None,
    resumed: bool = False,
    about: dict | None = None,
) -> AbstractContextManager[tracking.Tracker]:
    """`tracking.track` for a run whose `rows` of metrics.csv are measured on `split`."""
    return tracking.track(
        config.logger,
        config=config.plain() | {"identity": identity},
        folder=folder.path,
        group=group,
        tags=[config.name(name) for name in ("loss", "dataset", "model")] + ["resumed"] * resumed,
        split=split,
        objective=config.objective,
        higher=metric_named(config.objective).higher_is_better,
        rows=[tracked(row, split) for row in rows],
        about=about,
    )


def shown_of(folder: RunFolder, figures: list[Path]) -> tracking.Shown:
    """What W&B shows of a finished run beside its numbers. Raises OSError and ValueError."""
    from .. import plots

    summary, results = folder.read_summary(), Results.load(folder.path / "embeddings.npz")
    points = plots.to_dimensions(results.embeddings, results.embeddings[:1], 3)[0]
    colours = plots.class_colours(len(results.classes))
    return tracking.Shown(
        figures,
        tracking.point_cloud(points, results.labels, colours),
        predictions_of(results),
        own_file(folder, folder.path / "train.log"),
        own_file(folder, model_file(folder.path)) if summary.config.logger.artifacts else None,
    )


def own_file(folder: RunFolder, path: Path) -> Path | None:
    """A file of a run's folder; None if there is none, or if a link or its name lead to another place,
    of which nothing is uploaded."""
    inside = path.is_file() and path.resolve().is_relative_to(folder.path.resolve())
    return path if inside else None


def predictions_of(results: Results) -> tuple[list[str], list[list]] | None:
    """A row for each test image of a closed set: its class, the predicted one, and angles in radians to
    its own prototype and to the nearest other one; None for an open set, and for many images."""
    if results.predicted is None or len(results.labels) > MOST_PREDICTIONS:
        return None
    names = results.names if results.names is not None else np.arange(len(results.labels))
    angles = results.target_angle, results.other_angle
    classes = results.classes[results.labels], results.classes[results.predicted]
    columns = ["image", "class", "predicted", "angle to its class", "angle to the nearest other"]
    rows = zip(*(values.tolist() for values in (names, *classes, *angles)), strict=True)
    return columns, [list(row) for row in rows]


def upload(folders: list[Path]) -> int:
    """Send W&B what it lacks of the runs and comparisons in `folders`, and return how many there were.
    Raises UserError if W&B cannot be reached, or if one of them cannot be sent."""
    places = [
        path.parent.parent for folder in folders for path in sorted(folder.rglob("wandb/run.json"))
    ]
    notes = {path: tracking.note_of(path) or note_again(RunFolder(path)) for path in places}
    lacking = {path: note for path, note in notes.items() if note.left}
    if not lacking:
        return 0
    why = tracking.why_not_online()
    if why:
        raise UserError(f"nothing was uploaded: {why}")
    failed = {}
    for path, note in lacking.items():
        try:
            if note.split is not None:
                replay(RunFolder(path), note)
            else:  # a comparison
                tracking.track_comparison(Logger(mode="online"), path)
            why = (tracking.note_of(path) or note).left
        except (UserError, OSError, ValueError, KeyError) as error:
            why = str(error)
        if why:
            failed[path] = why
            log.error(f"{path}: {why}")
    if failed:
        first, why = next(iter(failed.items()))
        counts = f"{len(failed)} of {len(lacking)} runs"
        raise UserError(f"{counts} were not uploaded, the first {first}: {why}")
    return len(lacking)


def note_again(folder: RunFolder) -> tracking.Note:
    """The note of a run whose own is damaged, for another run in W&B: what W&B has is not known."""
    summary = folder.summary()
    split = "validation" if summary and summary.validation else "test"
    left = "its wandb/run.json cannot be read"
    return tracking.Note("", summary and summary.identity, {}, split, left)


def replay(folder: RunFolder, note: tracking.Note) -> None:
    """Open a run's W&B run under its id, and log what lies in its folder. Rows that W&B has are not sent
    again."""
    if folder.running:
        raise UserError("the run is under way: it reports by itself")
    summary = folder.summary()
    if note.identity is None:
        raise UserError(f"neither summary.json nor wandb/run.json can be read: {note.left}")
    config = summary.config if summary else Config.model_validate(folder.begun()["config"])
    config = config.replace(logger={"mode": "online", "tensorboard": False})
    rows = folder.rows() if (folder.path / "metrics.csv").exists() else []
    where = folder, note.split, rows, note.about.get("group")
    with tracked_run(config, note.identity, *where, about=note.about) as tracker:
        if summary and summary.state == "pruned":
            tracker.pruned()
        elif summary and summary.done:
            if summary.state == "collapsed":
                tracker.tag("collapsed")
            tracker.result({f"test/{key}": value for key, value in summary.metrics.items()})
            figures = [own_file(folder, folder.path / name) for name in summary.figures or ()]
            there = list(filter(None, figures))
            tracker.show(lambda: shown_of(folder, there))
        else:
            tracker.failed()
