"""Which of two encoders is better, by files of their embeddings."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from src.analysis.judge import judge
from src.analysis.judgement import sentence
from src.analysis.other_classes import jackknife_variance
from src.analysis.statistics import t_quantile
from src.errors import UserError
from src.evaluation import PairScores, retrieval, sample_pairs, score_pairs, verification
from src.evaluation.retrieval import dealt_into_groups
from src.evaluation.weighted import WeightedPairs, metrics_of_rates, pair_metrics_left_out

RNG = np.random.default_rng(0)


@pytest.fixture
def encoders(tmp_path):
    """encoders(1.9, 1.6) writes a file for each: the same samples of 40 classes, with such noise."""
    labels = np.repeat(np.arange(40), 10)
    centres, noise = RNG.normal(size=(40, 16))[labels], RNG.normal(size=(400, 16))
    names = np.array([f"{row}.png" for row in range(400)])

    def write(*levels: float, order=None, named=True):
        paths = []
        for number, level in enumerate(levels):
            rows = order if order is not None and number else np.arange(400)
            arrays = {"features": (centres + level * noise)[rows], "labels": labels[rows]}
            paths.append(tmp_path / f"{'abc'[number]}.npz")
            np.savez(paths[-1], **arrays, **({"names": names[rows]} if named else {}))
        return paths

    return write


def test_the_better_encoder_is_named_with_an_interval_for_other_classes(encoders):
    found = judge(encoders(1.9, 1.5))
    assert sentence(found).startswith("b.npz is better than a.npz, by ")
    gap = found.differences["map_at_r"]
    assert gap.low > 0 and gap.separable and gap.low < gap.estimate < gap.high
    assert sentence(judge(encoders(1.5, 1.9))).startswith("a.npz is better than b.npz, by ")
    with np.load(encoders(1.9)[0]) as kept:
        features, labels = torch.from_numpy(kept["features"]).float(), torch.from_numpy(kept["labels"])
    assert found.metrics["a.npz"]["map_at_r"] == pytest.approx(
        retrieval(features, labels).metrics["map_at_r"]
    )


def test_equal_encoders_are_not_told_apart(encoders, tmp_path):
    first, _ = encoders(1.5, 1.5)
    with np.load(first) as kept:
        turned = kept["features"] + 0.3 * RNG.normal(size=kept["features"].shape)
        other = kept["features"] + 0.3 * RNG.normal(size=kept["features"].shape)
        for path, features in ((tmp_path / "d.npz", turned), (tmp_path / "e.npz", other)):
            np.savez(path, features=features, labels=kept["labels"])
    found = judge([tmp_path / "d.npz", tmp_path / "e.npz"])
    assert sentence(found).startswith("neither is shown to be better: e.npz − d.npz is -")


def test_a_npy_file_with_labels_compares_with_an_npz(encoders, tmp_path):
    first, second = encoders(1.9, 1.5)
    kept = np.load(second)
    np.save(tmp_path / "f.npy", kept["features"])
    np.save(tmp_path / "l.npy", kept["labels"])
    found = judge([first, tmp_path / "f.npy"], tmp_path / "l.npy")
    assert found.differences == judge([first, second]).differences
    with pytest.raises(UserError, match=r"--labels .*l\.npy: .*a\.npz has its own"):
        judge([first], tmp_path / "l.npy")


def test_intervals_end_where_the_metric_does_and_equals_are_equal(encoders, tmp_path):
    (first,) = encoders(0.05)
    kept = np.load(first)
    np.savez(tmp_path / "copy.npz", features=kept["features"], labels=kept["labels"])
    found = judge([first, tmp_path / "copy.npz"])
    assert all(gap.high <= 1 for gap in found.intervals["a.npz"].values() if gap.high is not None)
    assert sentence(found) == "a.npz and copy.npz reach the same MAP@R"


def test_one_file_has_its_metrics_with_intervals(encoders):
    found = judge(encoders(1.5))
    reached = found.intervals["a.npz"]["map_at_r"]
    assert reached.estimate == pytest.approx(found.metrics["a.npz"]["map_at_r"])
    assert sentence(found).startswith("a.npz reaches ") and not found.differences


def test_samples_in_another_order_are_found_by_their_names(encoders):
    order = RNG.permutation(400)
    same, shuffled = judge(encoders(1.9, 1.5)), judge(encoders(1.9, 1.5, order=order))
    assert shuffled.differences["map_at_r"].estimate == same.differences["map_at_r"].estimate
    with pytest.raises(
        UserError, match=r"b.npz: sample 0 is of class .*, in .*a.npz of 0: two encoders"
    ):
        judge(encoders(1.9, 1.5, order=order, named=False))


def test_files_that_cannot_be_judged_are_named(encoders, tmp_path):
    first, _ = encoders(1.9, 1.5)
    alone = tmp_path / "alone.npz"
    np.savez(alone, features=np.eye(4), labels=np.arange(4))
    with pytest.raises(UserError, match="no class has two samples"):
        judge([alone])
    with pytest.raises(UserError, match="hold 400 and 4 samples"):
        judge([first, alone])
    with pytest.raises(UserError, match="is the first file"):
        judge([first, first])
    kept = dict(np.load(first))
    np.savez(tmp_path / "one.npz", features=kept["features"], labels=np.zeros(400, int))
    with pytest.raises(UserError, match="all samples are of class 0"):
        judge([tmp_path / "one.npz"])
    np.savez(tmp_path / "others.npz", **kept | {"names": np.array([f"x{i}" for i in range(400)])})
    with pytest.raises(UserError, match=r"name different samples: one of them lacks 0\.png"):
        judge([first, tmp_path / "others.npz"])
    kept["features"][7] = 1e25
    np.savez(tmp_path / "long.npz", **kept)
    with pytest.raises(UserError, match="the length of sample 7 is not finite in float32"):
        judge([tmp_path / "long.npz"])
    np.save(tmp_path / "alone.npy", np.eye(4))
    with pytest.raises(UserError, match=r"--labels is missing: .*alone\.npy holds features alone"):
        judge([tmp_path / "alone.npy"])
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"torn.npz: cannot be read as an .npz"):
        judge([tmp_path / "torn.npz"])


def test_intervals_for_other_classes_cover_and_those_of_independent_samples_do_not():
    rng, classes, queries, tables = np.random.default_rng(1), 40, 8, 200
    labels = np.repeat(np.arange(classes), queries)
    covered = naive = 0
    for _ in range(tables):
        values = rng.normal(0, 1, classes)[labels] + rng.normal(0, 1, len(labels))
        variance = jackknife_variance(np.array([values[labels != c].mean() for c in range(classes)]))
        covered += abs(values.mean()) <= t_quantile(0.95, classes - 1) * np.sqrt(variance)
        naive += abs(values.mean()) <= 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert 0.92 <= covered / tables <= 0.98 and naive / tables < 0.80


def pairs_of(rng, classes: int, dimension: int = 4):
    """All pairs of six samples of each class, whose classes differ in how scattered they are."""
    labels = np.repeat(np.arange(classes), 6)
    centres = rng.normal(size=(classes, dimension))[labels]
    scatter = rng.uniform(0.2, 1.5, classes)[labels]
    x = centres + scatter[:, None] * rng.normal(size=(len(labels), dimension))
    drawn = sample_pairs(torch.from_numpy(labels), None)
    return score_pairs(torch.from_numpy(x), *drawn), *drawn[:2], torch.from_numpy(labels)


def unweighted(scores: PairScores) -> dict[str, float]:
    return metrics_of_rates(*WeightedPairs(scores).rates(np.ones(len(scores.same))))


@pytest.mark.parametrize(("thresholds", "error"), [(2**20, 1e-9), (2**12, 1e-4)])
def test_pairs_that_count_alike_have_the_metrics_of_verification(thresholds, error, monkeypatch):
    monkeypatch.setattr("src.evaluation.weighted.THRESHOLDS", thresholds)
    scores, *_ = pairs_of(np.random.default_rng(0), 40)
    expected = verification(scores)
    found = unweighted(scores)
    assert set(expected) - set(found) == {"ten_fold_accuracy"} and len(found) == 6
    for metric, value in found.items():
        if metric in expected:
            assert value == pytest.approx(expected[metric], abs=error), metric


def test_pairs_without_a_group_of_classes_have_the_metrics_of_the_others(monkeypatch):
    monkeypatch.setattr("src.evaluation.weighted.THRESHOLDS", 2**20)
    scores, first, second, labels = pairs_of(np.random.default_rng(3), 50)
    group, count = dealt_into_groups(labels)
    found = pair_metrics_left_out(scores, first, second, group, count)
    assert count == 40
    for left_out in (0, 7, 39):
        stay = (group[first] != left_out) & (group[second] != left_out)
        alone = verification(PairScores(*(values[stay] for values in scores)))
        for metric in ("auc", "eer", "tar_at_far_1e-2"):
            assert found[metric][left_out] == pytest.approx(alone[metric], abs=1e-12)


def test_intervals_of_pair_metrics_cover_what_other_classes_give():
    """The truth is the mean over many draws of classes."""
    rng, tables = np.random.default_rng(2), 40
    every = [pairs_of(rng, 20) for _ in range(tables)]
    ones = [unweighted(scores) for scores, *_ in every]
    left_out = [pair_metrics_left_out(*one[:3], *dealt_into_groups(one[3])) for one in every]
    for metric in ("auc", "eer"):
        truth = np.mean([one[metric] for one in ones])
        halves = [t_quantile(0.95, 19) * jackknife_variance(own[metric]) ** 0.5 for own in left_out]
        covered = [abs(one[metric] - truth) <= half for one, half in zip(ones, halves, strict=True)]
        assert np.mean(covered) >= 0.85, metric


def test_the_command_judges_files(encoders, tmp_path):
    out = tmp_path / "judgement.json"
    line = [sys.executable, "-m", "src.evaluate", *map(str, encoders(1.9, 1.5)), "--out", str(out)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "400 samples of 40 classes" in done.stdout and "b.npz is better than a.npz" in done.stdout
    assert json.loads(out.read_text())["differences"]["map_at_r"]["separable"] is True
    again = subprocess.run(line, capture_output=True, text=True)
    assert again.returncode == 1 and "exists already" in again.stderr
    three = subprocess.run([*line[:5], line[4]], capture_output=True, text=True)
    assert three.returncode == 1 and "one file of embeddings is judged, or two" in three.stderr
