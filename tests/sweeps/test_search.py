"""A search asks Optuna, repeats over seeds, prunes, and loses nothing when it is killed."""

import os
import re
import signal
import time
from statistics import mean

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.trial import FixedTrial, TrialState

from src.config.classes import checked, parameters
from src.config.compose import CONF
from src.errors import UserError
from src.sweeps.search import SearchSweeper
from src.sweeps.space import Space
from tests.conftest import rows_of, summary_of

from .conftest import finish, states

SEARCH = ("hydra/sweeper=search", "hydra.sweeper.startup_trials=3")


def parse(line: str):
    return OverridesParser.create().parse_overrides(line.split())


def study(folder) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'sweep' / 'study.db'}")


def test_spaces_are_said_in_hydras_own_words():
    line = (
        "loss=choice(arcface,cosface) margin.value=interval(0.1,0.6) model.embedding_dim=range(2,9,2) "
        "optimizer.lr=tag(log,interval(1e-4,1e-1)) epochs=int(interval(2,5)) batch_size=64 "
        "scale.value=16,32"
    )
    chosen = {
        "loss": "cosface",
        "margin.value": 0.25,
        "model.embedding_dim": 6,
        "optimizer.lr": 0.001,
        "epochs": 4,
        "scale.value": "32",
    }
    trial = FixedTrial(chosen)
    assert Space.of(parse(line), [], None).suggest(trial) == [
        *("loss=cosface", "margin.value=0.25", "model.embedding_dim=6", "optimizer.lr=0.001"),
        *("epochs=4", "batch_size=64", "scale.value=32"),
    ]
    asked = trial.distributions
    assert asked["optimizer.lr"].log and not asked["margin.value"].log
    assert (asked["margin.value"].low, asked["margin.value"].high) == (0.1, 0.6)
    embedding = asked["model.embedding_dim"]
    assert (embedding.low, embedding.high, embedding.step) == (2, 8, 2)
    assert isinstance(asked["epochs"], optuna.distributions.IntDistribution)
    assert asked["loss"].choices == ("arcface", "cosface")


def test_each_grid_is_a_choice_with_a_space_of_its_own():
    grids = [parse("loss=arcface margin.value=interval(0.1,0.6)"), parse("loss=softmax")]
    space = Space.of(parse("epochs=2"), grids, None)
    chosen = {"grid": "loss=arcface", "margin.value [loss=arcface]": 0.2}
    assert space.suggest(FixedTrial(chosen)) == ["loss=arcface", "margin.value=0.2", "epochs=2"]
    assert space.suggest(FixedTrial({"grid": "loss=softmax"})) == ["loss=softmax", "epochs=2"]


def parse_all(lines: list[str]):
    return OverridesParser.create().parse_overrides(lines)


def test_grids_of_one_loss_are_told_apart_and_narrowed_by_the_command_line():
    grids = [parse("loss=arcface margin.value=0.1,0.2"), parse("loss=arcface scale.value=16,32")]
    assert len(Space.of([], grids, parse_all).lines) == 2
    grids.append(parse("loss=cosface margin.value=0.2"))
    narrow = Space.of(parse("loss=cosface,softmax"), grids, parse_all)
    assert list(narrow.as_text().values()) == [["loss=cosface", "margin.value=0.2"]]
    with pytest.raises(UserError, match=r"no grid in hydra\.sweeper\.grids"):
        Space.of(parse("loss=magface"), grids, parse_all)


def test_every_loss_meets_both_ends_of_every_range_before_anything_runs():
    line = (
        "loss=arcface,cosface,softmax margin.value=interval(0.1,0.6) scale.value=8,16,32,64 "
        "optimizer.lr=interval(0.001,0.01) model.embedding_dim=2,3,8"
    )
    corners = Space.of(parse(line), [], None).corners()
    assert len(corners) < 64
    pairs = {(corner[0], end) for corner in corners for end in corner[1:]}
    assert len(pairs) == 3 * (2 + 4 + 2 + 3)


def test_a_range_that_optuna_does_not_take_is_refused():
    with pytest.raises(UserError, match=r"margin\.value=tag\(log,interval\(0,1\)\)"):
        Space.of(parse("margin.value=tag(log,interval(0,1))"), [], None).check_ranges()


