"""Runs in Weights & Biases: the only place that imports wandb, and only when asked to.

W&B is a view of a run's files; nothing is read back from it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..durable import write_text
from ..errors import Pruned, UserError

MODES = ("auto", "online", "offline", "disabled")
CLOUD_CATEGORIES = 14  # as many as wandb.Object3D colours by number
CLOUD_POINTS = 10_000


class Tracker:
    """Where a run reports to. This one reports nowhere."""

    def epoch(self, row: dict) -> None:
        """Metrics of an epoch; `row["epoch"]` is its number from 1."""

    def result(self, metrics: dict, plots: list[Path], cloud: np.ndarray) -> None:
        """Final metrics, pictures, and a cloud (N, 4 or 6) from `point_cloud`."""

    def tag(self, name: str) -> None:
        """One more tag on the run."""


class WandbTracker(Tracker):
    def __init__(self, run):
        self.run = run
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")

    def epoch(self, row: dict) -> None:
        self.run.log({key: value for key, value in row.items() if isinstance(value, (int, float))})

    def result(self, metrics: dict, plots: list[Path], cloud: np.ndarray) -> None:
        import wandb

        pictures = {
            f"plots/{path.stem}": wandb.Video(str(path), format="gif")
            if path.suffix == ".gif"
            else wandb.Image(str(path))
            for path in plots
        }
        self.run.log(pictures | {"embedding": wandb.Object3D(cloud)})
        self.run.summary.update(metrics)

    def tag(self, name: str) -> None:
        self.run.tags = (*(self.run.tags or ()), name)


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


def check_logger(logger: dict) -> None:
    """Raises UserError for a mode that does not exist, or an online run without a key."""
    if logger["name"] == "none":
        return
    if not isinstance(logger["tags"], list):
        raise UserError(f"logger.tags={logger['tags']}: a list, as in 'logger.tags=[mine,yours]'")
    if logger["mode"] not in MODES:
        raise UserError(f"logger.mode={logger['mode']}: choose one of {', '.join(MODES)}")
    if logger["mode"] == "online" and not has_key():
        raise UserError("logger.mode=online: no W&B key here, run `wandb login` or use auto or offline")


def has_key() -> bool:
    import wandb

    try:
        return bool(wandb.login(prompt=False))
    except wandb.errors.Error:  # a key that the server refuses
        return False


def begun(folder: Path) -> str | None:
    """The id of the W&B run that was begun last in a run's folder."""
    runs = sorted((folder / "wandb").glob("*run-*-*"), key=lambda path: path.stat().st_mtime)
    return runs[-1].name.rpartition("-")[2] if runs else None


def sweep_group(folder: Path) -> str:
    """What the runs of a sweep in `folder` are grouped as."""
    return "-".join(folder.absolute().parts[-2:])


def _mode(logger: dict) -> str:
    if logger["mode"] != "auto":
        return logger["mode"]
    return os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")


@contextmanager
def track(
    logger: dict,
    *,
    config: dict,
    folder: Path,
    name: str,
    group: str | None,
    tags: list[str],
    resumed: bool = False,
) -> Iterator[Tracker]:
    """A run in W&B for the length of the block; an exception in it marks the run failed. `resumed`
    continues the run that an earlier process began in `folder`: online it goes on in place, offline
    both parts carry one id, so that `wandb sync` makes one run of them. It is tagged `resumed`."""
    if logger["name"] == "none" or logger["mode"] == "disabled":
        yield Tracker()
        return
    import wandb

    mode = _mode(logger)
    earlier = begun(folder) if resumed else None
    run = wandb.init(
        id=earlier,
        resume="allow" if earlier and mode == "online" else None,
        project=logger["project"],
        entity=logger["entity"],
        group=logger["group"] or group,
        tags=tags + list(logger["tags"]) + ["resumed"] * resumed,
        name=name,
        config=config,
        dir=folder,
        mode=mode,
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        yield WandbTracker(run)
    except Pruned:  # ended early, not failed
        run.summary["pruned"] = True
        run.finish()
        raise
    except BaseException:  # as `with run` would, which also prints a traceback
        run.finish(exit_code=1)
        raise
    run.finish()


def track_comparison(
    logger: dict,
    out: Path,
    group: str,
    header: list[str],
    rows: list[list],
    pictures: list[Path],
    page: Path,
) -> None:
    """A run `comparison` in the sweep's group: a table of `rows`, pictures, and the page as an artifact.
    Comparing again goes on with the same run."""
    if logger["name"] == "none" or logger["mode"] == "disabled":
        return
    import wandb

    mode, earlier = _mode(logger), begun(out)
    with wandb.init(
        id=earlier,
        resume="allow" if earlier and mode == "online" else None,
        project=logger["project"],
        entity=logger["entity"],
        group=logger["group"] or group,
        job_type="comparison",
        tags=["comparison", *logger["tags"]],
        name=f"{group}/comparison",
        dir=out,
        mode=mode,
        settings=wandb.Settings(silent=True, console="off"),
    ) as run:
        table = wandb.Table(columns=header, data=rows, allow_mixed_types=True)
        run.log(
            {"settings": table} | {f"plots/{path.stem}": wandb.Image(str(path)) for path in pictures}
        )
        artifact = wandb.Artifact(f"comparison-{run.id}", type="report")
        artifact.add_file(str(page))
        run.log_artifact(artifact)


def report(logger: dict, group: str, title: str, text: list[str], metric: str, keys: list[str]):
    """A W&B Report on the runs of a group (wandb-workspaces), unsaved: parallel coordinates over `keys`
    of the configuration, the metric against the margin, spheres. Raises UserError if that is missing."""
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError:
        raise UserError(
            "--wandb-report: wandb-workspaces is not installed, pip install -e '.[sweeper]'"
        ) from None
    runs = wr.Runset(
        entity=logger["entity"] or "",
        project=logger["project"],
        name=group,
        filters=f"Group = '{group}'",
    )
    value = wr.SummaryMetric(f"test/{metric}")
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in keys]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=value))
    panels = [
        wr.ParallelCoordinatesPlot(columns=columns, title=f"settings and {metric}"),
        wr.ScatterPlot(x=wr.Config("margin.value"), y=value, title=f"{metric} against margin"),
        wr.LinePlot(x="epoch", y=[f"validation/{metric}"], title=f"validation {metric}"),
        wr.MediaBrowser(media_keys=["embedding", "plots/embedding"], title="spheres"),
    ]
    blocks = [wr.P(line) for line in text] + [wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(
        entity=logger["entity"] or "", project=logger["project"], title=title, blocks=blocks
    )


def publish(report, path: Path) -> str:
    """Save a report online, and return its address; without a key write it to `path`, and say so."""
    if has_key():
        report.save()
        return f"W&B report: {report.url}"
    write_text(path, report._to_model().model_dump_json(by_alias=True, indent=1), encoding="utf-8")
    return f"no W&B key here (wandb login): the report was not published, its source is in {path}"
