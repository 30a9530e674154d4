"""Embeddings judged by a list of trials, against computations that are written out here."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from src.analysis.judgement import draw, sentence, show
from src.analysis.trials import TrialOptions, judge_trials
from src.errors import UserError
from src.evaluation.detection import (
    actual_dcf,
    as_norm,
    calibration,
    cllr,
    cross_calibrated,
    min_dcf,
)
from src.run.build import check_config
from src.run.lifecycle import train_run
from tests.conftest import FAST, config_of

RNG = np.random.default_rng(0)
CLASSES, EACH, DIMENSION = 60, 8, 16


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Two files of embeddings, the second's better, a cohort and a list of trials in a folder."""
    folder = tmp_path_factory.mktemp("trials")
    labels = np.repeat(np.arange(CLASSES), EACH)
    names = np.array([f"id{label}/{row}.wav" for row, label in enumerate(labels)])
    centres = RNG.normal(size=(CLASSES, DIMENSION))[labels]
    noise = RNG.normal(size=centres.shape)
    for name, level in (("a", 1.2), ("b", 0.9)):
        arrays = {"embeddings": centres + level * noise, "labels": labels, "names": names}
        np.savez(folder / f"{name}.npz", **arrays)
    cohort = RNG.normal(size=(200, DIMENSION))
    np.savez(folder / "cohort.npz", embeddings=cohort, labels=np.arange(200))
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    kept = np.flatnonzero(same | (RNG.random(len(first)) < 0.1))
    rows = RNG.permutation(kept)
    lines = [f"{int(same[r])} {names[first[r]]} {names[second[r]]}" for r in rows]
    (folder / "trials.txt").write_text("\n".join(lines) + "\n")
    return folder


def cosines_of(folder, name="a"):
    """Cosines and sameness of the listed trials, one at a time."""
    kept = np.load(folder / f"{name}.npz")
    row_of = {text: row for row, text in enumerate(kept["names"])}
    scores, same = [], []
    for line in (folder / "trials.txt").read_text().splitlines():
        label, one, two = line.split()
        x, y = (kept["embeddings"][row_of[each]] for each in (one, two))
        scores.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        same.append(label == "1")
    return np.array(scores), np.array(same)


def judged(folder, *names, **options):
    files = [folder / f"{name}.npz" for name in names]
    return judge_trials(files, TrialOptions(folder / "trials.txt", **options))


def test_rates_are_those_of_scikit_learns_curve_and_costs_those_of_their_definition(listed):
    scores, same = cosines_of(listed)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    found = judged(listed, "a", prior=0.05).metrics["a.npz"]
    for rate in ("1e-1", "1e-2"):
        assert found[f"tar_at_far_{rate}"] == pytest.approx(tar[far <= float(rate)].max(), abs=1e-6)
    costs = [
        (0.05 * (scores[same] < t).mean() + 0.95 * (scores[~same] >= t).mean()) / 0.05
        for t in [*scores, np.inf]
    ]
    assert found["min_dcf"] == pytest.approx(min(costs), abs=1e-6)
    assert found["min_dcf"] <= found["actual_dcf"] <= 1.2 * found["min_dcf"] + 0.05
    assert 0 < found["cllr"] < 1


def test_thresholds_accept_what_they_say_and_more_for_other_classes(listed):
    scores, same = cosines_of(listed)
    found = judged(listed, "a", rates=("1e-1", "1e-2")).thresholds["a.npz"]
    assert [one.rate for one in found] == ["1e-1", "1e-2"]
    for one in found:
        assert one.far == pytest.approx((scores[~same] > one.score).mean(), abs=1e-4)
        assert one.far <= float(one.rate) < one.far + 2 / (~same).sum()
        assert one.tar == pytest.approx((scores[same] > one.score).mean(), abs=1e-3)
        assert one.far < one.far_elsewhere < 3 * one.far


def test_the_calibration_is_that_of_a_balanced_logistic_regression():
    same = RNG.random(3000) < 0.2
    scores = RNG.normal(size=3000) * 0.2 + 0.4 * same
    scale, offset = calibration(scores, same)
    peer = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-10).fit(scores[:, None], same)
    assert scale == pytest.approx(peer.coef_[0, 0], rel=1e-3)
    assert offset == pytest.approx(peer.intercept_[0], rel=1e-3)