@pytest.mark.slow
def test_a_search_killed_in_the_middle_ends_with_exactly_its_trials(sweep, tmp_path):
    arguments = *SEARCH, "hydra.sweeper.trials=7", "margin.value=interval(0.1,0.6)", "seed=0,1"
    process = sweep(*arguments)
    deadline = time.monotonic() + 900
    while len(list((tmp_path / "sweep").glob("*/summary.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {trial.number: trial for trial in study(tmp_path).trials}
    assert 0 < len(before) < 7
    code, out, err = finish(sweep(*arguments))
    assert code == 0, err
    after = study(tmp_path).trials
    assert [trial.number for trial in after] == list(range(7))
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in after)
    for number, trial in before.items():
        assert trial.params.items() <= after[number].params.items()
        if trial.state.is_finished():
            assert after[number].datetime_complete == trial.datetime_complete
    assert len({trial.params["margin.value"] for trial in after}) == 7
    for trial in after:
        if trial.state == TrialState.COMPLETE:
            runs = [summary_of(tmp_path / "sweep" / run) for run in trial.user_attrs["runs"]]
            assert trial.value == mean(run["validation"]["accuracy"] for run in runs) and len(runs) == 2
    best = max(trial.value for trial in after if trial.value is not None)
    assert f"best of 7 trials (0 pruned, 0 failed): accuracy {best:.4f}" in out

    again = finish(sweep(*arguments))
    assert again[0] == 0 and f"accuracy {best:.4f}" in again[1] and len(study(tmp_path).trials) == 7


@pytest.mark.slow
def test_bad_trials_are_pruned_and_failed_ones_counted(sweep, tmp_path):
    code, out, err = finish(
        sweep(
            *(*SEARCH, "hydra.sweeper.trials=9", "hydra.sweeper.sampler=random", "epochs=40"),
            *("optimizer.lr=tag(log,interval(1e-7,1e-2))", "hydra.sweeper.parallel=1"),
        )
    )
    assert code == 0, err
    pruned = [trial for trial in study(tmp_path).trials if trial.state == TrialState.PRUNED]
    assert pruned and f"{len(pruned)} pruned" in out
    for trial in pruned:
        folder = tmp_path / "sweep" / trial.user_attrs["runs"][0]
        assert summary_of(folder)["state"] == "pruned"
        assert len(rows_of(folder)) < 40
        assert trial.intermediate_values
    assert sorted(states(tmp_path).values()) == ["finished"] * (9 - len(pruned)) + ["pruned"] * len(
        pruned
    )


def test_a_setting_of_the_search_that_cannot_be_is_refused():
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "hydra" / "sweeper" / "search.yaml"))
    del settings["_target_"]
    checked(SearchSweeper, parameters(SearchSweeper), settings, "hydra.sweeper.")
    for setting, line in (
        ({"sampler": "best"}, "hydra.sweeper.sampler=best: expected one of tpe, random"),
        ({"pruner": 3}, "hydra.sweeper.pruner=3: expected one of median, hyperband, none"),
        ({"trials": 0}, "hydra.sweeper.trials=0: expected an integer ≥ 1"),
        ({"startup_trials": "x"}, "hydra.sweeper.startup_trials=x: expected an integer ≥ 0"),
        ({"direction": "up"}, "hydra.sweeper.direction=up: expected one of auto, maximize, minimize"),
        ({"parallel": 0}, "hydra.sweeper.parallel=0: expected auto or an integer ≥ 1"),
        ({"trails": 3}, "hydra.sweeper.trails=3: SearchSweeper takes no such argument, did you mean"),
    ):
        with pytest.raises(UserError, match=re.escape(line)):
            checked(SearchSweeper, parameters(SearchSweeper), settings | setting, "hydra.sweeper.")


def test_settings_are_of_their_types_however_they_are_typed(sweep, tmp_path):
    typed = ("hydra.sweeper.trials='1'", "hydra.sweeper.baselines=off", "hydra.launcher.workers='1'")
    code, out, err = finish(sweep("hydra/sweeper=search", *typed, "seed=0,1", "epochs=1"))
    assert code == 0 and "1 trial × 2 seeds -> " in out, err
    assert states(tmp_path) == {"seed=0": "finished", "seed=1": "finished"}


def test_a_space_with_senseless_pairs_is_refused_before_anything_runs(sweep, tmp_path):
    code, _, err = finish(sweep(*SEARCH, "loss=softmax,arcface", "margin.value=interval(0.1,9)"))
    assert code == 1 and "Traceback" not in err
    assert "loss=softmax has no margin" in err and "margin.value=9: expected" in err
    assert not list((tmp_path / "sweep").glob("*/"))


def test_another_search_in_the_same_folder_is_refused(sweep, tmp_path):
    first = ("hydra/sweeper=search", "hydra.sweeper.trials=1", "epochs=1")
    assert finish(sweep(*first, "margin.value=interval(0.1,0.6)"))[0] == 0
    code, _, err = finish(sweep(*first, "margin.value=interval(0.1,0.9)"))
    assert code == 1 and "a search with another space is there" in err and "Traceback" not in err
    study(tmp_path).set_user_attr("sources", ["0" * 12])  # as if the code had been another one
    code, _, err = finish(sweep(*first, "margin.value=interval(0.1,0.6)"))
    assert code == 1 and "a search by other code is there (000000000000" in err
    kept = sweep(*first, "margin.value=interval(0.1,0.6)", "hydra.sweeper.stale=keep")
    assert finish(kept)[0] == 0


def test_fail_fast_ends_a_search_with_its_first_failure(sweep, tmp_path):
    code, out, err = finish(
        sweep(
            *("hydra/sweeper=search", "hydra.sweeper.trials=6", "hydra.sweeper.fail_fast=true"),
            *("margin.value=interval(0.1,0.6)", "hydra.sweeper.parallel=1"),
            faults="arcface0:raise",
        )
    )
    assert code == 1 and "trial 0 failed" in out and "Traceback" not in err
    assert len(study(tmp_path).trials) == 1
