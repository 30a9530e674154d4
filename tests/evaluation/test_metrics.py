"""Metrics: what they are, how people read them, and that every evaluation gives those it lists."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from src.evaluation import (
    EVALUATIONS,
    METRICS,
    Evaluated,
    Metric,
    closed_set,
    counts,
    evaluate,
    geometry,
    metrics_of,
    retrieval,
    sample_pairs,
    score_pairs,
    verification,
)
from src.evaluation.detection import DETECTION_METRICS
from src.evaluation.identification import IDENTIFICATION_METRICS
from src.evaluation.verification import RARE_METRICS
from src.losses import ArcFace, Softmax

# Of trials, and of searches for what may not be there.
OF_FILES = DETECTION_METRICS | IDENTIFICATION_METRICS

LOWER_IS_BETTER = {
    *("target_angle_mean", "target_angle_p05", "target_angle_p50", "target_angle_p95"),
    *("eer", "intra_angle_mean", "uniformity"),
    *("min_dcf", "actual_dcf", "cllr", *IDENTIFICATION_METRICS),
}


@pytest.fixture(scope="module")
def evaluated() -> dict[str, Evaluated]:
    """Each evaluation of samples that are plentiful enough for all of its metrics."""
    torch.manual_seed(0)
    head = ArcFace(8, 4, margin=0.3, scale=16.0)
    labels = torch.arange(600) % 4
    x = head.prototypes.detach()[labels] + 0.3 * torch.randn(600, 8)
    first, second = torch.triu_indices(600, 600, 1)
    same = labels[first] == labels[second]
    pairs = first, second, same, torch.arange(len(same)) % 10
    return {name: evaluate(name, head, x, labels, pairs) for name in EVALUATIONS}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_gives_the_metrics_that_it_lists(name, evaluated):
    names = metrics_of(name)
    rare = RARE_METRICS if name == "verification" else {}  # for which these pairs are too few
    assert {*evaluated[name].metrics, *rare} == set(names) and len(names) == len(set(names))


def test_every_metric_has_an_entry_and_is_given_by_some_evaluation():
    measured = dict.fromkeys(sum(map(metrics_of, EVALUATIONS), ()))
    assert list(METRICS) == [*measured, *OF_FILES]
    assert all(metric.name == name for name, metric in METRICS.items())


@pytest.mark.parametrize("name", [name for name in METRICS if name not in OF_FILES | RARE_METRICS])
def test_values_are_within_a_metrics_bounds(name, evaluated):
    values = [one.metrics[name] for one in evaluated.values() if name in one.metrics]
    assert values and all(METRICS[name].lowest <= value <= METRICS[name].highest for value in values)


def odd_embeddings() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Embeddings (N, 8) and labels (N,) of which some have no direction, no size or no partner."""
    x, y = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 5
    third = torch.tensor([3])
    opposite = (1.0 - 2 * (torch.arange(30) % 2))[:, None] * torch.ones(8)
    return {
        "zeros": (0 * x, y),
        "some zeros": (x * (torch.arange(30) > 9)[:, None], y),
        "one direction": (torch.ones(30, 8), y),
        "two opposite directions": (opposite, torch.arange(30) % 2),
        "a NaN": (x.index_fill(0, third, math.nan), y),
        "all NaN": (x * math.nan, y),
        "an infinity": (x.index_fill(0, third, math.inf), y),
        "huge": (x * 1e38, y),
        "lengths that overflow": (x * 1e20, y),
        "tiny": (x * 1e-30, y),
        "one class": (x, 0 * y),
        "a class each": (x[:5], y[:5]),
        "one image": (x[:1], y[:1]),
        "two images": (x[:2], y[:2]),
        "two images of a class": (x[:2], 0 * y[:2]),
        "two opposite images": (opposite[:2], y[:2]),
        "one dimension": (x * torch.eye(8)[0], y),
    }


UNMEASURABLE = ("a NaN", "all NaN", "an infinity", "huge", "lengths that overflow")


@pytest.mark.parametrize("name", odd_embeddings())
@pytest.mark.parametrize("member", [ArcFace, Softmax])
def test_no_metric_leaves_its_bounds_on_odd_embeddings(name, member):
    (x, y), head = odd_embeddings()[name], member(8, 5)
    pairs = sample_pairs(y, None)
    for prototypes in (1, 0):
        head.weight.data.mul_(prototypes)
        for metrics in (
            closed_set(head, x, y).metrics,
            geometry(x, y, head.prototypes),
            retrieval(x, y).metrics,
            verification(score_pairs(x, *pairs)),
            *(evaluate(each, head, x, y, pairs).metrics for each in EVALUATIONS),
        ):
            assert not (metrics and name in UNMEASURABLE)
            for metric, value in metrics.items():
                assert METRICS[metric].lowest <= value <= METRICS[metric].highest, metric
            assert metrics.get("effective_dimension", 0) <= 8


def test_embeddings_of_length_zero_count_as_one_direction():
    zeros, labels = torch.zeros(30, 8), torch.arange(30) % 5
    assert set(geometry(zeros, labels).values()) == {0.0}
    for name in EVALUATIONS:  # nothing to judge is no score
        pairs = sample_pairs(labels[:0], None)
        assert evaluate(name, ArcFace(8, 5), zeros[:0], labels[:0], pairs).metrics == {}


def test_rounding_alone_is_put_back_onto_a_bound():
    angle = METRICS["inter_angle_min"]
    assert angle.within_bounds(math.pi + 1e-7) == math.pi and angle.within_bounds(-1e-7) == 0
    assert angle.within_bounds(1.5) == 1.5 and METRICS["uniformity"].within_bounds(-75.8) == -75.8


