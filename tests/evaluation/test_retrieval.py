"""Against a full matrix in float64, and against pytorch-metric-learning's definitions."""

import numpy as np
import pytest
import torch

from src.datasets.splits import Queries
from src.evaluation import Search, retrieval
from src.evaluation.identification import probes_of
from src.evaluation.retrieval import BLOCK, RANKS, RETRIEVAL_METRICS, groups_of, top_columns

RNG = np.random.default_rng(0)


def clusters(sizes, dimension=6, spread=0.8):
    labels = RNG.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = RNG.normal(size=(len(sizes), dimension))
    x = centres[labels] + spread * RNG.normal(size=(len(labels), dimension))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(labels)


def by_hand(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """Each definition in words, one query after the other, in float64."""
    x, y = x.double().numpy(), y.numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = {name: [] for name in RETRIEVAL_METRICS}
    for query in range(len(x)):
        cosines = x @ x[query]
        order = [i for i in np.argsort(-cosines) if i != query]
        right = [y[i] == y[query] for i in order]
        r = sum(right)
        if r == 0:
            continue
        for k in RANKS:
            values[f"recall_at_{k}"].append(any(right[:k]))
        values["r_precision"].append(sum(right[:r]) / r)
        values["map_at_r"].append(sum(sum(right[: i + 1]) / (i + 1) for i in range(r) if right[i]) / r)
    return {name: float(np.mean(each)) for name, each in values.items()}


@pytest.mark.parametrize("sizes", [[20] * 10, [1, 2, 3, 5, 40], [2, 2], [15, 1, 1, 1]])
@pytest.mark.parametrize("tile", [1, 1000, 2**26])
def test_numbers_are_those_of_the_definitions(sizes, tile):
    x, y = clusters(sizes)
    assert retrieval(x, y, tile=tile).metrics == pytest.approx(by_hand(x, y), abs=1e-6)


def test_r_precision_and_map_at_r_are_pytorch_metric_learnings():
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    x, y = clusters([12, 7, 30, 3, 9])
    theirs = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    ).get_accuracy(x, y)
    ours = retrieval(x, y).metrics
    assert ours["recall_at_1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["map_at_r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)
    assert 0.2 < ours["map_at_r"] < 0.9


