"""study.db damaged, locked, foreign or gone: one line, and never a new search where one was."""

import sqlite3

import optuna
import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.summary import Summary
from src.sweeps import study as studies
from src.sweeps.study import check_file, on_other_images, open_study, storage_errors


@pytest.fixture
def path(tmp_path):
    """A search's study of three trials."""
    folder = tmp_path / "sweep?mode=memory"
    folder.mkdir()
    study = open_study(folder / "study.db", "maximize", "median")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    OmegaConf.save(
        OmegaConf.create({"hydra": {"sweeper": {"_target_": "hydra_plugins.a.SearchSweeper"}}}),
        folder / "multirun.yaml",
    )
    return folder / "study.db"


def test_a_study_goes_on_in_any_folder(path):
    assert path.stat().st_size
    assert len(open_study(path, "maximize", "none").trials) == 3


def foreign(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")


def another(path):
    path.unlink()
    elsewhere = path.parents[1] / "theirs.db"
    optuna.create_study(study_name="theirs", storage=f"sqlite:///{elsewhere}")
    elsewhere.rename(path)


def changed(*statements):
    def change(path):
        with sqlite3.connect(path) as database:
            for statement in statements:
                database.execute(statement)

    return change


def noted(name, value):
    def change(path):
        open_study(path, "maximize", "none").set_user_attr(name, value)

    return change


def noted_of_trial(path):
    study = open_study(path, "maximize", "none")
    trial = study.ask()
    trial.set_user_attr("runs", [5])
    study.tell(trial, 0.5)


ELSES = "is not a search's study but something else's"
DAMAGE = {
    "of another Optuna": (
        changed("UPDATE alembic_version SET version_num = 'v99.0.0.a'"),
        r"Optuna [\d.]+ cannot use it",
    ),
    "of an Optuna with other columns": (
        changed("ALTER TABLE trials RENAME COLUMN state TO condition"),
        r"Optuna [\d.]+ cannot use it",
    ),
    "with states of its own": (changed("UPDATE trials SET state = 'DREAMING'"), r"Optuna [\d.]+ cannot"),
    "with values that are none": (changed("UPDATE trial_values SET value = 'abc'"), ELSES),
    "with notes of something else": (noted("search", ["a"]), ELSES),
    "with other keys in its notes": (noted("search", {"space": 5}), ELSES),
    "with sources that are none": (noted("sources", 5), ELSES),
    "with runs that are none": (noted_of_trial, ELSES),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:20_000]),
        "cannot be read as|is damaged",
    ),
    "garbage": (lambda path: path.write_bytes(b"\x17" * 5000), "cannot be read as a search's study"),
    "foreign": (foreign, ELSES),
    "of another study": (another, ELSES),
    "empty": (lambda path: path.write_bytes(b""), "is empty, and was a search's study"),
    "gone": (lambda path: path.unlink(), "is gone, and with it the search's trials"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_study_is_named_and_left_alone(damage, path):
    spoil, said = DAMAGE[damage]
    spoil(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(
        UserError, match=rf"study\.db: ({said}).*name a new folder, or move that one away"
    ):
        open_study(path, "maximize", "median")
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_study_that_another_program_holds_is_named(path, monkeypatch):
    monkeypatch.setattr(studies, "LOCKED_SECONDS", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(
            UserError, match=r"cannot be read as a search's study \(database is locked\)"
        ):
            check_file(path)
    finally:
        other.close()
    check_file(path)


def test_a_study_that_a_killed_process_left_in_a_transaction_is_read(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA cache_size = 0")
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM trials")
    for suffix in ("", "-journal"):  # as a kill leaves them: nobody rolls back
        copy = path.with_name(f"copy.db{suffix}")
        copy.write_bytes(path.with_name(f"study.db{suffix}").read_bytes())
    other.close()
    check_file(path.with_name("copy.db"))
    assert len(open_study(path.with_name("copy.db"), "maximize", "none").trials) == 3


def test_a_study_that_is_lost_while_the_search_runs_is_one_line(path, monkeypatch):
    study = open_study(path, "maximize", "none")
    path.write_bytes(b"\x17" * 5000)
    said = r"study\.db: the search cannot go on with it \(.+\)$"
    with pytest.raises(UserError, match=said), storage_errors(path):
        study.optimize(lambda trial: 1.0, 1)


def test_trials_on_other_images_are_known(path, composed, monkeypatch):
    study = open_study(path, "maximize", "none")
    trial = study.ask()
    trial.set_user_attr("runs", ["seed=0"])
    study.tell(trial, 0.5)
    (path.parent / "seed=0").mkdir()
    config = composed("seed=0")
    summary = Summary.of(config, code_of(config)).model_copy(update={"metrics": {}, "data": "a" * 16})
    RunFolder(path.parent / "seed=0").write_summary(summary)
    for now, found in (("a" * 16, None), (None, None), ("b" * 16, "seed=0")):
        monkeypatch.setattr(studies, "data_fingerprint", lambda config, now=now: now)
        assert on_other_images(study, path.parent) == found