@pytest.mark.parametrize("name", METRICS)
def test_an_angle_is_called_one_and_the_direction_is_the_metrics(name):
    metric = METRICS[name]
    assert (metric.unit == "angle") == ("_angle_" in name)
    assert metric.higher_is_better == (name not in LOWER_IS_BETTER)
    bounds = {"share": (0, 1), "angle": (0, math.pi)}
    if metric.unit in bounds:
        assert (metric.lowest, metric.highest) == bounds[metric.unit]


def test_uniformity_and_effective_dimension_are_plain_numbers_with_bounds_of_their_own():
    uniformity, dimension = METRICS["uniformity"], METRICS["effective_dimension"]
    assert uniformity.unit == dimension.unit == "number"
    assert (uniformity.lowest, uniformity.highest) == (-8, 0)
    assert (dimension.lowest, dimension.highest) == (0, math.inf)


def test_two_opposite_samples_reach_the_lowest_uniformity():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    lowest = METRICS["uniformity"].lowest
    assert geometry(x, torch.arange(2))["uniformity"] == pytest.approx(lowest, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "value", "alone", "difference"),
    [
        ("accuracy", 0.97654, "97.7%", "+97.7 points"),
        ("accuracy", -0.012, "-1.2%", "-1.2 points"),
        ("eer", 0.0, "0.0%", "+0.0 points"),
        ("auc", 1.0, "100.0%", "+100.0 points"),
        ("target_angle_mean", 0.2147, "12.3°", "+12.3°"),
        ("inter_angle_min", -math.pi, "-180.0°", "-180.0°"),
        ("prototype_separation", 0.5, "50.0%", "+50.0 points"),
        ("uniformity", -2.3456, "-2.35", "-2.35"),
        ("effective_dimension", 0.534, "0.53", "+0.53"),
    ],
)
def test_values_and_differences_are_written_in_the_unit_that_people_read(name, value, alone, difference):
    assert METRICS[name].format(value) == alone
    assert METRICS[name].format(value, signed=True) == difference


@pytest.mark.parametrize(
    ("name", "label", "factor", "tick"),
    [
        ("worst_recall", "worst recall (%)", 100, "12.5%"),
        ("tar_at_far_1e-3", "TAR@FAR=1e-3 (%)", 100, "12.5%"),
        ("target_angle_p05", "target angle p05 (degrees)", 57.29577951308232, "12.5°"),
        ("effective_dimension", "effective dimension", 1, "12.5"),
    ],
)
def test_axes_name_the_unit_and_values_are_scaled_to_it(name, label, factor, tick):
    metric = METRICS[name]
    assert (metric.axis_label, metric.display_factor) == (label, factor)
    assert metric.tick_format.format(x=12.5) == tick


def test_intervals_are_cut_to_what_is_possible():
    assert METRICS["accuracy"].clip(-0.1, 1.2) == (0, 1)
    assert METRICS["accuracy"].clip(0.4, 0.6) == (0.4, 0.6)
    assert METRICS["target_angle_mean"].clip(-0.1, 1.2) == (0, 1.2)
    assert METRICS["effective_dimension"].clip(-1, 600) == (0, 600)
    assert METRICS["uniformity"].clip(-3.5, -1.5) == (-3.5, -1.5)


def test_a_metric_is_not_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        METRICS["accuracy"].unit = "angle"
    assert Metric.share("x") == Metric("x", "share", True, 0.0, 1.0)


def test_an_unknown_evaluation_and_missing_pairs_are_refused():
    head, x, labels = ArcFace(2, 2, margin=0.3, scale=16.0), torch.randn(4, 2), torch.arange(4) % 2
    with pytest.raises(ValueError, match="'open': choose one of closed_set, open_set, verification"):
        evaluate("open", head, x, labels)
    with pytest.raises(ValueError, match="'open_set' needs pairs"):
        evaluate("open_set", head, x, labels)


def test_a_metrics_resolution_is_what_one_sample_more_or_less_changes():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])  # the last is no query
    first, second = torch.triu_indices(6, 6, 1)
    found = counts(labels, (first, second, labels[first] == labels[second], torch.full((15,), -1)))
    assert found == {
        "images": 6,
        "classes": 3,
        "smallest_class": 1,
        "queries": 5,
        "same_pairs": 4,
        "different_pairs": 11,
        "folded_pairs": 0,
    }
    steps = {name: METRICS[name].resolution(found) for name in METRICS}
    assert steps["accuracy"] == 1 / 6 and steps["recall_at_1"] == steps["map_at_r"] == 1 / 5
    assert steps["auc"] == steps["eer"] == steps["tar_at_far_1e-1"] == 1 / 4
    assert steps["ten_fold_accuracy"] is None and steps["target_angle_mean"] is None
    assert METRICS["accuracy"].resolution({}) is None


def test_one_wrong_query_moves_recall_by_its_resolution():
    x = torch.eye(4).repeat_interleave(2, 0)
    labels = torch.arange(8) // 2
    whole = retrieval(x, labels).metrics["recall_at_1"]
    worse = x.clone()
    worse[0] = torch.tensor([0.8, 1.0, 0, 0])  # nearer to another class; its own still finds it
    step = METRICS["recall_at_1"].resolution(counts(labels))
    assert whole - retrieval(worse, labels).metrics["recall_at_1"] == pytest.approx(step)


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_embeddings_that_are_no_numbers_get_no_score(name, bad):
    labels = torch.arange(40) % 4
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    pairs, head = sample_pairs(labels, 200), ArcFace(3, 4, margin=0.5, scale=64.0)
    assert evaluate(name, head, x, labels, pairs).metrics
    x[7, 1] = bad
    assert evaluate(name, head, x, labels, pairs).metrics == {}
