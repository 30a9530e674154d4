"""The figures that each evaluation has, and which samples they show."""

import numpy as np
import pytest
import torch

from src.datasets.splits import Split
from src.evaluation import evaluate, sample_pairs
from src.evaluation.results import Results
from src.losses import ArcFace
from src.plots import evaluation_figures


def split_of(classes: int, samples: int = 200, shape=(1, 8, 8)) -> Split:
    labels = torch.arange(samples) % classes
    images = torch.arange(samples, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *shape).clone()
    names = tuple(f"alphabet{label % 2}/{label:02d}" for label in range(classes))
    return Split(images, labels, [0.0] * shape[0], [1.0] * shape[0], names)


def figures_of(name: str, split: Split, spread: float = 0.5):
    torch.manual_seed(0)
    classes = len(split.classes)
    head = ArcFace(8, classes, margin=0.3, scale=16.0)
    x = torch.randn(classes, 8)[split.labels] + spread * torch.randn(len(split), 8)
    evaluated = evaluate(name, head, x, split.labels, sample_pairs(split.labels, 1000))
    results = Results.of(evaluated, x.numpy(), split, head)
    figures = evaluation_figures(name, results, evaluated.metrics, "title")
    return {name.removesuffix(".png"): figure() for name, figure in figures.items()}


def legend_texts(fig) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("closed_set", {"embedding", "angles", "confusion"}),
        ("open_set", {"embedding", "neighbours", "pairs", "roc"}),
        ("verification", {"pairs", "roc"}),
    ],
)
def test_each_evaluation_has_its_figures(name, expected):
    assert set(figures_of(name, split_of(5))) == expected


def test_a_closed_set_shows_prototypes_and_an_open_set_class_means():
    assert legend_texts(figures_of("closed_set", split_of(5))["embedding"])[-1] == "prototype"
    assert legend_texts(figures_of("open_set", split_of(5))["embedding"])[-1] == "class mean"


def test_ten_classes_of_a_large_open_set_are_shown_by_their_last_names():
    fig = figures_of("open_set", split_of(40))["embedding"]
    assert fig.get_suptitle() == "title: 10 of 40 test classes"
    assert legend_texts(fig)[:-1] == [f"{label:02d}" for label in np.linspace(0, 39, 10).astype(int)]


def test_without_two_samples_of_a_class_there_are_no_neighbours_or_pairs():
    assert set(figures_of("open_set", split_of(12, 12))) == {"embedding"}


@pytest.mark.parametrize(
    ("spread", "subtitle"),
    [(1.5, "4 queries that went right, 4 that did not"), (0.0, "4 queries that went right")],
)
def test_half_of_the_queries_went_wrong_if_any_did(spread, subtitle):
    fig = figures_of("open_set", split_of(5), spread)["neighbours"]
    assert fig.get_suptitle().splitlines()[1] == f"{subtitle}; blue: relevant"
    rows = 8 if "did not" in subtitle else 4
    assert len(fig.axes) == rows * 9


def test_queries_that_went_right_come_first():
    split = split_of(5)
    fig = figures_of("open_set", split, spread=1.5)["neighbours"]
    shown = [int(axes.images[0].get_array()[0, 0]) for axes in fig.axes]  # each image is its row
    right = [
        split.labels[query] == split.labels[nearest] for query, nearest, *_ in np.reshape(shown, (-1, 9))
    ]
    assert right == [True] * 4 + [False] * 4


def test_a_query_stands_beside_its_own_neighbours():
    split = split_of(5)
    fig = figures_of("open_set", split, spread=0.0)["neighbours"]
    shown = [int(axes.images[0].get_array()[0, 0]) for axes in fig.axes]  # each image is its row
    for query, *neighbours in np.reshape(shown, (-1, 9)):
        assert query not in neighbours
        assert {int(split.labels[row]) for row in neighbours} == {int(split.labels[query])}
