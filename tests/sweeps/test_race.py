"""A race: which settings get further seeds."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from src.config import BadKey
from src.sweeps.plan import Outcome
from src.sweeps.race import Race, going_on
from tests.conftest import config_of

from .conftest import finish, states


def planned(seed: int, rate: float, loss="arcface", objective=None, **more):
    config = config_of("logger=csv", f"loss={loss}", f"optimizer.lr={rate}", *more.get("overrides", ()))
    config = config.replace(seed=seed, dataset=more.get("dataset", {}))
    name = f"{loss} {rate} {seed}"
    return SimpleNamespace(config=config, objective=objective, identity=name, name=name)


def grid(seeds: int, rates: int, loss="arcface", objective: Callable | None = None):
    value = objective or (lambda rate, seed: None)
    return [
        planned(seed, rate / 1000, loss, value(rate, seed))
        for rate in range(1, rates + 1)
        for seed in range(seeds)
    ]


def run(race: Race, value: Callable) -> list[str]:
    """Run all that the race gives, two at a time; return the names in order."""
    names, live = [], []
    while True:
        while len(live) < 2 and (planned := race.next()):
            names.append(planned.name)
            live.append(planned)
        if not live:
            return names
        done = live.pop(0)
        race.ended(done, value(done))


def better_with_rate(run) -> Outcome:
    return Outcome("finished", run.config.optimizer.lr)


@pytest.mark.parametrize(
    ("settings", "seeds", "runs"),
    [(12, 2, 15), (12, 3, 18), (12, 4, 24), (12, 5, 27), (4, 3, 10), (3, 3, 9), (40, 3, 60)],
)
def test_three_seeds_take_half_of_the_runs_and_more_seeds_less(settings, seeds, runs):
    assert settings + sum(going_on(settings, seeds, ended) for ended in range(1, seeds)) == runs


def test_the_settings_that_were_best_with_the_first_seed_go_on():
    race = Race(grid(3, 12))
    names = run(race, better_with_rate)
    assert len(names) == race.expected == 18
    assert sorted(names[:12]) == sorted(f"arcface {rate / 1000} 0" for rate in range(1, 13))
    assert names[12:] == [f"arcface {rate / 1000} {seed}" for seed in (1, 2) for rate in (12, 11, 10)]


def test_with_many_seeds_the_mean_of_two_chooses_those_of_the_others():
    def value(run):
        rate = run.config.optimizer.lr
        return Outcome("finished", 0.5 if run.config.seed == 1 and rate == 0.012 else 1 + rate)

    names = run(Race(grid(5, 12)), value)
    assert len(names) == 27 and "arcface 0.012 1" in names and "arcface 0.012 2" not in names


def test_a_smaller_objective_can_be_the_better_one():
    runs = [planned(seed, rate / 1000, overrides=["evaluation=open_set", "objective=eer"])
            for rate in range(1, 13) for seed in range(3)]  # fmt: skip
    assert run(Race(runs), better_with_rate)[12:15] == [f"arcface {r / 1000} 1" for r in (1, 2, 3)]


def test_each_loss_has_its_own_race():
    names = run(Race(grid(3, 12) + grid(3, 8, "cosface")), better_with_rate)
    assert sum(name.startswith("cosface") for name in names) == 8 + 3 + 3
    assert len(names) == 18 + 14


def test_a_race_goes_on_where_it_stopped():
    def finished(rate, seed):
        return rate / 1000 if seed == 0 or (seed == 1 and rate == 12) else None

    race = Race(grid(3, 12, objective=finished))
    names = run(race, better_with_rate)
    assert names == [f"arcface {rate / 1000} {seed}" for seed in (1, 2) for rate in (12, 11, 10)][1:]
    assert race.expected == 5


def test_a_setting_that_failed_does_not_go_on():
    def value(run):
        return (
            Outcome("failed", error="why") if run.config.optimizer.lr == 0.012 else better_with_rate(run)
        )

    race = Race(grid(3, 12))
    names = run(race, value)
    assert "arcface 0.012 1" not in names and "arcface 0.009 1" in names
    assert [outcome.state for outcome in race.all_outcomes()].count("failed") == 1


def test_settings_that_failed_do_not_go_on_for_want_of_others():
    def value(run):
        fails = run.config.optimizer.lr > 0.002
        return Outcome("failed", error="why") if fails else better_with_rate(run)

    names = run(Race(grid(3, 12)), value)
    assert len(names) == 12 + 2 + 2


def test_what_has_finished_and_is_not_needed_does_not_count():
    """Six settings have all seeds already, and are the worst."""

    def finished(rate, seed):
        return rate / 1000 if rate <= 6 else None

    race = Race(grid(3, 12, objective=finished))
    assert race.expected == len(run(race, better_with_rate)) == 12


def test_each_data_set_has_its_own_race():
    runs = grid(3, 12)
    runs += [
        planned(seed, rate / 1000, dataset={"val_fraction": 0.2})
        for rate in range(1, 13)
        for seed in range(3)
    ]
    for number, one in enumerate(runs):
        one.identity = f"{number}"
    assert len(run(Race(runs), better_with_rate)) == 36


def test_pixels_have_nothing_to_choose_and_run_with_every_seed():
    pixels = [planned(seed, 0.1, "softmax", overrides=["model=pixels"]) for seed in range(3)]
    names = run(Race(grid(3, 12) + pixels), better_with_rate)
    assert sum(name.startswith("softmax") for name in names) == 3 and len(names) == 21


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        (grid(1, 12), "needs a loss with several seeds"),
        (grid(3, 3), "more than 3 settings"),
        ([*grid(3, 12), planned(7, 0.1)], "not all settings of arcface have the same seeds"),
        (
            [planned(0, 0.1, dataset={"folds": 5, "fold": fold}) for fold in range(5)],
            "leave dataset.folds",
        ),
    ],
)
def test_what_cannot_be_raced_is_refused(runs, why):
    with pytest.raises(BadKey, match=why) as error:
        Race(runs)
    assert error.value.key == "hydra.sweeper.race"


def test_a_race_is_a_sweep_of_fewer_runs(sweep, tmp_path):
    code, out, err = finish(
        sweep("optimizer.lr=0.001,0.003,0.005,0.01", "seed=0,1", "hydra.sweeper.race=true")
    )
    assert code == 0, err
    assert "8 runs, 7 to go" in out
    names = states(tmp_path)
    assert set(names.values()) == {"finished"} and len(names) == 7
    assert sum("seed=0" in name for name in names) == 4
