"""A sweep's answer in W&B: a run that holds it, and a Report."""

import csv
import logging
from pathlib import Path

from ..config.tree import PACKAGES, Logger
from ..durable import write_text
from ..errors import UserError
from .session import Session, init_arguments, note_of
from .settings import PROJECT, mode_of, own_settings, reason, why_not_online

log = logging.getLogger(__name__)


def track_comparison(logger: Logger, folder: Path, group: str | None = None) -> None:
    """Show a comparison's folder as a run `comparison` in the sweep's group: its table of settings, its
    figures, and its page as an artifact. A later comparison updates the same run. A failure costs only
    the upload, and is logged in one line."""
    try:
        if mode_of(logger) == "disabled":
            return
        settings, earlier = own_settings(), note_of(folder)
        name = f"{settings.run_name or group}/comparison"
        about = init_arguments(logger, settings, name, group, ["comparison"])
        about = earlier.about if earlier and group is None else about
        session = Session(logger, folder, id_from_environment=False, about=about)
        session.begin(job_type="comparison")
        if session.run is None:
            return
    except UserError as error:  # the runs were made elsewhere, or W&B's settings have changed since
        log.warning(f"the comparison was not uploaded to W&B: {error}")
        return
    why = None
    try:
        log_comparison(session, folder)
    except Exception as error:
        why = reason(error)
        log.warning(f"the comparison was not uploaded to W&B: {why}")
    session.end(exit_code=1 if why else 0, lacks=why)


def log_comparison(session: Session, folder: Path) -> None:
    import wandb

    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    figures = {f"plots/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
    session.media = 1 + len(figures)
    data = [list(map(number, row)) for row in rows]
    table = wandb.Table(columns=header, data=data, allow_mixed_types=True)
    session.run.log({"settings": table} | figures)
    artifact = wandb.Artifact(f"comparison-{session.run.id}", type="report")
    artifact.add_file(str(folder / "report.html"))
    session.run.log_artifact(artifact)


def number(cell: str) -> float | str | None:
    """The value of a cell of a CSV file."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def report(logger: Logger, group: str, title: str, text: list[str], metric: str, keys: list[str]):
    """A W&B Report on the runs of a group (wandb-workspaces), unsaved: parallel coordinates over `keys`
    of the configuration, the metric against the margin, spheres. Raises UserError if that is missing."""
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError:
        raise UserError(
            "--wandb-report: wandb-workspaces is not installed, pip install -e '.[sweeper]'"
        ) from None
    project = logger.project or own_settings().project or PROJECT
    runs = wr.Runset(
        entity=logger.entity or "",
        project=project,
        name=group,
        filters=f"Group = '{group}'",
    )
    value = wr.SummaryMetric(f"test/{metric}")
    names = [f"choices.{key}" if key in PACKAGES else key for key in keys]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name)) for name in names]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=value))
    panels = [
        wr.ParallelCoordinatesPlot(columns=columns, title=f"settings and {metric}"),
        wr.ScatterPlot(x=wr.Config("margin.value"), y=value, title=f"{metric} against margin"),
        wr.LinePlot(x="epoch", y=[f"validation/{metric}"], title=f"validation {metric}"),
        wr.MediaBrowser(media_keys=["embedding", "plots/embedding"], title="spheres"),
    ]
    blocks = [wr.P(line) for line in text] + [wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(entity=logger.entity or "", project=project, title=title, blocks=blocks)


def publish(report, path: Path) -> str:
    """Save a report online, and return its address; where that fails write it to `path`, and say why."""
    why = why_not_online()
    if not why:
        try:
            report.save()
            return f"W&B report: {report.url}"
        except Exception as error:  # whatever the server or the client makes of it
            why = reason(error)
    write_text(path, report._to_model().model_dump_json(by_alias=True, indent=1), encoding="utf-8")
    return f"the W&B report was not published ({why}): its source is in {path}"