def test_cllr_and_actual_costs_have_their_textbook_values():
    same = np.array([True, True, False, False])
    assert cllr(np.zeros(4), same) == pytest.approx(1.0)
    assert cllr(np.array([50.0, 50, -50, -50]), same) == pytest.approx(0.0)
    ratios = np.array([1.0, -1, 2, -3])
    by_hand = (np.log2(1 + np.exp(-1)) + np.log2(1 + np.exp(1))) / 2
    by_hand += (np.log2(1 + np.exp(2)) + np.log2(1 + np.exp(-3))) / 2
    assert cllr(ratios, same) == pytest.approx(by_hand / 2)
    assert actual_dcf(ratios, same, 0.5) == pytest.approx((0.5 * 0.5 + 0.5 * 0.5) / 0.5)
    assert actual_dcf(np.full(4, -100.0), same, 0.01) == pytest.approx(1.0)
    far, tar = np.array([0, 0, 0.5, 1]), np.array([0, 0.5, 0.5, 1])
    assert min_dcf(far, tar, 0.5) == pytest.approx(0.5)


def test_calibrated_gaussian_scores_are_their_own_ratios():
    """Two normal distributions of one spread: the ratio is linear, with a known scale and offset."""
    same = np.arange(40000) % 2 == 0
    scores = RNG.normal(size=40000) + np.where(same, 2.0, 0.0)
    ratios = cross_calibrated(scores, same)
    assert np.abs(ratios - (2 * scores - 2)).mean() < 0.1


def test_as_norm_is_the_mean_of_both_sides_standard_scores(listed):
    kept, cohort = np.load(listed / "a.npz"), np.load(listed / "cohort.npz")["embeddings"]
    x = kept["embeddings"] / np.linalg.norm(kept["embeddings"], axis=1, keepdims=True)
    others = cohort / np.linalg.norm(cohort, axis=1, keepdims=True)
    first, second = np.array([0, 3, 5]), np.array([1, 100, 400])
    cosines = (x[first] * x[second]).sum(1)
    expected = []
    for one, two, cosine in zip(first, second, cosines, strict=True):
        parts = []
        for row in (one, two):
            near = np.sort(others @ x[row])[-50:]
            parts.append((cosine - near.mean()) / near.std(ddof=1))
        expected.append(np.mean(parts))
    found = as_norm(*map(torch.from_numpy, (cosines, first, second, x, others)), 50)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    plain, normalised = judged(listed, "a"), judged(listed, "a", cohort=listed / "cohort.npz")
    assert plain.metrics != normalised.metrics
    assert normalised.thresholds["a.npz"][0].score > 1.0  # standard deviations


def test_two_encoders_differ_by_less_errors_and_the_smaller_eer_is_better(listed):
    found = judged(listed, "a", "b")
    assert sentence(found).startswith("b.npz is better than a.npz, by ")
    assert found.differences["eer"].high < 0 < found.differences["min_dcf"].estimate * -1
    assert sentence(judged(listed, "b", "a")).startswith("b.npz is better than a.npz, by ")


@pytest.mark.parametrize(
    "form",
    ["{label} {a} {b}", "{a}\t{b}\t{word}", "{a},{b},{label}", "{a} {b} {word}"],
)
def test_lists_of_any_usual_form_are_read(form, listed, tmp_path):
    lines = (listed / "trials.txt").read_text().splitlines()
    words = {"1": "target", "0": "nontarget"}
    parts = [line.split() for line in lines]
    text = [form.format(label=k, word=words[k], a=a, b=b) for k, a, b in parts]
    header = ["first,second,target"] if "," in form else []
    (tmp_path / "list").write_text("\n".join([*header, *text, ""]))
    found = judge_trials([listed / "a.npz"], TrialOptions(tmp_path / "list"))
    assert found.metrics == judged(listed, "a").metrics


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 id0/0.wav", "line 3 has 2 fields"),
        ("2 id0/0.wav id0/1.wav", "line 3 says '2', expected 1 or 0"),
        ("1 id0/0.wav nobody.wav", "line 3 names nobody.wav, which no sample is called"),
        ("1 id0/0.wav id1/8.wav", "line 3 says one class, but the labels in "),
        ("0 id0/0.wav id0/1.wav", "line 3 says two classes, but the labels in "),
    ],
)
def test_a_trial_that_cannot_be_is_named_by_its_line(line, said, listed, tmp_path):
    good = ["1 id0/0.wav id0/1.wav", "0 id0/0.wav id1/8.wav"]
    (tmp_path / "list").write_text("\n".join([*good, line]))
    with pytest.raises(UserError, match="list: ") as refused:
        judge_trials([listed / "a.npz"], TrialOptions(tmp_path / "list"))
    assert said in str(refused.value)


