"""What the answer says where something is planted: a winner, a tie, a collapse, a saturated metric, an
edge, few seeds, unequal budgets, folds."""

import json

import numpy as np
import pytest

from src.analysis import compare_sweeps, rank_runs, read_runs
from src.analysis.notes import notes
from src.analysis.winner import next_steps
from src.analysis.wording import answer_sentences, method
from src.commands import is_command
from src.errors import UserError
from src.evaluation import Search

from .conftest import edit

COUNTS = {"images": 30, "classes": 3, "smallest_class": 10, "queries": 30,
          "same_pairs": 135, "different_pairs": 300, "folded_pairs": 260}  # fmt: skip


@pytest.fixture
def plant(make):
    """plant("arcface", 0.3, seed, validation, test=…) writes an open set's run, judged by Recall@1."""

    def run(loss, margin, seed, validation, test=None, counts=COUNTS, more=None, **given):
        folder = make(loss, margin, seed, 0.5, **given)
        metrics = dict.fromkeys(("recall_at_1", "recall_at_5", "r_precision", "map_at_r", "auc"), 0.5)
        both = [metrics | {"recall_at_1": value} | (more or {}) for value in (validation, test)]
        if test is None:
            both[1] = both[0]

        def change(summary):
            summary["config"]["evaluation"] = {"protocol": "open_set", "objective": "recall_at_1"}
            summary["config"]["objective"] = "recall_at_1"
            summary["validation"], summary["metrics"] = both
            if counts:
                summary["counts"] = {"training": counts | {"images": 3000}} | dict.fromkeys(
                    ("validation", "test"), counts
                )

        edit(folder, change)
        return folder

    return run


def ranked(tmp_path, metric="recall_at_1"):
    found = rank_runs(*read_runs([tmp_path / "sweep"]), metric)
    return found, answer_sentences(found)


def first(lines: list[str]) -> list[str]:
    """The sentences above the empty line, without the command."""
    return [line for line in lines[: lines.index("")] if not is_command(line)]


NOISE = (0.0, 0.004, -0.004)


def plant_losses(plant, **means: float) -> None:
    for i, (loss, mean) in enumerate(means.items()):
        margin = None if loss == "softmax" else 0.2
        for seed in range(3):
            plant(loss, margin, seed, mean + NOISE[(seed + i) % 3], mean + NOISE[seed])


# Which loss


def test_a_winner_is_to_be_used_and_what_it_beats_is_said(plant, tmp_path):
    plant_losses(plant, arcface=0.90, cosface=0.80, softmax=0.75)
    found, lines = ranked(tmp_path)
    assert first(lines)[0].startswith("Use arcface: it beat cosface by 10.0 points (")
    assert first(lines)[0].endswith(" of Recall@1, and softmax too.")
    assert first(lines)[1].startswith("The setting to use, arcface, reaches 90.0% (")
    facts = found.facts.which_loss
    assert facts.leader == "arcface" and [gap.loss for gap in facts.differences] == [
        "cosface",
        "softmax",
    ]
    assert all(gap.separable and gap.low > 0 for gap in facts.differences)
    against = {gap.loss: gap.estimate for gap in facts.against_baseline}
    assert facts.baseline == "softmax"
    assert against == {"arcface": pytest.approx(0.15), "cosface": pytest.approx(0.05)}


@pytest.mark.parametrize("noise", [0.2, 2.0])
def test_losses_that_are_alike_do_not_matter_if_little_would_have_been_found(noise, plant, tmp_path):
    for seed in range(3):
        for i, loss in enumerate(("arcface", "cosface", "softmax")):
            value = 0.80 + 0.001 * i + noise * NOISE[(seed + i) % 3]
            margin = None if loss == "softmax" else 0.2
            plant(loss, margin, seed, value + 0.1 * (i == 0), value, counts=None)
    found, lines = ranked(tmp_path)
    said, smallest = first(lines)[0], 100 * found.facts.which_loss.smallest_detectable
    if noise < 1:
        assert said.startswith(
            "It does not matter here which loss you use: the 3 losses are within 0.2 "
        )
        assert said.endswith(f"and a difference of {smallest:.1f} points would have been found.")
    else:
        assert said.startswith("No loss is shown to be better: arcface, the best on the ")
        assert said.endswith(f"only a difference of {smallest:.1f} points would have been found.")


def test_a_lead_within_the_noise_names_who_may_be_as_good(plant, tmp_path):
    plant_losses(plant, arcface=0.90, cosface=0.895, softmax=0.60)
    lines = ranked(tmp_path)[1]
    assert first(lines)[0].startswith(
        "Use arcface or cosface: arcface beat softmax, but differs from cosface by +0.5 points ("
    )
    assert "which is within the noise" in first(lines)[0]


