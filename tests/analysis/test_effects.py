"""What matters: planted effects are named rightly, and no effect is claimed where there is none."""

from types import SimpleNamespace

import numpy as np
import pytest

from src.analysis.effects import Effect, effects
from src.analysis.facts import Facts, effects_to_show
from src.analysis.settings import Setting
from src.analysis.statistics import Repeat

from .conftest import config_named

MARGINS, SCALES, RATES, SEEDS = (0.0, 0.3), (16, 64), (0.003, 0.01), 3


class Planted(Setting):
    """A setting with results, but without runs that have any."""

    results = ()

    def values(self, metric):
        return {Repeat(seed): value for seed, value in enumerate(self.results)}


@pytest.fixture(scope="module")
def settings() -> list[Planted]:
    """Two losses with two margins, scales and rates each, crossed."""
    found = []
    for loss in ("arcface", "cosface"):
        for margin in MARGINS:
            for scale in SCALES:
                for rate in RATES:
                    config = config_named(loss=loss).replace(
                        margin={"value": margin}, scale={"value": scale}, optimizer={"lr": rate}
                    )
                    run = SimpleNamespace(config=config, repeat=Repeat(0))
                    label = f"{loss} m={margin} s={scale} lr={rate}"
                    found.append(Planted(label, loss, label, {"loss": loss}, [run]))
    return found


def comparison(settings, rng, margin=0.0, scale=0.0, noise=0.01):
    """Their comparison, with this much gained by the margin and by the smaller scale."""
    for setting in settings:
        config = setting.runs[0].config
        mean = 0.8 + margin * (config.margin.value > 0) + scale * (config.scale.value == 16)
        setting.results = rng.normal(mean, noise, SEEDS)
        setting.chosen = 0.7 * setting.results.mean() + rng.normal(0, noise)
    by_loss = {loss: [s for s in settings if s.loss == loss] for loss in ("arcface", "cosface")}
    return SimpleNamespace(by_loss=by_loss, metric="accuracy", sign=1)


@pytest.mark.parametrize(
    ("planted", "named"),
    [({"margin": 0.04}, {"margin"}), ({"scale": 0.04}, {"scale"}), ({}, set())],
    ids=["margin", "scale", "nothing"],
)
def test_what_was_planted_is_what_matters(planted, named, settings):
    found = effects(comparison(settings, np.random.default_rng(3), **planted))
    assert {effect.factor for effect in found} == {"margin", "scale", "learning rate", "loss"}
    assert {effect.factor for effect in found if effect.separable} == named
    for effect in found:
        if effect.factor in planted:
            assert effect.low < planted[effect.factor] < effect.high
            assert (effect.level, effect.other) == (
                ("0.3", "none") if effect.factor == "margin" else ("16", "64")
            )


def test_effects_that_are_none_are_claimed_in_5_of_100_sweeps_at_most(settings):
    rng = np.random.default_rng(0)
    claimed = sum(
        any(effect.separable for effect in effects(comparison(settings, rng))) for _ in range(200)
    )
    assert claimed / 200 <= 0.08


def test_a_margin_that_harms_is_said_to(settings):
    found = effects(comparison(settings, np.random.default_rng(0), margin=-0.05))
    margin = next(effect for effect in found if effect.factor == "margin")
    assert (margin.level, margin.other) == ("0.3", "none") and margin.high < 0


def test_one_factor_alone_has_no_effects_beside_the_ranking(settings):
    some = [s for s in settings if s.loss == "arcface" and "s=16 lr=0.003" in s.label]
    made = comparison(settings, np.random.default_rng(0))
    made.by_loss = {"arcface": some}
    assert effects(made) == []


def test_settings_that_are_not_crossed_are_left_out(settings):
    made = comparison(settings, np.random.default_rng(0))
    own = made.by_loss["arcface"]
    made.by_loss["arcface"] = [s for s in own if not ("m=0.3" in s.label and "s=64" in s.label)]
    margin = next(e for e in effects(made) if e.factor == "margin" and e.loss == "arcface")
    by_label = {setting.label: setting.results.mean() for setting in own}
    expected = np.mean(
        [by_label[f"arcface m=0.3 s=16 lr={r}"] - by_label[f"arcface m=0.0 s=16 lr={r}"] for r in RATES]
    )
    assert margin.estimate == pytest.approx(expected)


def test_one_seed_has_estimates_without_intervals(settings):
    made = comparison(settings, np.random.default_rng(0), margin=0.1)
    for setting in settings:
        setting.results = setting.results[:1]
    found = effects(made)
    assert found and not any(effect.separable for effect in found)
    assert all(effect.low is effect.high is None for effect in found)


def test_of_many_effects_a_reader_is_told_those_that_are_separable_and_those_of_the_loss_to_use():
    made = [
        Effect("scale", loss, "16", "64", "on average", 0.1, low, 0.2, low > 0)
        for loss in map("loss{}".format, range(14))
        for low in (-0.1,) + (0.05,) * (loss == "loss3")
    ]
    which = SimpleNamespace(leader="loss7")
    facts = Facts("accuracy", 3, False, which_loss=which, what_matters=made)
    shown = [(effect.loss, effect.separable) for effect in effects_to_show(facts)]
    assert shown == [("loss3", True), ("loss7", False)]
    facts.what_matters = made[:5]
    assert effects_to_show(facts) == made[:5]