def test_what_trials_cannot_do_is_refused(listed, tmp_path):
    (tmp_path / "one").write_text("1 id0/0.wav id0/1.wav\n")
    with pytest.raises(UserError, match="no trial of the different class"):
        judge_trials([listed / "a.npz"], TrialOptions(tmp_path / "one"))
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UserError, match="has no trials"):
        judge_trials([listed / "a.npz"], TrialOptions(tmp_path / "empty"))
    with pytest.raises(UserError, match="has no array names"):
        judge_trials([listed / "cohort.npz"], TrialOptions(listed / "trials.txt"))
    with pytest.raises(UserError, match=r"--prior 2: expected a probability"):
        TrialOptions(listed / "trials.txt", prior=2)
    with pytest.raises(UserError, match=r"--false-accepts 0\.5: choose from 1e-1"):
        TrialOptions(listed / "trials.txt", rates=("0.5",))
    np.savez(tmp_path / "flat.npz", embeddings=np.ones((3, 2)), labels=np.arange(3))
    with pytest.raises(UserError, match=r"--cohort .*3×2, expected 2 or more of 16 dimensions"):
        judged(listed, "a", cohort=tmp_path / "flat.npz")


def test_a_command_answers_and_draws(listed, tmp_path):
    files = [str(listed / "a.npz"), str(listed / "b.npz"), "--trials", str(listed / "trials.txt")]
    command = [sys.executable, "-m", "src.evaluate", *files]
    out = tmp_path / "answer.json"
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "b.npz: accept above " in done.stdout and "b.npz is better than a.npz" in done.stdout
    kept = json.loads(out.read_text())
    assert kept["judged"] == "trial" and kept["thresholds"]["a.npz"][0]["rate"] == "1e-1"
    curve = kept["curves"]["b.npz"]
    assert all(low <= high for low, high in zip(curve["low"], curve["high"], strict=True))
    assert (tmp_path / "answer.png").stat().st_size > 10_000
    alone = subprocess.run([*command[:4], "--prior", "0.1"], capture_output=True, text=True)
    assert alone.returncode == 1 and "--prior: is of --trials" in alone.stderr


def test_few_trials_of_a_kind_have_no_calibrated_costs_and_no_nan(listed, tmp_path):
    (tmp_path / "two").write_text("1 id0/0.wav id0/1.wav\n0 id0/0.wav id1/8.wav\n")
    found = judge_trials([listed / "a.npz"], TrialOptions(tmp_path / "two"))
    assert {"eer", "min_dcf"} <= found.metrics["a.npz"].keys() and "cllr" not in found.metrics["a.npz"]
    found.save(tmp_path / "answer.json")
    draw(found, tmp_path / "answer.png")


def test_same_pairs_of_one_class_have_no_interval_for_others(listed, tmp_path):
    lines = ["1 id0/0.wav id0/1.wav", "1 id0/1.wav id0/2.wav"]
    lines += [f"0 id{a}/{a * EACH}.wav id{b}/{b * EACH}.wav" for a in range(20) for b in range(a)]
    (tmp_path / "few").write_text("\n".join(lines))
    files = [listed / "a.npz", listed / "b.npz"]
    found = judge_trials(files, TrialOptions(tmp_path / "few"))
    assert found.intervals["a.npz"]["eer"].low is None and found.differences["eer"].low is None
    assert "nan" not in sentence(found)
    found.save(tmp_path / "answer.json")


def test_trials_without_an_error_are_drawn(tmp_path):
    labels = np.repeat(np.arange(20), 5)
    names = np.array([f"{row}" for row in range(100)])
    centres = np.eye(20)[labels] + 0.001 * RNG.normal(size=(100, 20))
    np.savez(tmp_path / "p.npz", embeddings=centres, labels=labels, names=names)
    pairs = [(a, b) for a in range(100) for b in range(a)]
    lines = [f"{int(labels[a] == labels[b])} {a} {b}" for a, b in pairs]
    (tmp_path / "trials").write_text("\n".join(lines))
    found = judge_trials([tmp_path / "p.npz"], TrialOptions(tmp_path / "trials"))
    assert found.metrics["p.npz"]["eer"] == 0
    draw(found, tmp_path / "p.png")


def test_a_first_line_with_a_wrong_label_is_no_header(listed, tmp_path):
    lines = (listed / "trials.txt").read_text()
    (tmp_path / "list").write_text("targt id0/0.wav id0/1.wav\n" + lines)
    with pytest.raises(UserError, match="line 1 says 'targt'"):
        judge_trials([listed / "a.npz"], TrialOptions(tmp_path / "list"))


def test_a_cohort_needs_no_labels_but_some_spread(listed, tmp_path):
    np.save(tmp_path / "c.npy", np.load(listed / "cohort.npz")["embeddings"])
    one, two = (judged(listed, "a", cohort=c) for c in (tmp_path / "c.npy", listed / "cohort.npz"))
    assert one.metrics == two.metrics
    np.save(tmp_path / "same.npy", np.ones((5, DIMENSION)))
    with pytest.raises(UserError, match="all of it is one embedding"):
        judged(listed, "a", cohort=tmp_path / "same.npy")