def test_neighbours_are_the_nearest_in_order_and_never_the_query():
    x, y = clusters([20] * 5)
    nearest = retrieval(x, y).nearest
    assert nearest.shape == (100, 10) and (nearest != torch.arange(100)[:, None]).all()
    unit = torch.nn.functional.normalize(x.double())
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    np.testing.assert_allclose(cosines.gather(1, nearest), cosines.topk(10).values, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_top_columns_are_those_of_a_full_sort(k):
    values = torch.randn(20, BLOCK * 30, generator=torch.Generator().manual_seed(0))
    values[:, 100 : 100 + BLOCK] += 3  # several in one block
    columns = top_columns(values, k)
    assert torch.equal(values.gather(1, columns), values.topk(k).values)


def test_a_sample_alone_in_its_class_is_searched_but_is_no_query():
    # It lies between the two samples of class 0, and is the nearest to both.
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    metrics = retrieval(x, torch.tensor([0, 0, 1])).metrics
    assert metrics["recall_at_1"] == 0 and metrics["recall_at_5"] == 1 and metrics["map_at_r"] == 0


def test_without_two_samples_of_a_class_there_are_no_metrics():
    assert retrieval(torch.eye(3), torch.arange(3)).metrics == {}


def searched_by_hand(x, y, roles, cameras, ranks, map_at) -> dict[str, float]:
    """Queries search a gallery; what is of a query's class and camera is not there for it."""
    x, y = x.double().numpy(), y.numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = {f"recall_at_{k}": [] for k in ranks} | {"map_at_r": [], f"map_at_{map_at}": []}
    for query in np.flatnonzero(roles != "gallery"):
        cosines = x @ x[query]
        order = [
            i
            for i in np.argsort(-cosines)
            if i != query and roles[i] != "query"
            if not (y[i] == y[query] and cameras[i] == cameras[query])
        ]
        right = np.array([y[i] == y[query] for i in order])
        if not right.any():
            continue
        for k in ranks:
            values[f"recall_at_{k}"].append(right[:k].any())
        precision = right.cumsum() / np.arange(1, len(right) + 1)
        r = right.sum()
        values["map_at_r"].append((precision * right)[:r].sum() / r)
        values[f"map_at_{map_at}"].append((precision * right)[:map_at].sum() / min(r, map_at))
    return {name: float(np.mean(each)) for name, each in values.items()}


@pytest.mark.parametrize("map_at", [4, 1000])
@pytest.mark.parametrize("tile", [1, 2**26])
def test_queries_by_cameras_search_a_gallery_as_in_words(map_at, tile):
    x, y = clusters([9, 14, 3, 5, 20, 1, 1])
    roles = RNG.choice(["query", "gallery", "both"], len(x), p=[0.3, 0.6, 0.1])
    cameras = RNG.choice(["1", "2", "3"], len(x))
    ranks = (1, 3, 20)
    found = retrieval(x, y, Search(Queries(roles, cameras), ranks, map_at), tile).metrics
    expected = searched_by_hand(x, y, roles, cameras, ranks, map_at)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    without = retrieval(x, y, Search(Queries(roles), ranks, map_at), tile).metrics
    alike = searched_by_hand(x, y, roles, np.arange(len(x)), ranks, map_at)
    assert {name: without[name] for name in alike} == pytest.approx(alike, abs=1e-6)
    assert found["map_at_r"] != without["map_at_r"]


def test_what_does_not_count_for_a_query_is_not_among_its_neighbours():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    search = Search(
        Queries(np.array(["query", "gallery", "gallery", "gallery"]), np.array([1, 1, 1, 2]))
    )
    nearest = retrieval(x, torch.tensor([0, 0, 1, 0]), search).nearest[0].tolist()
    assert sorted(nearest[:2]) == [2, 3] and nearest[2:] == [-1]


def test_average_precision_of_a_whole_ranking_is_scikit_learns():
    from sklearn.metrics import average_precision_score

    x, y = clusters([9, 14, 3, 5])
    unit = torch.nn.functional.normalize(x.double())
    theirs = []
    for query in range(len(x)):
        others = torch.arange(len(x)) != query
        theirs.append(average_precision_score(y[others] == y[query], (unit @ unit[query])[others]))
    found = retrieval(x, y, Search(map_at=len(x))).metrics[f"map_at_{len(x)}"]
    assert found == pytest.approx(np.mean(theirs), abs=1e-6)


@pytest.mark.parametrize("roles", [False, True])
def test_metrics_without_a_group_of_classes_are_those_of_a_search_without_them(roles):
    x, y = clusters(RNG.integers(2, 12, 70))
    given = [RNG.choice(["query", "gallery", "both"], len(x)), RNG.choice(5, len(x))]
    queries = Queries(*given) if roles else None
    search = Search(queries, (1, 3, 10), 7, left_out=True)
    found = retrieval(x, y, search)
    group, count = groups_of(y, search)
    assert count == 40 and {len(values) for values in found.left_out.values()} == {40}
    assert all(len(group[y == label].unique()) == 1 for label in y.unique())
    for left_out in range(count):
        stay = group != left_out
        kept = Search(queries and queries.pick(stay.numpy()), (1, 3, 10), 7)
        alone = retrieval(x[stay], y[stay], kept).metrics
        ours = {name: values[left_out] for name, values in found.left_out.items()}
        assert ours == pytest.approx(alone, abs=1e-6)


def test_every_group_of_classes_that_is_left_out_has_queries():
    """Three classes ask, of forty."""
    y = torch.arange(40).repeat_interleave(3)
    roles = np.where((y.numpy() < 3) & (np.arange(120) % 3 == 0), "query", "gallery")
    search = Search(Queries(roles), left_out=True)
    group, count = groups_of(y, search)
    assert count == 3 and sorted(group[roles == "query"].tolist()) == [0, 1, 2]
    assert all(len(group[y == label].unique()) == 1 for label in range(40))
    assert group.unique().tolist() == [0, 1, 2]


def test_queries_with_nothing_to_compare_with_are_no_probes():
    """The whole gallery is of their class and camera, but one enrolled query's camera is another."""
    y, roles = torch.zeros(131, dtype=torch.int64), np.array(["gallery"] * 10 + ["query"] * 121)
    search = Search(Queries(roles, np.array([1] * 130 + [2])))
    found = retrieval(torch.randn(131, 4), y, search)
    assert found.metrics and int(found.cosine.isneginf().sum()) == 120
    assert probes_of(found, y, search) is None
