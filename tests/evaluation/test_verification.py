"""Against scikit-learn, and against the LFW protocol worked out threshold by threshold."""

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from src.evaluation import PairScores, roc, sample_pairs, score_pairs, verification
from src.evaluation.verification import VERIFICATION_METRICS, fold_accuracies

RNG = np.random.default_rng(0)


def scores(positives: int, negatives: int, ties: bool = False) -> PairScores:
    cosines = np.concatenate([RNG.normal(0.5, 0.25, positives), RNG.normal(0.1, 0.25, negatives)])
    cosines = np.round(cosines, 1) if ties else cosines
    same = torch.arange(positives + negatives) < positives
    return PairScores(torch.tensor(cosines, dtype=torch.float32), same, torch.full((len(same),), -1))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("positives", "negatives"), [(500, 500), (40, 12_345), (3000, 7)])
def test_auc_eer_and_tar_are_scikit_learns(positives, negatives, ties):
    pairs = scores(positives, negatives, ties)
    far, tar, _ = roc_curve(pairs.same, pairs.cosines, drop_intermediate=False)
    metrics = verification(pairs)
    assert metrics["auc"] == pytest.approx(roc_auc_score(pairs.same, pairs.cosines), abs=1e-9)
    ours = roc(pairs.cosines, pairs.same)
    np.testing.assert_allclose(ours.far, far, atol=1e-12)
    np.testing.assert_allclose(ours.tar, tar, atol=1e-12)
    meeting = brentq(lambda f: 1 - f - interp1d(far, tar)(f), 0, 1)
    tall = np.unique(far).size != far.size  # where the curve is upright, interp1d takes one of its ends
    assert metrics["eer"] == pytest.approx(meeting, abs=0.5 / negatives + 1e-9 if tall else 1e-9)
    for name, value in metrics.items():
        if name.startswith("tar"):
            rate = float(name.removeprefix("tar_at_far_"))
            assert value == pytest.approx(tar[far <= rate + 1e-12].max())


def test_rates_that_the_negative_pairs_cannot_tell_are_left_out():
    def rates(negatives: int) -> list[str]:
        return [name.removeprefix("tar_at_far_") for name in verification(scores(50, negatives))
                if name.startswith("tar")]  # fmt: skip

    # Ten different pairs have to be accepted at a rate before it says anything.
    assert rates(99) == [] and rates(100) == ["1e-1"] and rates(9_999) == ["1e-1", "1e-2"]
    assert rates(10_000) == ["1e-1", "1e-2", "1e-3"]
    assert rates(100_000) == ["1e-1", "1e-2", "1e-3", "1e-4"]
    assert verification(scores(50, 0)) == verification(scores(0, 50)) == {}


def test_perfect_hopeless_and_reversed_scores():
    same = torch.tensor([True] * 50 + [False] * 100)
    none = torch.full((150,), -1)
    perfect = verification(PairScores(same.float(), same, none))
    assert (perfect["auc"], perfect["eer"], perfect["tar_at_far_1e-1"]) == (1, 0, 1)
    hopeless = verification(PairScores(torch.zeros(150), same, none))
    assert (hopeless["auc"], hopeless["eer"], hopeless["tar_at_far_1e-1"]) == (0.5, 0.5, 0)
    wrong = verification(PairScores(-same.float(), same, none))
    assert (wrong["auc"], wrong["eer"], wrong["tar_at_far_1e-1"]) == (0, 1, 0)


def test_ten_fold_accuracy_is_lfws_protocol():
    """Each fold is judged at a threshold that is best on the nine others (Huang et al. 2007)."""
    pairs = scores(300, 300)
    fold = torch.arange(600) % 10
    accuracies = []
    cosines, same, of = (part.numpy() for part in (pairs.cosines, pairs.same, fold))
    candidates = np.sort(cosines)
    candidates = np.concatenate([[-9], (candidates[1:] + candidates[:-1]) / 2, [9]])
    for each in range(10):
        rest = of != each
        right = [((cosines[rest] >= t) == same[rest]).mean() for t in candidates]
        best = candidates[np.isclose(right, max(right))]  # one of these is taken
        accuracies.append([((cosines[~rest] >= t) == same[~rest]).mean() for t in best])
    accuracy = verification(PairScores(pairs.cosines, pairs.same, fold))["ten_fold_accuracy"]
    low, high = (np.mean([f(values) for values in accuracies]) for f in (min, max))
    assert low - 1e-9 <= accuracy <= high + 1e-9 and 0.7 < accuracy < 0.9


