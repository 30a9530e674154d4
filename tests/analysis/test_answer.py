"""What the answer says where something is planted: a saturated metric, ties, collapse, a winner,
baselines, folds, few images, one learning rate for all."""

import re

import numpy as np
import pytest

from src.analysis import compare_sweeps, rank_runs, read_runs
from src.analysis.winner import next_steps
from src.analysis.wording import answer_sentences, method
from src.errors import UserError

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
                summary["counts"] = {"training": counts, "validation": counts, "test": counts}

        edit(folder, change)
        return folder

    return run


def ranked(tmp_path, metric="recall_at_1"):
    found = rank_runs(*read_runs([tmp_path / "sweep"]), metric)
    return found, answer_sentences(found)


def test_a_saturated_metric_ranks_nobody_and_names_one_that_separates(plant, tmp_path):
    for seed in range(3):
        for margin, fine in ((0.1, 0.80), (0.2, 0.70), (0.3, 0.60)):
            right = 1.0 if margin < 0.3 else 1 - 1 / 30  # one of thirty queries wrong
            plant("arcface", margin, seed, right, more={"map_at_r": fine + 0.001 * (seed * margin)})
    found, lines = ranked(tmp_path)
    assert found.winner is None and found.undecided.why == "saturated"
    assert lines[0].startswith("No setting ranks first of 3: recall_at_1 is saturated on the validation")
    assert "within the 3.3 points that one query more or less changes of 100.0%" in lines[0]
    todo = next(line for line in lines if line.startswith("What would: "))
    assert "--metric map_at_r, which on the test split separates 2 of 2 from its first" in todo
    assert "arcface m=0.1 80.0%, arcface m=0.2 70.0%, arcface m=0.3 60.0%" in todo
    assert (
        "more validation classes (dataset.val_fraction, now 0.1)" in todo and "dataset.folds=5" in todo
    )
    assert not any("ranks first of 3 settings" in line or "Its model" in line for line in lines)


def test_more_wrong_than_one_query_is_not_saturated(plant, tmp_path):
    for seed in range(3):
        plant("arcface", 0.1, seed, 1.0), plant("arcface", 0.2, seed, 1 - 2 / 30)
    assert ranked(tmp_path)[0].winner.label == "arcface m=0.1"


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_zero_saturates_a_metric_that_should_be_small_and_only_ties_another(bound, plant, tmp_path):
    for margin in (0.1, 0.2):
        plant("arcface", margin, 0, 0.5, more={"eer": bound, "map_at_r": bound})
    assert ranked(tmp_path, "eer")[0].undecided.why == ("saturated" if bound == 0 else "tied")
    assert ranked(tmp_path, "map_at_r")[0].undecided.why == ("saturated" if bound == 1 else "tied")


def test_a_test_split_at_its_bound_ranks_nobody_though_validation_would(plant, tmp_path):
    for margin, validation in ((0.1, 0.9), (0.2, 0.7)):
        plant("arcface", margin, 0, validation, 1.0)
    found, lines = ranked(tmp_path)
    assert found.undecided.split == "test" and "saturated on the test split" in lines[0]
    assert "more test classes" in " ".join(lines)


def test_ties_rank_nobody_and_without_another_metric_say_so(plant, tmp_path):
    for seed in range(3):
        for margin in (0.1, 0.2):
            plant("arcface", margin, seed, 0.8 + 0.005 * margin, 0.6 + margin)
    found, lines = ranked(tmp_path)
    assert found.undecided.why == "tied" and found.winner is None
    assert (
        "all of them tie by recall_at_1 on the validation split, less apart than the 3.3 points"
        in lines[0]
    )
    assert "on the test split they have 70.0% to 80.0%" in lines[0]
    plant("softmax", None, 0, 0.7)
    assert ranked(tmp_path)[1][1].startswith("arcface m=0.2 against the baseline softmax: ")
    assert any(line.startswith("No other recorded metric tells them apart.") for line in lines)


def test_without_counts_only_what_is_equal_ties(plant, tmp_path):
    for margin in (0.1, 0.2):
        plant("arcface", margin, 0, 0.8 + 0.001 * margin, counts=None)
    assert ranked(tmp_path)[0].winner.label == "arcface m=0.2"