def plant_uneven(plant, seeds: int, **means: float) -> None:
    """Losses of little spread, and `normface`, of much, which validation ranks last."""
    noise, spread = (0, 0.004, -0.004, 0.002, -0.002), (0.2, -0.25, 0, 0.15, -0.1)
    for i, (loss, mean) in enumerate(means.items()):
        noisy = loss == "normface"
        for seed in range(seeds):
            value = mean + (spread if noisy else noise)[(seed + i * (not noisy)) % 5]
            plant(loss, None if noisy else 0.2, seed, value - 0.3 * noisy, value)


def test_a_loss_too_uneven_to_be_told_apart_is_not_recommended(plant, tmp_path):
    plant_uneven(plant, 5, arcface=0.9, cosface=0.8, normface=0.73)
    found, lines = ranked(tmp_path)
    gaps = {gap.loss: gap for gap in found.facts.which_loss.differences}
    assert gaps["cosface"].separable and not gaps["normface"].separable and gaps["normface"].uneven
    assert first(lines)[0].startswith("Use arcface: it beat cosface by 10.0 points (")
    assert first(lines)[0].endswith("; normface varies too much between seeds to tell.")
    assert all(advice.cause != "few_seeds" for advice in found.facts.advice)


def test_a_loss_within_the_noise_is_named_beside_one_that_is_uneven(plant, tmp_path):
    plant_uneven(plant, 5, arcface=0.9, cosface=0.8, sphereface=0.899, normface=0.73)
    _, lines = ranked(tmp_path)
    said = first(lines)[0]
    assert said.startswith(
        "Use arcface or sphereface: arcface beat cosface, but differs from sphereface"
    )
    assert said.endswith("within the noise; normface varies too much between seeds to tell.")


def test_a_difference_without_an_interval_is_not_called_noise(plant, tmp_path):
    plant_uneven(plant, 3, arcface=0.9, cosface=0.8, normface=0.73)
    found, lines = ranked(tmp_path)
    gap = next(gap for gap in found.facts.which_loss.differences if gap.loss == "normface")
    assert gap.low is None and not gap.uneven
    doubt = "3 seeds cannot say how sure it is that arcface and normface differ, by +18.7 points"
    assert doubt in first(lines)[0] and "noise" not in first(lines)[0]


def test_tuning_is_repeated_with_every_seed(plant, tmp_path):
    """Each seed's validation chooses its own setting, and that run's test result counts."""
    validation = {0.1: (0.9, 0.7, 0.7), 0.2: (0.8, 0.8, 0.6), 0.3: (0.7, 0.7, 0.8)}
    for margin, values in validation.items():
        for seed, value in enumerate(values):
            plant("arcface", margin, seed, value, margin + 0.01 * seed)
            plant("cosface", margin, seed, 0.5, 0.5)
    result = next(r for r in ranked(tmp_path)[0].facts.which_loss.losses if r.loss == "arcface")
    assert result.mean == pytest.approx((0.10 + 0.21 + 0.32) / 3) and result.settings == 3


def test_who_is_ahead_on_test_of_what_validation_chose_is_named(plant, tmp_path):
    for seed in range(4):
        plant("arcface", 0.1, seed, 0.99, 0.90 + 0.001 * seed)
        plant("cosface", 0.2, seed, 0.90, 0.97 - 0.001 * seed)
    said = first(ranked(tmp_path)[1])[0]
    assert said.startswith(
        "Validation chose arcface, but on the test split cosface is ahead of it by 6.7 points: "
    )


def test_one_seed_says_that_it_cannot_say(plant, tmp_path):
    plant("arcface", 0.2, 0, 0.9), plant("cosface", 0.2, 0, 0.5)
    found, lines = ranked(tmp_path)
    assert first(lines)[0] == (
        "arcface is best on the validation split; on the test split it differs from cosface by +40.0 "
        "points of Recall@1, but 1 seed cannot say how sure that is."
    )
    assert found.facts.which_loss.smallest_detectable is None
    advice = found.facts.advice[0]
    assert advice.cause == "few_seeds" and "seed=0,1,2" in advice.command