def test_a_threshold_is_never_fitted_on_the_fold_that_it_judges():
    # The first fold alone is separable, at a place where all the others are wrong, and the other way.
    high, low = [0.9, 0.8], [0.2, 0.1]
    cosines = torch.tensor(high + 9 * low)
    same, fold = torch.tensor([True, False] * 10), torch.arange(20) // 2
    accuracies = fold_accuracies(cosines, same, fold)
    assert accuracies[0] == 0.5 and verification(PairScores(cosines, same, fold))[
        "ten_fold_accuracy"
    ] == pytest.approx(np.mean(accuracies))


@pytest.mark.parametrize("folds", [0, 1, 2, 9, 11])
def test_ten_fold_accuracy_needs_ten_folds(folds):
    pairs = scores(60, 60)
    fold = torch.arange(120) % folds if folds else pairs.fold
    assert "ten_fold_accuracy" not in verification(pairs._replace(fold=fold))
    assert "ten_fold_accuracy" in verification(pairs._replace(fold=torch.arange(120) % 10))


def test_pairs_in_no_fold_do_not_count_for_accuracy():
    pairs = scores(200, 200)
    fold = torch.arange(400) % 10
    some = fold.clone()
    some[::3] = -1
    inside = some >= 0
    expected = verification(PairScores(pairs.cosines[inside], pairs.same[inside], some[inside]))
    metrics = verification(PairScores(pairs.cosines, pairs.same, some))
    assert metrics["ten_fold_accuracy"] == expected["ten_fold_accuracy"]
    assert metrics["auc"] != expected["auc"]


def test_scores_are_the_cosines_of_the_pairs():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    first, second = torch.tensor([0, 3, 29]), torch.tensor([1, 3, 4])
    cosines = score_pairs(
        x, first, second, torch.tensor([True] * 3), torch.tensor([0] * 3), chunk=2
    ).cosines
    expected = torch.nn.functional.cosine_similarity(x[first].double(), x[second].double())
    torch.testing.assert_close(cosines.double(), expected, atol=1e-6, rtol=0)


LABELS = torch.tensor(RNG.permutation(np.repeat(np.arange(6), [1, 2, 3, 10, 20, 60])))


def test_all_pairs_are_each_there_once():
    first, second, same, _ = sample_pairs(LABELS, None)
    assert len({(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)}) == 96 * 95 // 2
    assert (first < second).all() and torch.equal(same, LABELS[first] == LABELS[second])


@pytest.mark.parametrize("count", [5, 100, 3000])
def test_drawn_pairs_are_as_many_of_each_kind_and_of_that_kind(count):
    first, second, same, fold = sample_pairs(LABELS, count)
    within = sum(n * (n - 1) // 2 for n in LABELS.bincount().tolist())
    assert same.sum() == min(count, within) and (~same).sum() == min(count, 96 * 95 // 2 - within)
    assert (first != second).all() and torch.equal(same, LABELS[first] == LABELS[second])
    for kind in (True, False):
        counts = fold[(same == kind) & (fold >= 0)].bincount(minlength=10)
        assert counts.min() == counts.max() == min(3000, int(same.sum()), int((~same).sum())) // 10
    again = sample_pairs(LABELS, count)
    assert all(torch.equal(a, b) for a, b in zip((first, second, same, fold), again, strict=True))


def test_pairs_are_drawn_evenly():
    """Within a class of n, each of the n(n − 1)/2 pairs is equally likely, whatever the class."""
    labels = torch.tensor([0] * 4 + [1] * 20 + [2] * 300)
    first, second, same, _ = sample_pairs(labels, 10_000)
    label = labels[first[same]]
    pairs = torch.tensor([n * (n - 1) / 2 for n in (4, 20, 300)])
    np.testing.assert_allclose(label.bincount() / len(label), pairs / pairs.sum(), atol=0.01)
    tens = (labels[first[~same]] == 1) & (labels[second[~same]] == 2)
    tens |= (labels[first[~same]] == 2) & (labels[second[~same]] == 1)
    unlike = 4 * 20 + 4 * 300 + 20 * 300
    assert tens.float().mean() == pytest.approx(20 * 300 / unlike, abs=0.01)


def test_more_pairs_than_memory_holds_are_refused():
    with pytest.raises(ValueError, match="pairs are more than memory holds"):
        sample_pairs(torch.zeros(30_000, dtype=torch.int64), None)


def test_enough_pairs_give_every_metric_in_order():
    pairs = scores(100, 100_000)
    fold = torch.arange(len(pairs.same)) % 10
    metrics = verification(PairScores(pairs.cosines, pairs.same, fold))
    assert list(metrics) == list(VERIFICATION_METRICS)
