"""What a sweep will cost and could find, said before it runs."""

from types import SimpleNamespace

import pytest

from src.sweeps.forecast import forecast
from tests.conftest import config_of


def planned(loss: str, seed: int, objective: float | None = None, seconds: float = 30):
    config = config_of("logger=csv", f"loss={loss}").replace(seed=seed)
    summary = SimpleNamespace(seconds=seconds) if objective is not None else None
    return SimpleNamespace(
        config=config, objective=objective, folder=SimpleNamespace(summary=lambda: summary)
    )


def test_without_a_finished_run_the_time_is_not_known_and_the_power_is():
    runs = [planned(loss, seed) for loss in ("arcface", "cosface", "softmax") for seed in range(3)]
    time, power = forecast(runs, 9, 2)
    assert time.endswith("train one of them first")
    assert power == "3 seeds would show a difference between losses of 3.3 standard deviations"


def test_finished_runs_tell_the_time_and_the_difference_in_points():
    runs = [planned("arcface", seed, value) for seed, value in enumerate((0.80, 0.81, 0.82))]
    runs += [planned("softmax", seed) for seed in range(3)]
    time, power = forecast(runs, 3, 2)
    assert time == "time left: about 1 minute (30.0 s a run, 2 runs at a time, by 3 finished runs)"
    assert power.endswith("which is about 3.1 points of accuracy by the runs that are finished")


@pytest.mark.parametrize(("seeds", "said"), [(1, "1 seed of 2 losses are too few"), (2, "2 seeds of")])
def test_too_few_seeds_are_said_to_be(seeds, said):
    runs = [planned(loss, seed) for loss in ("arcface", "softmax") for seed in range(seeds)]
    assert forecast(runs, 4, 1)[1].startswith(said)