def test_who_is_level_on_validation_shares_the_first_rank_and_test_does_not_choose(plant, tmp_path):
    plant("arcface", 0.1, 0, 0.9, 0.7), plant("arcface", 0.2, 0, 0.9, 0.8), plant("cosface", 0.2, 0, 0.5)
    lines = ranked(tmp_path)[1]
    assert lines[0].startswith("arcface m=0.1 shares the first rank with arcface m=0.2 of 3 settings")


def test_a_planted_winner_is_named_with_its_run_and_three_commands(plant, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, noise in enumerate((0.0, 0.003, 0.001)):
        plant("arcface", 0.2, seed, 0.90 + noise, 0.85 + noise, more={"accuracy": 0.5})
        plant("cosface", 0.2, seed, 0.70 - noise, 0.65 - noise, more={"accuracy": 0.5})
    found = compare_sweeps([tmp_path / "sweep"])
    out = tmp_path / "sweep" / "comparison"
    said = capsys.readouterr().out
    assert "It is the best of these settings" in said
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


def test_settings_that_all_collapsed_rank_nobody(plant, tmp_path):
    for margin, value in ((0.1, 0.3), (0.2, 0.4)):
        plant(
            "arcface",
            margin,
            0,
            value,
            state="collapsed",
            collapse="all embeddings lie in one direction",
        )
    found, lines = ranked(tmp_path)
    assert found.winner is None and lines[0].startswith("Collapsed: ")
    assert lines[1] == "No setting ranks first of 2: all of their runs collapsed."


def test_a_first_setting_that_collapsed_in_part_says_so_in_the_headline(plant, tmp_path):
    plant("arcface", 0.1, 0, 0.9), plant("arcface", 0.2, 0, 0.5)
    plant("arcface", 0.1, 1, 0.8, state="collapsed", collapse="all embeddings lie in one direction")
    lines = ranked(tmp_path)[1]
    assert lines[0].startswith("Collapsed: arcface m=0.1 (1 of 2 runs)")
    assert lines[1].startswith("arcface m=0.1 (1 of 2 runs collapsed) ranks first of 2 settings")


# Baselines


def test_pixels_and_softmax_are_never_first_and_the_second_sentence_is_against_them(plant, tmp_path):
    for seed, noise in enumerate((0.0, 0.02, -0.02)):
        plant("arcface", 0.2, seed, 0.80, 0.80 + noise), plant("cosface", 0.2, seed, 0.70, 0.70)
        plant("softmax", None, seed, 0.95, 0.60 + 0.9 * noise)
    plant("arcface", 0.2, 0, 0.99, 0.81, model="pixels")  # one seed stands for all
    found, lines = ranked(tmp_path)
    assert [setting.label for setting in found.settings] == ["arcface", "cosface", "pixels", "softmax"]
    assert lines[0].startswith("arcface ranks first of 2 settings")
    assert lines[1].startswith(
        "Against the baseline pixels, the images themselves without any training: -1.0"
    )
    assert "not separable with these seeds: no better than pixels" in lines[1]
    assert "Against the baseline softmax: +20.0 points" in lines[1] and "separable." in lines[1]
    assert "pixels" not in found.budgets and not found.also_differ


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (0.5, " separable."),
        (0.9, "separable: worse than pixels."),
        (0.78, "not separable with these seeds: not shown to be better than pixels, "),
        (0.81, "not separable with these seeds: no better than pixels, "),
    ],
)
def test_pixels_are_said_to_be_beaten_only_where_the_interval_clears_zero(pixels, said, plant, tmp_path):
    for seed, noise in enumerate((0.0, 0.03, -0.02)):
        plant("arcface", 0.2, seed, 0.80, 0.80 + noise), plant("cosface", 0.2, seed, 0.70, 0.70)
        plant("arcface", 0.2, seed, 0.5, pixels, model="pixels")
    assert said in ranked(tmp_path)[1][1]


def test_one_seed_no_better_than_pixels_is_said_to_be(plant, tmp_path):
    plant("arcface", 0.2, 0, 0.8), plant("arcface", 0.3, 0, 0.7)
    plant("arcface", 0.2, 0, 0.9, model="pixels")
    assert "with one seed in common: no better than pixels, as far as" in ranked(tmp_path)[1][1]