def test_the_threshold_that_is_printed_is_of_the_smallest_rate(listed, capsys):
    show(judged(listed, "a", rates=("1e-2", "1e-1")))
    said = capsys.readouterr().out
    score = judged(listed, "a", rates=("1e-2",)).thresholds["a.npz"][0].score
    assert f"a.npz: accept above {score:.4f}; " in said


def test_out_neither_loses_the_answer_nor_overwrites_a_figure(listed, tmp_path):
    command = [sys.executable, "-m", "src.evaluate", str(listed / "a.npz")]
    command += ["--trials", str(listed / "trials.txt"), "--out"]
    (tmp_path / "keep.png").write_bytes(b"mine")
    for out, why in (("answer.png", "the answer is JSON"), ("keep.json", "exists already")):
        done = subprocess.run([*command, str(tmp_path / out)], capture_output=True, text=True)
        assert done.returncode == 1 and why in done.stderr
    assert (tmp_path / "keep.png").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


def test_trials_say_the_classes_of_samples_without_labels(listed, tmp_path):
    kept = dict(np.load(listed / "a.npz"))
    del kept["labels"]
    np.savez(tmp_path / "a.npz", **kept)
    (tmp_path / "trials.txt").write_bytes((listed / "trials.txt").read_bytes())
    with_labels, without = judged(listed, "a"), judged(tmp_path, "a")
    assert without.metrics == with_labels.metrics and without.classes == CLASSES
    assert without.intervals["a.npz"]["eer"].low == pytest.approx(
        with_labels.intervals["a.npz"]["eer"].low, abs=0.01
    )
    lines = ["1 id0/0.wav id0/1.wav", "1 id0/1.wav id1/8.wav", "0 id0/0.wav id1/8.wav"]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match="line 3 says two classes, but other lines together say one"):
        judged(tmp_path, "a")


def test_ijbs_own_lists_of_templates_and_trials(tmp_path):
    names = np.array([f"{row}.jpg" for row in range(12)])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5)) + 2 * np.repeat(rng.normal(size=(3, 5)), 4, 0)
    np.savez(tmp_path / "a.npz", embeddings=x, names=names)  # of images in one folder
    lines = [f"{row}.jpg {row // 2 + 1} {100 + row // 2 * 2 + (row == 1)}" for row in range(12)]
    (tmp_path / "tid_mid.txt").write_text("\n".join(lines))
    pairs = [(a, b, int((a - 1) // 2 == (b - 1) // 2)) for a in range(1, 7) for b in range(a + 1, 7)]
    (tmp_path / "pairs.txt").write_text("\n".join(f"{a} {b} {same}" for a, b, same in pairs))
    options = TrialOptions(tmp_path / "pairs.txt")
    found = judge_trials([tmp_path / "a.npz"], options, templates=tmp_path / "tid_mid.txt")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = unit.reshape(6, 2, 5).sum(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scores = np.array([means[a - 1] @ means[b - 1] for a, b, _ in pairs])
    same = np.array([kind for *_, kind in pairs], bool)
    auc = (scores[same][:, None] > scores[~same]).mean()
    assert found.metrics["a.npz"]["auc"] == pytest.approx(auc, abs=1e-6) and found.classes == 3
    (tmp_path / "tid_mid.txt").write_text("0.jpg 1")
    with pytest.raises(UserError, match="line 1 is not `name template media`"):
        judge_trials([tmp_path / "a.npz"], options, templates=tmp_path / "tid_mid.txt")


def test_a_run_is_judged_by_trials_of_images(tmp_path, folder_of):
    people = folder_of("people", people=8, images=4)
    train_run(
        check_config(config_of(*FAST, "dataset=image_folder", f"dataset.root={people}", "batch_size=8")),
        tmp_path / "run",
    )
    others = folder_of("others", people=4, images=4, first=20)
    names = sorted(path.relative_to(others).as_posix() for path in others.rglob("*.png"))
    lines = [
        f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}"
        for row, a in enumerate(names)
        for b in names[row + 1 :]
    ]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    command = [sys.executable, "-m", "src.evaluate", str(tmp_path / "run"), str(others)]
    command += ["--trials", str(tmp_path / "trials.txt"), "--out", str(tmp_path / "o.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "120 trials of 4 classes" in done.stdout and "run.npz reaches" in done.stdout
    assert json.loads((tmp_path / "o.json").read_text())["metrics"]["run.npz"]["auc"] > 0
    lines[3] = "1 nobody.png x.png"
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    done = subprocess.run([*command[:-1], str(tmp_path / "p.json")], capture_output=True, text=True)
    assert done.returncode == 1 and "line 4 names nobody.png, which no sample" in done.stderr