def test_two_seeds_of_few_losses_have_no_interval_and_of_four_they_have(plant, tmp_path):
    for seed in range(2):
        for loss, mean in (("arcface", 0.9), ("cosface", 0.8), ("magface", 0.7)):
            plant(loss, 0.2, seed, mean + 0.01 * seed)
    found, lines = ranked(tmp_path)
    assert "2 seeds cannot say how sure that is" in lines[0]
    assert all(gap.low is None for gap in found.facts.which_loss.differences)
    for seed in range(2):
        plant("normface", None, seed, 0.6 + 0.01 * seed)
    assert all(gap.low is not None for gap in ranked(tmp_path)[0].facts.which_loss.differences)


def test_unequal_budgets_are_told(plant, tmp_path):
    plant_losses(plant, arcface=0.9, cosface=0.8)
    for seed in range(3):
        plant("arcface", 0.4, seed, 0.85 + NOISE[seed])
    found, lines = ranked(tmp_path)
    assert not found.facts.which_loss.equal_budgets
    assert "The losses had unequal numbers of settings to choose from: arcface 2, cosface 1." in lines


def test_a_difference_that_is_asked_for_takes_so_many_seeds(plant, tmp_path):
    plant_losses(plant, arcface=0.9, cosface=0.8, softmax=0.7)
    runs = read_runs([tmp_path / "sweep"])
    found = rank_runs(*runs, "recall_at_1", detect=0.005)
    wanted = found.facts.which_loss.seeds_to_detect
    assert wanted > 3 and f"A difference of 0.5 points takes {wanted} seeds of each loss." in (
        answer_sentences(found)
    )


def test_a_metric_that_should_be_small_is_won_by_the_smallest(plant, tmp_path):
    for seed in range(3):
        for loss, error in (("arcface", 0.10), ("cosface", 0.20)):
            plant(loss, 0.2, seed, 0.5 + 0.1 * (loss == "cosface"), more={"eer": error + NOISE[seed]})
    lines = ranked(tmp_path, "eer")[1]
    assert lines[0].startswith("Use arcface: it beat cosface by 10.0 points (9.")
    assert " to 10." in lines[0] and lines[0].endswith("of EER.")
    for seed in range(3):  # as good, so that nothing is better
        plant("magface", 0.2, seed, 0.5, more={"eer": 0.101 + NOISE[seed]})
    lines = ranked(tmp_path, "eer")[1]
    assert "magface by -0.1 points (-" in lines[0] and " to +" in lines[0]


def test_the_facts_are_data_for_scripts(plant, tmp_path):
    plant_losses(plant, arcface=0.90, cosface=0.80)
    compare_sweeps([tmp_path / "sweep"], "recall_at_1")
    facts = json.loads((tmp_path / "sweep" / "comparison" / "facts.json").read_text())
    gap = facts["which_loss"]["differences"][0]
    assert facts["which_loss"]["leader"] == "arcface" and gap["loss"] == "cosface" and gap["separable"]
    assert gap["estimate"] == pytest.approx(0.1) and gap["low"] < 0.1 < gap["high"]
    assert facts["which_loss"]["smallest_detectable"] > 0 and facts["what_matters"] == []
    assert facts["undecided"] is None and facts["which_setting"]["lead"] is None
    assert facts["advice"] == []


