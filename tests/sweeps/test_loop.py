"""The loop of a sweep, with a launcher and folders that a test controls."""

import os
import signal
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from src.sweeps import loop
from src.sweeps.console import Board, planning
from src.sweeps.loop import Ended, InOrder, Launcher, Loop
from src.sweeps.plan import Outcome


class Run:
    """A planned run whose folder says what the test has put there."""

    def __init__(self, name: str):
        self.name = self.identity = name
        self.state, self.differs, self.mark = None, {}, ""
        self.config = SimpleNamespace(objective="accuracy")
        self.composed = OmegaConf.create({"hydra": {"job": {"name": "train"}}})
        self.folder = SimpleNamespace(
            summary=self.summary, read_summary=self.summary, vanished=False, path=SimpleNamespace()
        )
        self.lost_by = None

    def summary(self):
        if not self.state:
            return None
        error = None if self.state == "finished" else "why"
        return SimpleNamespace(state=self.state, identity=self.identity, seconds=0.0, error=error)

    def result(self):
        return Outcome("finished", 0.5) if self.state == "finished" else None

    def lost(self, why):
        self.lost_by = why
        return self.result() or Outcome("failed", error=why)


class FakeLauncher:
    """Runs do, at each poll, what the test has planned for them: a list of states, or a death."""

    here = False

    def __init__(self, slots, plans=None):
        self.slots, self.plans = slots, plans or {}
        self.live, self.most, self.killed, self.order = [], 0, [], []

    def setup(self, **_):
        pass

    def start(self, run):
        self.order.append(run.name)
        self.live.append((run, list(self.plans.get(run.name, ["finished", "end"]))))
        self.most = max(self.most, len(self.live))

    def poll(self, seconds):
        ended = []
        for one in list(self.live):
            run, plan = one
            if run in self.killed:
                run.state = run.state or "interrupted"
                step = "end"
            else:
                step = plan.pop(0)
            if step in ("end", "dies"):
                self.live.remove(one)
                ended.append(Ended(run, "killed" if step == "dies" else None, died=step == "dies"))
            elif step == "interrupt":
                raise KeyboardInterrupt
            elif step:
                run.state = step
        return ended

    def kill(self, run):
        self.killed.append(run)

    def close(self):
        pass


def outcomes(launcher, names="abcd", **how):
    runs = [Run(name) for name in names]
    source = InOrder(runs)
    with Board(len(runs)) as board:
        Loop(source, launcher, board, **how).run()
    return [outcome.state for outcome in source.all_outcomes()], runs


def test_a_fake_launcher_is_one():
    assert isinstance(FakeLauncher(1), Launcher)


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (3, 3), (None, 4)])
def test_as_many_runs_start_as_there_are_slots(slots, most):
    launcher = FakeLauncher(slots)
    assert outcomes(launcher)[0] == ["finished"] * 4
    assert launcher.most == most and launcher.order == list("abcd")


def test_ctrl_c_while_a_run_starts_waits_until_it_can_be_ended():
    class Interrupted(FakeLauncher):
        def start(self, run):
            os.kill(os.getpid(), signal.SIGINT)
            super().start(run)

    launcher = Interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        outcomes(launcher)
    assert launcher.order == ["a"]  # whole, and none after it
    assert [run.name for run in launcher.killed] == ["a"] and not launcher.live


def test_runs_are_numbered_as_by_hydras_launchers():
    runs = [Run(name) for name in "ab"]
    with Board(2) as board:
        Loop(InOrder(runs), FakeLauncher(2), board, number=3).run()
    jobs = [run.composed.hydra.job for run in runs]
    assert [(job.num, job.id) for job in jobs] == [(3, "train_3"), (4, "train_4")]


def test_a_run_that_draws_gives_its_slot_to_one_other(monkeypatch):
    monkeypatch.setattr(loop, "RELIEF_SECONDS", 0)
    draws = ["finished", None, None, None, None, None, "end"]
    launcher = FakeLauncher(1, dict.fromkeys("ab", draws))
    assert outcomes(launcher)[0] == ["finished"] * 4
    assert launcher.most == 2


def test_a_death_is_recorded_and_ends_nothing_else():
    states, runs = outcomes(FakeLauncher(2, {"b": [None, "dies"]}))
    assert states == ["finished", "failed", "finished", "finished"]
    assert [run.lost_by for run in runs] == [None, "killed", None, None]


def test_a_death_after_the_result_costs_no_result(capsys):
    states, runs = outcomes(FakeLauncher(2, {"b": ["finished", "dies"]}))
    assert states == ["finished"] * 4 and runs[1].lost_by == "killed"
    assert "b is finished, perhaps without all figures or W&B: killed" in capsys.readouterr().out


def test_fail_fast_ends_what_has_no_result_yet_and_starts_nothing_more():
    plans = {"a": ["failed", None, "end"], "b": [None] * 9, "c": ["finished", None, None, None, "end"]}
    launcher = FakeLauncher(3, plans)
    states, _ = outcomes(launcher, fail_fast=True)
    assert states == ["failed", "interrupted", "finished", "not started"]
    assert [run.name for run in launcher.killed] == ["b"]


def test_without_fail_fast_a_failure_ends_nothing():
    assert outcomes(FakeLauncher(3, {"a": ["failed", "end"]}))[0] == ["failed", *["finished"] * 3]


def test_ctrl_c_that_a_library_has_dropped_ends_planning_and_the_loop(monkeypatch):
    jobs = planning([["seed=0"], ["seed=1"]])
    assert next(jobs) == ["seed=0"]
    monkeypatch.setattr("src.errors.interrupted", True)  # as after a KeyboardInterrupt that was caught
    with pytest.raises(KeyboardInterrupt):
        next(jobs)
    launcher = FakeLauncher(2)
    with pytest.raises(KeyboardInterrupt):
        outcomes(launcher)
    assert launcher.order == []


def test_ctrl_c_ends_every_run_before_it_goes_on():
    launcher = FakeLauncher(2, {"a": [None] * 9, "b": [None, "interrupt"]})
    with pytest.raises(KeyboardInterrupt):
        outcomes(launcher)
    assert [run.name for run in launcher.killed] == ["a", "b"] and not launcher.live


def test_an_error_of_the_source_ends_every_run_too():
    class Broken(InOrder):
        def ended(self, run, outcome):
            raise OSError("the study is gone")

    launcher = FakeLauncher(2, {"a": [None] * 9})
    with pytest.raises(OSError, match="the study is gone"), Board(2) as board:
        Loop(Broken(map(Run, "ab")), launcher, board).run()
    assert not launcher.live


def test_a_process_that_ends_without_a_word_is_a_failure():
    states, _ = outcomes(FakeLauncher(1, {"a": ["end"]}), "a")
    assert states == ["failed"]
    run = Run("b")
    run.folder.vanished = True
    assert loop.outcome_of(loop.Live(run), Ended(run)).state == "failed"
    assert run.lost_by == "its process ended without a word"
