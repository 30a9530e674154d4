"""Sweeps and comparisons in W&B online, against a stub of its server."""

import numpy as np
import pytest
from PIL import Image

from src import tracking
from src.run.upload import upload
from tests.conftest import summary_of

from .test_online import TINY, lines

QUICK = tuple(override for override in TINY if not override.startswith("device.threads"))


def test_a_sweep_online_is_a_group_of_runs_and_a_comparison(command, tmp_path, server):
    settings = ["loss=arcface,softmax", "seed=0,1", "logger.timeout=60", "hydra.sweeper.baselines=false"]
    quick = [override for override in QUICK if not override.startswith("logger.timeout")]
    done = command("-m", *quick, *settings, **server.environment)
    assert done.returncode == 0, done.stderr
    assert len(server.runs) == len({run.display_name for run in server.runs.values()}) == 5
    comparison = server.run_named("/comparison")
    assert "not in W&B" not in done.stderr
    assert done.stdout.count("W&B: ") == 1 and f"W&B: {server.url}" in done.stdout  # the comparison
    summaries = {path.parent: summary_of(path.parent) for path in tmp_path.glob("out/*/summary.json")}
    folders = {about["wandb_url"].rpartition("/")[2]: folder for folder, about in summaries.items()}
    for run in server.runs.values():
        assert run.group == f"{tmp_path.name}-out" and run.exits == [0]
        if run is not comparison:
            folder = folders[run.name]
            assert run.epochs == [1, 2] and "synthetic" in run.tags
            assert run.value("choices")["loss"] in folder.name and "value" in run.value("margin")
            assert run.summary["test/accuracy"] == summary_of(folder)["metrics"]["accuracy"]
            assert f"{server.url}/tester/angular-penalty/runs/{run.name}" in (
                (folder / "train.log").read_text()
            )
    assert comparison.job_type == "comparison" and comparison.tags == ["comparison"]
    logged = {key: value for row in comparison.history for key, value in row.items()}
    assert logged["settings"]["nrows"] == 2 and logged["plots/ranking"]["_type"] == "image-file"
    (report,) = [a for a in server.artifacts.values() if a["artifactTypeName"] == "report"]
    assert report["state"] == "COMMITTED" and "report.html" in report["files"]
    assert (
        report["files"]["report.html"] == (tmp_path / "out" / "comparison" / "report.html").read_bytes()
    )


@pytest.fixture
def answer(tmp_path):
    """The folder of a comparison, as far as it is uploaded, and its group."""
    folder = tmp_path / "comparison"
    folder.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "ranking.png")
    (folder / "report.html").write_text("<html>")
    (folder / "summary.csv").write_text("setting,accuracy\narcface,0.9\nsoftmax,\n")
    return folder, "a-group"


def test_comparing_again_goes_on_with_the_same_run(composed, answer, online):
    logger = composed("logger.timeout=30").logger
    for _ in range(2):
        tracking.track_comparison(logger, *answer)
    (run,) = online.runs.values()
    assert run.exits == [0, 0] and run.group == "a-group"


def test_a_comparison_made_offline_is_uploaded_from_its_folder(composed, answer, online):
    tracking.track_comparison(composed("logger.mode=offline").logger, *answer)
    assert not online.runs and tracking.left_in_sweep(answer[0].parent).startswith("1 run is not in W&B")
    assert upload([answer[0].parent]) == 1 and upload([answer[0].parent]) == 0
    (run,) = online.runs.values()
    assert run.group == "a-group" and run.tags == ["comparison"] and run.exits == [0]
    assert run.history[0]["settings"]["nrows"] == 2


@pytest.mark.parametrize(("how", "when"), [(500, "before"), ("hang", "amidst"), (401, "amidst")])
def test_a_comparison_that_cannot_be_uploaded_costs_the_upload(
    how,
    when,
    composed,
    answer,
    online,
    said,
    monkeypatch,
):
    monkeypatch.setattr("wandb.apis.public.Api._HTTP_TIMEOUT", 2)  # of 19 seconds
    if when == "before":
        online.fail(how)
    else:
        log = tracking.comparison.log_comparison
        monkeypatch.setattr(
            tracking.comparison, "log_comparison", lambda *given: (online.fail(how), log(*given))
        )
    tracking.track_comparison(composed("logger.timeout=2").logger, *answer)
    found = [line for line in said.messages if "W&B" in line and "waiting" not in line]
    assert found and all("\n" not in line for line in found)
    if when == "before":
        assert len(found) == 1 and found[0].startswith(f"W&B is offline ({online.url}: ")
    else:
        assert any(
            line.startswith(("the comparison was not uploaded", "not uploaded")) for line in found
        )


def test_what_breaks_in_the_client_costs_the_upload(composed, answer, online, said):
    (answer[0] / "report.html").unlink()
    tracking.track_comparison(composed().logger, *answer)
    assert len(lines(said, "the comparison was not uploaded to W&B: ")) == 1
    assert online.run_named("/comparison").exits == [1]


def test_a_report_that_is_not_published_is_written(composed, tmp_path, online):
    logger = composed().logger
    report = tracking.report(logger, "group", "a title", ["an answer"], "accuracy", ["margin.value"])
    online.fail(500)
    told = tracking.publish(report, tmp_path / "report.json")
    assert "not published" in told and "HTTP 500" in told and (tmp_path / "report.json").exists()