def test_softmax_alone_and_pixels_alone_are_settings_like_others(plant, tmp_path):
    for seed in range(2):
        plant("softmax", None, seed, 0.8 + 0.1 * seed)
    found, lines = ranked(tmp_path)
    assert found.winner.label == "softmax" and not found.baselines
    plant("softmax", None, 0, 0.9, model="pixels")
    found, lines = ranked(tmp_path)
    assert found.winner.label == "softmax" and [s.label for s in found.baselines] == ["pixels"]
    assert lines[0].startswith("softmax, the only setting besides pixels: ")


def test_baselines_have_rows_of_their_own_without_a_rank(plant, tmp_path, capsys):
    for margin in (0.1, 0.2):
        plant("arcface", margin, 0, margin, more={"accuracy": 0.5})
    plant("softmax", None, 0, 0.9, more={"accuracy": 0.5})
    compare_sweeps([tmp_path / "sweep"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "softmax (baseline)" in line)
    assert not re.search(r"\d.*softmax", row)
    summary = (tmp_path / "sweep" / "comparison" / "summary.csv").read_text().splitlines()
    assert summary[1].startswith("1,arcface m=0.2") and summary[3].startswith(",softmax")


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
    assert "5 folds × 2 seeds." in lines[0] and "seeds" not in " ".join(lines[1:])
    gaps = [
        np.mean([values["cosface", seed, fold] - values["arcface", seed, fold] for seed in range(2)])
        for fold in range(5)
    ]
    half = 2.776445 * np.std(gaps, ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    gap = found.settings[1].to_best
    assert (gap.n, gap.mean) == (5, pytest.approx(np.mean(gaps))) and gap.separable
    assert (gap.low, gap.high) == pytest.approx((np.mean(gaps) - half, np.mean(gaps) + half))
    assert "Nadeau" in method(found) and "paired by seed and fold" in method(found)


@pytest.mark.parametrize(("folds", "way"), [(3, "more folds (dataset.folds=5"), (10, "images of more")])
def test_folds_that_tell_nothing_apart_say_what_a_query_changes_and_what_would_help(
    folds, way, plant, tmp_path
):
    for fold in range(folds):
        up, down = 0.2 * (fold % 2), 0.1 * (fold % 3)
        plant("arcface", 0.2, 0, 0.80, 0.6 + up, folds=folds, fold=fold)
        plant("cosface", 0.2, 0, 0.70, 0.6 + down, folds=folds, fold=fold)
        plant("magface", 0.2, 0, 0.65, 0.6 + down, folds=folds, fold=fold)
        plant("softmax", None, 0, 0.90, 0.7 + down, folds=folds, fold=fold)
    words = " ".join(ranked(tmp_path)[1])
    assert "all 2 others may be as good" in words and "no better than softmax" in words
    step = f"{100 / 30 / folds:.1f} points"
    assert f"settings are 15.0 points apart on the validation split, where one query is {step}" in words
    assert f"What would tell them apart: {way}" in words


def test_sizes_that_are_recorded_correct_for_what_folds_really_share(plant, tmp_path):
    for fold in range(3):
        folder = plant("arcface", 0.2, 0, 0.8, folds=3, fold=fold)
        edit(folder, lambda s: s["counts"]["training"].update(images=48))
    assert ranked(tmp_path)[0].best.shared == 30 / 48


def test_runs_with_and_without_folds_do_not_compare(plant, tmp_path):
    plant("arcface", 0.2, 0, 0.8, folds=3, fold=1), plant("cosface", 0.2, 0, 0.8)
    with pytest.raises(UserError, match=r"different dataset\.folds do not compare: 3, None"):
        ranked(tmp_path)


def test_two_seeds_are_too_few_to_say_how_many_it_takes(plant, tmp_path):
    for seed in range(2):
        plant("arcface", 0.2, seed, 0.9, 0.9 + 0.01 * seed), plant("cosface", 0.2, seed, 0.8, 0.85)
    words = " ".join(ranked(tmp_path)[1])
    assert "2 seeds are too few to say how many more would tell" in words
    assert "more seeds each" not in words and "would take" not in words


def test_one_is_singular_everywhere(plant, tmp_path):
    plant("arcface", 0.2, 0, 0.9), plant("cosface", 0.2, 0, 0.5)
    plant("softmax", None, 0, 0.8, state="collapsed", collapse="x")
    words = " ".join(ranked(tmp_path)[1])
    assert "1 seed." in words and "(1 of 1 run)" in words
    assert not re.search(r"\b1 (seeds|settings|runs|folds|images|others)\b", words)


def test_a_test_split_of_a_handful_is_called_that(plant, tmp_path):
    few = COUNTS | {"images": 8, "classes": 2, "queries": 8}
    plant("arcface", 0.2, 0, 0.9, counts=few), plant("cosface", 0.2, 0, 0.5, counts=few)
    words = " ".join(ranked(tmp_path)[1])
    assert (
        "the test split is a handful, 8 images of 2 classes: one query more or less is 12.5 points"
        in words
    )


def test_images_that_are_trained_on_and_tested_are_said(plant, tmp_path):
    line = "64 of 80 test images are training images too, as a.png and b.png"
    plant("arcface", 0.2, 0, 0.9, duplicates=[line]), plant("cosface", 0.2, 0, 0.5, duplicates=[line])
    assert " ".join(ranked(tmp_path)[1]).count(f"Note that {line}.") == 1


# One learning rate


def curve(folder, losses, metric) -> None:
    rows = [f"{e},{loss},{value}" for e, (loss, value) in enumerate(zip(losses, metric, strict=True), 1)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,loss,recall_at_1", *rows]) + "\n")


def test_losses_at_one_rate_are_said_to_be_and_whom_it_did_not_suit(plant, tmp_path):
    epochs = np.arange(20)
    flat, falling = 5 * np.exp(-epochs) + 0.1, 5 - 0.2 * epochs
    curve(plant("arcface", 0.2, 0, 0.9), flat, 0.9 - flat / 10)
    curve(plant("cosface", 0.2, 0, 0.8), falling, 0.9 - flat / 10)
    curve(plant("sphereface", 1.3, 0, 0.7), flat, 0.1 + 0.03 * epochs)
    folder = plant(
        "circle", 0.2, 0, 0.1, state="collapsed", collapse="all embeddings lie in one direction"
    )
    curve(folder, flat, 0.9 - flat / 10)
    note = next(line for line in ranked(tmp_path)[1] if "share one learning rate" in line)
    assert "optimizer.lr=0.003" in note and "arcface" not in note
    assert "cosface (its training loss was still falling at the end)" in note
    assert "sphereface (its recall at 1 was still improving at the end)" in note
    assert "circle (1 of 1 run collapsed)" in note


def test_losses_that_had_a_choice_of_rates_are_not_said_to_share_one(plant, tmp_path):
    for rate in (0.01, 0.1):
        for loss in ("arcface", "cosface"):
            folder = plant(loss, 0.2, 0, 0.5 + rate, name=f"{loss},{rate}")
            edit(folder, lambda s, rate=rate: s["config"]["optimizer"].update(lr=rate))
    assert "share one learning rate" not in " ".join(ranked(tmp_path)[1])


def test_losses_with_equal_budgets_are_compared_by_their_best_first_of_all(plant, tmp_path):
    for tried, margin in enumerate((0.1, 0.2, 0.3)):
        for seed, noise in enumerate((0.0, 0.01, -0.01)):
            plant("arcface", margin, seed, 0.80 + 0.02 * tried, 0.70 + 0.02 * tried + noise)
            plant("cosface", margin, seed, 0.70 - 0.02 * tried, 0.90 + noise)  # chosen by validation
            plant("softmax", None, seed, 0.60, 0.55, scale=tried + 1)
    first, second, *_ = ranked(tmp_path)[1]
    assert first.startswith(
        "Best of 3 settings of each loss, chosen on the validation split, by recall_"
    )
    said = re.search(
        r": arcface m=0.3 74\.0% \(95% interval 71\.5% to 76\.5%\); cosface m=0.1 90", first
    )
    assert said and "softmax" in first and second.startswith("arcface m=0.3 ranks first of 6 settings")
    plant("arcface", 0.4, 0, 0.1)  # one more try than the others had
    assert ranked(tmp_path)[1][0].startswith("arcface m=0.3 ranks first")
