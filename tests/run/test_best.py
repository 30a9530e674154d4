"""`best:<sweep>` names the run that a comparison leaves to be used."""

import os
import shutil

import pytest

from src.errors import UserError
from src.run.best import name_of, point_to, run_folder
from src.run.load import load_trained


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/a b", "runs/c", "runs/comparison"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path / "runs"


def test_the_link_is_relative_and_both_ways_of_naming_the_sweep_lead_to_the_run(sweep, tmp_path):
    point_to(sweep / "c", sweep / "comparison")
    point_to(sweep / "a b", sweep / "comparison")  # a later comparison says otherwise
    assert os.readlink(sweep / "comparison" / "best") == "../a b"
    assert name_of(sweep / "comparison") == "best:runs"
    for given in ("best:runs", "best:runs/comparison", f"best:{sweep}"):
        assert str(run_folder(type(tmp_path)(given))) == "runs/a b"
    sweep.rename(tmp_path / "moved")
    assert str(run_folder(type(tmp_path)("best:moved"))) == "moved/a b"


def test_where_links_are_not_possible_a_file_holds_the_path(sweep, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("Operation not supported")

    monkeypatch.setattr(type(tmp_path), "symlink_to", refuse)
    point_to(sweep / "c", sweep / "comparison")
    assert (sweep / "comparison" / "best").read_text() == "../c\n"
    assert str(run_folder(type(tmp_path)("best:runs"))) == "runs/c"
    point_to(None, sweep / "comparison")
    assert not (sweep / "comparison" / "best").exists()


def test_what_is_not_there_is_one_line_that_says_what_to_do(sweep, tmp_path):
    path = type(tmp_path)
    with pytest.raises(UserError, match="best:nowhere: no such folder, nowhere"):
        run_folder(path("best:nowhere"))
    with pytest.raises(
        UserError, match=r"no comparison there names a best run; python -m src\.compare runs"
    ):
        run_folder(path("best:runs"))
    point_to(sweep / "c", sweep / "comparison")
    shutil.rmtree(sweep / "c")
    with pytest.raises(UserError, match="leads to runs/c, which is gone"):
        run_folder(path("best:runs"))


def test_a_pipe_in_the_place_of_the_link_is_not_waited_for(sweep, tmp_path):
    os.mkfifo(sweep / "comparison" / "best")
    with pytest.raises(UserError, match="best does not lead to a run"):
        run_folder(type(tmp_path)("best:runs"))
    with pytest.raises(UserError, match="best: in the place of the link to the best run; remove it"):
        point_to(sweep / "c", sweep / "comparison")


def test_every_command_that_loads_a_run_knows_it(sweep, tmp_path):
    point_to(sweep / "c", sweep / "comparison")
    with pytest.raises(UserError, match=r"runs/c: no run with a checkpoint\.pt is there"):
        load_trained(type(tmp_path)("best:runs"))
    assert str(run_folder(type(tmp_path)("runs/c"))) == "runs/c"  # as it was