def test_the_facts_of_runs_that_collapsed_are_json_too(plant, tmp_path):
    for margin in (0.1, 0.2):
        plant("arcface", margin, 0, 0.1, **COLLAPSED)
    facts = ranked(tmp_path)[0].facts
    data = json.loads(facts.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["undecided"]["why"] == "collapsed" and data["which_loss"] is None
    assert set(data["advice"][0]) == {"cause", "because", "command"}


def test_losses_that_share_a_rate_are_said_to(plant, tmp_path):
    plant_losses(plant, arcface=0.90, cosface=0.80)
    assert any("All losses share one learning rate" in line for line in ranked(tmp_path)[1])
    edit(
        plant("cosface", 0.2, 0, 0.5, name="fast"),
        lambda s: s["config"]["optimizer"].update(lr=0.1),
    )
    assert not any("All losses share one learning rate" in line for line in ranked(tmp_path)[1])


# Which setting


def test_of_one_loss_the_settings_are_compared(plant, tmp_path):
    for margin, mean in ((0.1, 0.90), (0.2, 0.899), (0.3, 0.60)):
        for seed in range(3):
            plant("arcface", margin, seed, mean + NOISE[seed])
    found, lines = ranked(tmp_path)
    assert lines[0].startswith("Use arcface m=0.1, the best of 3 settings on the validation split: ")
    assert lines[1].startswith("No worse, as far as these runs tell: arcface m=0.2; a difference of ")
    assert found.facts.which_loss is None
    assert found.facts.which_setting.worse == ["arcface m=0.3"]


def test_a_setting_that_beats_all_others_is_said_to(plant, tmp_path):
    for margin, mean in ((0.1, 0.90), (0.2, 0.80), (0.3, 0.60)):
        for seed in range(3):
            plant("arcface", margin, seed, mean + NOISE[seed])
    assert ranked(tmp_path)[1][0].startswith("Use arcface m=0.1: it beat arcface m=0.2 by 10.0 points (")


def test_a_single_setting_is_reported(plant, tmp_path):
    for seed in range(5):
        plant("softmax", None, seed, 0.8 + NOISE[seed % 3])
    plant("softmax", None, 0, 0.9, model="pixels")
    found, lines = ranked(tmp_path)
    assert found.winner.label == "softmax" and [s.label for s in found.pixels] == ["pixels"]
    assert lines[0].startswith("softmax reaches 80.1% (") and "with 5 seeds." in lines[0]


def test_the_images_themselves_are_reported_and_no_candidate(plant, tmp_path):
    plant_losses(plant, arcface=0.8, cosface=0.7)
    plant("arcface", 0.2, 0, 0.99, 0.802, model="pixels")
    found, lines = ranked(tmp_path)
    assert found.winner.label == "arcface" and "pixels" not in found.budgets
    assert any(
        line.endswith("reach 80.2%: the setting to use is not shown to be better.") for line in lines
    )
    assert found.facts.beats_pixels is False and found.facts.loses_to_pixels is False
    edit(found.pixels[0].runs[0].folder, lambda s: s["metrics"].update(recall_at_1=0.9))
    found, lines = ranked(tmp_path)
    assert lines[2] == "But without any training (pixels) the test split has 90.0%, which is better."
    assert found.facts.loses_to_pixels and not any("images themselves" in line for line in lines)
    edit(found.pixels[0].runs[0].folder, lambda s: s["metrics"].update(recall_at_1=0.3))
    assert any(line.endswith("(pixels), reach 30.0%.") for line in ranked(tmp_path)[1])


def test_a_planted_winner_is_named_with_its_run_and_three_commands(plant, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, noise in enumerate((0.0, 0.003, 0.001)):
        plant("arcface", 0.2, seed, 0.90 + noise, 0.85 + noise, more={"accuracy": 0.5})
        plant("cosface", 0.2, seed, 0.70 - noise, 0.65 - noise, more={"accuracy": 0.5})
    found = compare_sweeps([tmp_path / "sweep"])
    out = tmp_path / "sweep" / "comparison"
    said = capsys.readouterr().out
    assert "Use arcface: it beat cosface by 20.3 points" in said
    name = "loss=arcface,margin=0.2,scale=64,seed=1"  # the best on validation
    assert found.winner.loss == "arcface" and (out / "best").resolve().name == name
    page = (out / "report.html").read_text()
    for where in (said, (out / "answer.txt").read_text(), page):
        assert f"sweep/{name} (seed 1, the best on the validation split of its 3 runs)" in where
        commands = (
            "embed best:sweep ",
            "evaluate best:sweep dataset=",
            "export best:sweep --format onnx",
        )
        assert all(f"python -m src.{command}" in where for command in commands)


def test_a_run_on_features_is_used_with_features(plant, tmp_path):
    for loss, value in (("arcface", 0.9), ("cosface", 0.7)):
        edit(
            plant(loss, 0.2, 0, value),
            lambda summary: summary["config"]["choices"].update(dataset="embeddings"),
        )
    lines = next_steps(compare_sweeps([tmp_path / "sweep"]))
    assert lines[1].endswith("embeddings dataset.file=<file> --out embeddings.npz")
    assert lines[2].endswith("dataset=embeddings dataset.file=<file> evaluation=open_set")


def test_a_comparison_without_a_winner_leaves_none_behind(plant, tmp_path):
    plant("arcface", 0.1, 0, 0.9, more={"accuracy": 0.1}), plant("arcface", 0.2, 0, 0.5)
    link = tmp_path / "sweep" / "comparison" / "best"
    compare_sweeps([tmp_path / "sweep"])
    assert link.is_symlink()
    compare_sweeps([tmp_path / "sweep"], "map_at_r")  # 50% each
    assert not link.is_symlink() and not link.exists()


# Nothing to be decided


def test_a_saturated_metric_decides_nothing_and_names_one_that_separates(plant, tmp_path):
    for seed in range(3):
        for margin, fine in ((0.1, 0.80), (0.2, 0.70), (0.3, 0.60)):
            right = 1.0 if margin < 0.3 else 1 - 1 / 30  # one of thirty queries wrong
            plant("arcface", margin, seed, right, more={"map_at_r": fine + NOISE[seed]})
    found, lines = ranked(tmp_path)
    assert found.winner is None and found.facts.undecided.why == "saturated"
    assert lines[0] == (
        "Recall@1 cannot tell the settings apart: on the validation split all are within the 3.3 points "
        "that one query more or less changes of 100.0%."
    )
    assert lines[1] == "MAP@R does: arcface m=0.1 80.0%, arcface m=0.3 60.0%."
    advice = found.facts.advice[0]
    assert advice.cause == "saturated" and advice.command.endswith("--metric map_at_r")
    assert not any("To use it" in line for line in lines)


def test_a_metric_that_validation_is_too_small_for_is_not_proposed(plant, tmp_path):
    for seed in range(3):
        for margin, fine in ((0.1, 0.80), (0.2, 0.70)):
            more = {"tar_at_far_1e-2": fine + NOISE[seed], "map_at_r": fine / 2 + NOISE[seed]}
            edit(plant("arcface", margin, seed, 1.0, more=more), without_rare_accepts)
    advice = ranked(tmp_path)[0].facts.advice[0]
    assert advice.command.endswith("--metric map_at_r")
    assert ranked(tmp_path, "map_at_r")[0].facts.undecided is None


def without_rare_accepts(summary: dict) -> None:
    del summary["validation"]["tar_at_far_1e-2"]


def test_more_wrong_than_one_query_is_not_saturated(plant, tmp_path):
    for seed in range(3):
        plant("arcface", 0.1, seed, 1.0), plant("arcface", 0.2, seed, 1 - 2 / 30)
    assert ranked(tmp_path)[0].winner.label == "arcface m=0.1"


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_zero_saturates_a_metric_that_should_be_small_and_only_ties_another(bound, plant, tmp_path):
    for margin in (0.1, 0.2):
        plant("arcface", margin, 0, 0.5, more={"eer": bound, "map_at_r": bound})
    why = ranked(tmp_path, "eer")[0].facts.undecided.why
    assert why == ("saturated" if bound == 0 else "tied")
    why = ranked(tmp_path, "map_at_r")[0].facts.undecided.why
    assert why == ("saturated" if bound == 1 else "tied")


def test_a_test_split_at_its_bound_decides_nothing_though_validation_would(plant, tmp_path):
    for margin, validation in ((0.1, 0.9), (0.2, 0.7)):
        plant("arcface", margin, 0, validation, 1.0)
    found, lines = ranked(tmp_path)
    assert found.facts.undecided.split == "test" and "on the test split all are within" in lines[0]


def test_ties_decide_nothing_and_folds_are_proposed(plant, tmp_path):
    for seed in range(3):
        for margin in (0.1, 0.2):
            plant("arcface", margin, seed, 0.8 + 0.005 * margin, 0.6 + margin)
    found, lines = ranked(tmp_path)
    assert found.facts.undecided.why == "tied" and found.winner is None
    assert (
        "on the validation split they tie, from 80.0% to 80.1%, less apart than the 3.3 points"
        in lines[0]
    )
    assert "five folds test every image once" in " ".join(lines)


def test_without_counts_only_what_is_equal_ties(plant, tmp_path):
    for margin in (0.1, 0.2):
        plant("arcface", margin, 0, 0.8 + 0.001 * margin, counts=None)
    assert ranked(tmp_path)[0].winner.label == "arcface m=0.2"


COLLAPSED = {"state": "collapsed", "collapse": "all embeddings lie in one direction"}


def test_settings_that_all_collapsed_are_not_recommended_and_a_smaller_scale_is(plant, tmp_path):
    for margin, value in ((0.1, 0.3), (0.2, 0.4)):
        plant("arcface", margin, 0, value, **COLLAPSED)
    found, lines = ranked(tmp_path)
    assert found.winner is None
    assert lines[0] == "No setting can be recommended: all runs collapsed."
    assert lines[1] == "Next, since 2 of 2 runs collapsed (arcface 2):"
    assert lines[2].endswith("scale=adacos") and is_command(lines[2])


def test_runs_that_collapsed_are_counted_first_of_all(plant, tmp_path):
    plant_losses(plant, arcface=0.9, cosface=0.8)
    plant("cosface", 0.4, 0, 0.1, **COLLAPSED)
    found, _ = ranked(tmp_path)
    assert found.facts.advice[0].because == "1 of 7 runs collapsed (cosface 1)"


# Advice


def overridden(folder, *overrides: str):
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {each}\n" for each in overrides))
    return folder


def test_the_best_at_an_edge_is_to_be_looked_for_beyond_it(plant, tmp_path):
    for margin, mean in ((0.1, 0.5), (0.2, 0.7), (0.4, 0.9)):
        for seed in range(3):
            folder = plant("arcface", margin, seed, mean + NOISE[seed])
            overridden(folder, "loss=arcface", f"margin.value={margin}", f"seed={seed}")
    advice = next(a for a in ranked(tmp_path)[0].facts.advice if a.cause == "edge")
    assert advice.because == "arcface m=0.4 has the highest margin that was tried of arcface"
    assert " -m loss=arcface seed=0,1,2 margin.value=0.6 hydra.sweep.dir=" in advice.command


def test_what_an_experiment_sweeps_does_not_restrict_the_next_step(plant, tmp_path):
    for rate, mean in ((0.001, 0.7), (0.01, 0.9)):
        for seed in range(2):
            folder = plant("arcface", 0.2, seed, mean + NOISE[seed], name=f"{rate},{seed}")
            edit(folder, lambda s, rate=rate: s["config"]["optimizer"].update(lr=rate))
            overridden(folder, "experiment=fair_comparison", f"optimizer.lr={rate}")
    advice = next(a for a in ranked(tmp_path)[0].facts.advice if a.cause == "edge")
    assert "optimizer.lr=0.1" in advice.command
    assert advice.command.endswith("'hydra.sweeper.grids=[]'")


def test_no_margin_at_all_is_no_edge(plant, tmp_path):
    for margin in (0.0, 0.2):
        for seed in range(3):
            plant("arcface", margin, seed, 0.9 - margin + NOISE[seed])
    assert not any(advice.cause == "edge" for advice in ranked(tmp_path)[0].facts.advice)


def curve(folder, losses, metric) -> None:
    rows = [f"{e},{loss},{value}" for e, (loss, value) in enumerate(zip(losses, metric, strict=True), 1)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,loss,recall_at_1", *rows]) + "\n")


@pytest.mark.parametrize("what", ["training loss was still falling", "Recall@1 was still improving"])
def test_a_best_that_still_improves_is_to_be_trained_longer(what, plant, tmp_path):
    epochs = np.arange(20)
    flat, falling, rising = 5 * np.exp(-epochs) + 0.1, 5 - 0.2 * epochs, 0.1 + 0.03 * epochs
    for seed in range(3):
        folder = plant("arcface", 0.2, seed, 0.9 + NOISE[seed])
        overridden(folder, "loss=arcface", "epochs=20", f"seed={seed}")
        curve(folder, *((falling, 0.9 - flat) if "loss" in what else (flat, rising)))
        curve(plant("cosface", 0.2, seed, 0.5 + NOISE[seed]), falling, rising)
    advice = ranked(tmp_path)[0].facts.advice[0]
    assert advice.cause == "still_improving" and advice.because == f"arcface: its {what} at the end"
    assert advice.command.endswith("-m loss=arcface seed=0,1,2 epochs=90")


def test_few_steps_an_epoch_want_a_smaller_batch(plant, tmp_path):
    for loss in ("arcface", "cosface"):
        for seed in range(3):
            folder = plant(loss, 0.2, seed, 0.5 + 0.4 * (loss == "arcface") + NOISE[seed])
            edit(folder, lambda s: s["counts"]["training"].update(images=400))
    advice = next(a for a in ranked(tmp_path)[0].facts.advice if a.cause == "few_steps")
    assert advice.because == "arcface: an epoch has 6 steps" and "batch_size=16" in advice.command


def test_a_loss_far_below_softmax_at_a_large_scale_wants_a_smaller_one(plant, tmp_path):
    plant_losses(plant, arcface=0.45, softmax=0.9)
    for run in read_runs([tmp_path / "sweep"])[0]:
        edit(run.folder, lambda s: s.update(trained_classes=[str(i) for i in range(10)]))
    advice = ranked(tmp_path)[0].facts.advice[0]
    assert advice.because == "arcface is 45.0 points below softmax: scale 64 is large for 10 classes"
    assert advice.cause == "far_below_softmax" and advice.command.endswith("scale=adacos")


# Folds and small numbers


def test_folds_are_repeats_and_differences_are_paired_by_seed_and_fold(plant, tmp_path):
    rng, values = np.random.default_rng(0), {}
    for fold in range(5):
        for loss, mean in (("arcface", 0.80), ("cosface", 0.70)):
            for seed in range(2):
                values[loss, seed, fold] = mean + 0.05 * fold + rng.normal(0, 0.01)
                plant(loss, 0.2, seed, values[loss, seed, fold], folds=5, fold=fold,
                      counts=None)  # fmt: skip
    found, lines = ranked(tmp_path)
    assert [len(setting.runs) for setting in found.settings] == [10, 10]
    gaps = [
        np.mean([values["arcface", seed, fold] - values["cosface", seed, fold] for seed in range(2)])
        for fold in range(5)
    ]
    half = 2.776445 * np.std(gaps, ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    gap = found.facts.which_loss.differences[0]
    assert gap.estimate == pytest.approx(np.mean(gaps)) and gap.separable
    assert (gap.low, gap.high) == pytest.approx((np.mean(gaps) - half, np.mean(gaps) + half))
    assert "Nadeau" in method(found) and lines[0].startswith("Use arcface: it beat cosface by ")


def test_sizes_that_are_recorded_correct_for_what_folds_really_share(plant, tmp_path):
    for fold in range(3):
        folder = plant("arcface", 0.2, 0, 0.8, folds=3, fold=fold)
        edit(folder, lambda s: s["counts"]["training"].update(images=48))
    assert ranked(tmp_path)[0].best.test_ratio == 30 / 48


def test_runs_with_and_without_folds_do_not_compare(plant, tmp_path):
    plant("arcface", 0.2, 0, 0.8, folds=3, fold=1), plant("cosface", 0.2, 0, 0.8)
    with pytest.raises(UserError, match=r"different dataset\.folds do not compare: 3, None"):
        ranked(tmp_path)


def test_a_test_split_of_a_handful_is_called_that(plant, tmp_path):
    few = COUNTS | {"images": 8, "classes": 2, "queries": 8}
    plant("arcface", 0.2, 0, 0.9, counts=few), plant("cosface", 0.2, 0, 0.5, counts=few)
    words = " ".join(ranked(tmp_path)[1])
    assert (
        "The test split has only 8 images of 2 classes: one query more or less is 12.5 points" in words
    )


def test_images_that_are_trained_on_and_tested_are_said(plant, tmp_path):
    line = "64 of 80 test images are training images too, as a.png and b.png"
    plant("arcface", 0.2, 0, 0.9, duplicates=[line]), plant("cosface", 0.2, 0, 0.5, duplicates=[line])
    assert ranked(tmp_path)[1].count(f"{line}.") == 1


# Other classes


def plant_classes(plant, validated: str | None = None, **gains: float) -> None:
    """Losses of 50% on six classes, but for a gain that one class makes alone, or a loss in all; one may
    be `validated` best."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    for seed in range(4):
        for loss, gain in gains.items():
            right = 0.5 + gain * ((labels == 0) if gain > 0 else 1) + rng.normal(0, 0.01, len(labels))
            mean = float(right.mean())
            folder = plant(loss, 0.2, seed, 0.9 if loss == validated else mean, mean)
            left_out = np.array([right[labels != one].mean() for one in range(6)])
            names = Search().metrics
            kept = {"left_out": np.tile(left_out[:, None], len(names)), "left_out_of": names}
            np.savez(folder / "embeddings.npz", labels=labels, **kept)


def test_a_lead_that_holds_for_other_seeds_only_is_no_lead(plant, tmp_path):
    plant_classes(plant, arcface=0.3, cosface=0.0)
    found, lines = ranked(tmp_path)
    gap = found.facts.which_loss.differences[0]
    assert gap.with_seeds and gap.low > 0 and not gap.separable and gap.classes_low < 0
    assert lines[0].startswith(
        "No loss is shown to be better: arcface, the best on the validation split"
    )
    assert lines[0].endswith("; its lead holds for other seeds, not for other classes.")
    assert any("it holds for other seeds, not for other classes" in line for line in lines)
    assert all(advice.cause != "few_seeds" for advice in found.facts.advice)  # which would not help


def test_a_lead_for_other_seeds_only_is_no_spread_between_seeds(plant, tmp_path):
    plant_classes(plant, arcface=0.3, cosface=0.0, sphereface=-0.4)
    found, lines = ranked(tmp_path)
    assert not any(gap.uneven for gap in found.facts.which_loss.differences)
    assert first(lines)[0].startswith("Use arcface: it beat sphereface by ")
    assert first(lines)[0].endswith(
        "; its lead over cosface holds for other seeds, not for other classes."
    )


def test_a_loss_that_is_ahead_for_other_seeds_only_is_not_behind(plant, tmp_path):
    plant_classes(plant, "cosface", arcface=0.3, cosface=0.0, sphereface=-0.4)
    found, lines = ranked(tmp_path)
    gap = next(gap for gap in found.facts.which_loss.differences if gap.loss == "arcface")
    assert gap.with_seeds and not gap.separable and gap.estimate < 0
    assert first(lines)[0].startswith("Use cosface or arcface: cosface beat sphereface")
    assert "its lead" not in first(lines)[0]


# Several data sets


def test_the_same_images_in_two_folders_are_one_data_set(plant, tmp_path):
    for seed, place in enumerate(("faces", "copy", "faces", "copy", "third")):

        def lie_in(summary, place=place):
            summary["config"]["choices"]["dataset"] = "image_folder"
            summary["config"]["dataset"]["root"] = f"/data/{place}"

        read = {"data": "a" * 16} if place != "third" else {"state": "failed", "error": "interrupted"}
        edit(plant("arcface", 0.2, seed, 0.9, **read), lie_in)
    found = compare_sweeps([tmp_path / "sweep"])
    assert found.best.seeds == [0, 1, 2, 3]


def test_several_data_sets_have_an_answer_each_and_what_holds_on_all(plant, tmp_path, capsys):
    for data in ("digits", "synthetic"):
        for i, (loss, mean) in enumerate((("arcface", 0.90), ("cosface", 0.80), ("softmax", 0.70))):
            for seed in range(3):
                name = f"{data},{loss},{seed}"
                value = mean + NOISE[(seed + i) % 3] - 0.1 * (data == "digits")
                folder = plant(loss, None if loss == "softmax" else 0.2, seed, value, name=name)
                edit(folder, lambda s, d=data: s["config"]["choices"].update(dataset=d))
    found = compare_sweeps([tmp_path / "sweep"])
    assert list(found.comparisons) == ["digits", "synthetic"]
    assert found.sentences() == [
        "arcface leads on all 2 data sets and beat cosface and softmax on each.",
        "Better than softmax on all data sets: arcface and cosface.",
        "Worse than softmax on all data sets: no loss.",
    ]
    assert found.rows()[1] == ["arcface", "80.0% (1)", "90.0% (1)", "1.0"]
    assert found.comparisons["digits"].problems is not found.comparisons["synthetic"].problems
    out = tmp_path / "sweep" / "comparison"
    assert (out / "digits" / "report.html").exists() and (out / "synthetic" / "best").exists()
    assert (out / "answer.txt").read_text().startswith("arcface leads on all 2 data sets")
    assert "digits:\nUse arcface" in capsys.readouterr().out


# A race


def test_after_a_race_the_settings_that_ran_with_all_seeds_are_chosen_from(plant, tmp_path):
    """Those that dropped out had lucky results with the one seed that they have."""
    for i, (loss, mean) in enumerate({"arcface": 0.90, "cosface": 0.80}.items()):
        for margin in (0.2, 0.3, 0.4):
            for seed in range(3):
                plant(loss, margin, seed, mean + NOISE[(seed + i) % 3], mean + NOISE[seed])
        for margin in (0.1, 0.5, 0.6):
            plant(loss, margin, 0, 0.99, 0.50)
    found, lines = ranked(tmp_path)
    assert first(lines)[0].startswith("Use arcface: it beat cosface by 10.0 points (")
    assert first(lines)[1].endswith("chosen of 6 on the validation split.")
    setting = found.facts.which_setting
    assert setting.setting in ("arcface m=0.2", "arcface m=0.3", "arcface m=0.4")
    named = {setting.setting, *setting.no_worse, *setting.worse}
    assert named == {f"arcface m={margin}" for margin in (0.2, 0.3, 0.4)}
    assert [s.seeds for s in found.settings] == [[0, 1, 2]] * 6 + [[0]] * 6
    assert "6 of 12 settings have fewer seeds" in " ".join(notes(found))


def test_a_setting_with_some_of_a_races_seeds_does_not_cost_its_loss_the_others(plant, tmp_path):
    """As of a race of three seeds that went on with five."""
    for i, (loss, mean) in enumerate({"arcface": 0.90, "cosface": 0.80}.items()):
        for margin in (0.2, 0.3, 0.4):
            for seed in range(5):
                plant(loss, margin, seed, mean + NOISE[(seed + i) % 3])
    for seed in range(3):
        plant("arcface", 0.5, seed, 0.95)
    found = ranked(tmp_path)[0].facts
    assert [result.repeats for result in found.which_loss.losses] == [5, 5]
    assert found.which_setting.setting != "arcface m=0.5"
