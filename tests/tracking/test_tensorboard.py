"""logger=tensorboard: event files that say what metrics.csv says."""

import csv
import importlib.util
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.errors import UserError
from src.run.build import check_config
from src.run.lifecycle import show, train_run
from src.tracking.runs import Several, Tracker
from tests.conftest import FAST, config_of, summary_of
from tests.run.test_best_epoch import cut_after


def configured(*overrides: str):
    return check_config(config_of(*FAST, "logger=tensorboard", *overrides))


def events(folder) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()


def scalars(folder, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events(folder).Scalars(tag)]


def column(folder, name: str) -> list[tuple[int, float]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [(int(row["epoch"]), float(row[name])) for row in csv.DictReader(file)]


@pytest.mark.figures
def test_event_files_have_the_rows_the_result_and_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr("src.run.lifecycle.show", show)  # the other tests here send no figures
    train_run(configured("epochs=3", "plots.figures=true"), tmp_path)
    assert column(tmp_path, "loss") == scalars(tmp_path, "loss")
    assert column(tmp_path, "accuracy") == scalars(tmp_path, "validation/accuracy")
    assert scalars(tmp_path, "test/accuracy") == [(3, summary_of(tmp_path)["metrics"]["accuracy"])]
    drawn = {f"plots/{path.stem}" for path in (tmp_path / "plots").glob("*.png")}
    assert drawn and set(events(tmp_path).Tags()["images"]) == drawn


def test_a_run_that_goes_on_has_each_row_once(tmp_path, monkeypatch):
    config = configured("epochs=4", "plots.figures=false")
    cut_after(2, tmp_path, monkeypatch, config)
    train_run(config, tmp_path)
    assert summary_of(tmp_path)["resumed_after_epoch"] == 2
    assert [step for step, _ in scalars(tmp_path, "loss")] == [1, 2, 3, 4]


def test_without_the_package_it_is_refused_before_anything_runs(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name)
    )
    with pytest.raises(UserError, match=r"logger\.tensorboard=true: .*pip install tensorboard"):
        configured()


def test_event_files_that_cannot_be_written_cost_the_run_nothing(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", refuse)
    train_run(configured("epochs=2", "plots.figures=false"), tmp_path)
    assert summary_of(tmp_path)["state"] == "finished"
    said = [record.message for record in caplog.records if "TensorBoard" in record.message]
    assert len(said) == 1 and "No space left on device" in said[0]


def test_where_it_is_logged_is_no_part_of_a_run(tmp_path):
    train_run(configured("plots.figures=false"), tmp_path)
    shutil.rmtree(tmp_path / "tensorboard")
    assert train_run(config_of(*FAST, "plots.figures=false"), tmp_path) is not None
    assert not (tmp_path / "tensorboard").exists(), "the finished run was trained again"


def test_several_trackers_each_get_what_is_reported():
    class Heard(Tracker):
        def __init__(self, url=None):
            self.url, self.said = url, []

        def __getattribute__(self, name):
            if name in ("epoch", "result", "show", "tag", "failed", "pruned"):
                return lambda *arguments: self.said.append((name, arguments))
            return super().__getattribute__(name)

    one, two = Heard(), Heard("https://there")
    both = Several([one, two])
    both.epoch({"epoch": 1}), both.result({}), both.tag("x"), both.failed(), both.pruned()
    both.show(lambda: None)
    names = ["epoch", "result", "tag", "failed", "pruned", "show"]
    assert [name for name, _ in one.said] == [name for name, _ in two.said] == names
    assert both.url == "https://there" and both.reports
