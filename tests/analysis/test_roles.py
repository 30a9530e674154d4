"""Queries, a gallery, probes of nobody in it, and templates: against loops that are written out here."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from src.analysis.encoder_files import pooled, read
from src.analysis.judge import judge
from src.analysis.trials import TrialOptions, judge_trials
from src.datasets.splits import Queries
from src.errors import UserError
from src.evaluation import Search, retrieval

RNG = np.random.default_rng(0)
CLASSES, EACH, DIMENSION = 50, 8, 12


@pytest.fixture
def written(tmp_path):
    """written(role=…) writes two files of embeddings, the second's better, with these arrays too."""
    labels = np.repeat(np.arange(CLASSES), EACH)
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLASSES, DIMENSION))[labels]
    noise = rng.normal(size=centres.shape)
    names = np.array([f"{label}_{row % EACH}" for row, label in enumerate(labels)])

    def write(**arrays):
        paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
        for path, level in zip(paths, (1.2, 0.8), strict=True):
            kept = {"embeddings": centres + level * noise, "labels": labels, "names": names}
            np.savez(path, **kept, **arrays)
        return paths

    return write


def some_roles() -> np.ndarray:
    """A gallery of three samples of classes 0 to 29; one is a query as well. Other classes only ask."""
    places = np.arange(CLASSES * EACH) % EACH
    roles = np.where(places < 3, "gallery", "query")
    roles[places == 2] = "both"
    roles[np.repeat(np.arange(CLASSES), EACH) >= 30] = "query"
    return roles


def by_hand(x, labels, roles, ranks, most):
    """Metrics of each query, one at a time, and (cosine, enrolled, right) of each."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    asked = np.flatnonzero(np.isin(roles, ("query", "both")))
    pool = np.flatnonzero(np.isin(roles, ("gallery", "both")))
    rows, probes = [], []
    for query in asked:
        others = pool[pool != query]
        order = others[np.argsort(-(x[others] @ x[query]), kind="stable")]
        hits = labels[order] == labels[query]
        r = int(hits.sum())
        probes.append((x[order[0]] @ x[query], r > 0, bool(hits[0])))
        if not r:
            continue
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        row = [float(hits[:k].any()) for k in ranks]
        row += [hits[:r].mean(), (precision * hits)[:r].sum() / r]
        row.append((precision * hits)[:most].sum() / min(r, most))
        rows.append(row)
    return np.mean(rows, 0), np.array(probes)


def test_queries_search_the_gallery_without_themselves(written):
    roles = some_roles()
    paths = written(role=roles)
    kept = np.load(paths[0])
    ranks = (1, 20, 1000)
    expected, _ = by_hand(kept["embeddings"], kept["labels"], roles, ranks, 4)
    found = judge(paths[:1], ranks=ranks, map_at=4).metrics["a.npz"]
    names = ["recall_at_1", "recall_at_20", "recall_at_1000", "r_precision", "map_at_r", "map_at_4"]
    assert [found[name] for name in names] == pytest.approx(expected, abs=1e-6)
    assert "auc" not in found


def test_identification_counts_probes_one_by_one(written):
    roles = some_roles()
    paths = written(role=roles)
    kept = np.load(paths[0])
    _, probes = by_hand(kept["embeddings"], kept["labels"], roles, (1,), 1)
    cosine, enrolled, right = probes[:, 0], probes[:, 1] > 0, probes[:, 2] > 0
    judged = judge(paths[:1])
    assert [one.rate for one in judged.thresholds["a.npz"]] == ["1e-1"]  # 160 probes allow ten at 10%
    for one in judged.thresholds["a.npz"]:
        passing = (cosine[~enrolled] > one.score).mean()
        assert one.far == pytest.approx(passing, abs=1e-9) and passing <= float(one.rate)
        missed = 1 - ((cosine > one.score) & right)[enrolled].mean()
        assert judged.metrics["a.npz"][f"fnir_at_fpir_{one.rate}"] == pytest.approx(missed, abs=1e-9)
        assert one.tar == pytest.approx(1 - missed, abs=1e-9) and one.far_elsewhere > one.far
        at = [t for t in cosine[~enrolled] if (cosine[~enrolled] > t).mean() <= float(one.rate)]
        assert one.score == pytest.approx(min(at), abs=1e-6)


def test_two_encoders_are_compared_by_roles_with_intervals(written):
    found = judge(written(role=some_roles()))
    for metric, sign in (("map_at_r", 1), ("fnir_at_fpir_1e-1", -1)):
        gap = found.differences[metric]
        assert gap.low is not None and sign * gap.estimate > 0 and gap.low < gap.estimate < gap.high
    assert set(found.curves) == {"a.npz", "b.npz"}


def test_roles_that_all_have_change_nothing(written):
    with_roles = judge(written(role=np.full(CLASSES * EACH, "both"))[:1]).metrics["a.npz"]
    without = judge(written()[:1]).metrics["a.npz"]
    assert all(without[name] == pytest.approx(value, abs=1e-7) for name, value in with_roles.items())
    x, y = torch.randn(40, 6), torch.arange(40) % 5
    assert retrieval(x, y).metrics == retrieval(x, y, Search(Queries(np.full(40, "both")))).metrics


def table_of(path, rows, header="name,template,media"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_templates_are_means_over_media_of_means_over_samples(written, tmp_path):
    path = written()[0]
    kept = np.load(path)
    rows = ["0_0,t0,m0", "0_1,t0,m0", "0_2,t0,m1", "1_0,t1,m0", "0_3,t2,m0", "0_4,t2,m5"]
    given = pooled(path, read(path, None), table_of(tmp_path / "t.csv", rows))
    x = kept["embeddings"] / np.linalg.norm(kept["embeddings"], axis=1, keepdims=True)
    assert given.names.tolist() == ["t0", "t1", "t2"] and given.labels.tolist() == ["0", "1", "0"]
    expected = [((x[0] + x[1]) / 2 + x[2]) / 2, x[EACH], (x[3] + x[4]) / 2]
    np.testing.assert_allclose(given.features, expected, rtol=1e-5, atol=1e-6)
    weighted = table_of(tmp_path / "w.csv", ["0_0,t0,1", "0_1,t0,3", "1_0,t1,2"], "name,template,weight")
    given = pooled(path, read(path, None), weighted)
    np.testing.assert_allclose(given.features[0], (x[0] + 3 * x[1]) / 2, rtol=1e-5, atol=1e-6)


def test_templates_are_judged_and_named_by_trials(written, tmp_path):
    paths = written()
    rows = [f"{c}_{i},{c}-{i // 2}," for c in range(CLASSES) for i in range(EACH)]
    file = table_of(tmp_path / "t.csv", [row + "m" for row in rows])
    found = judge(paths, templates=file)
    assert found.samples == CLASSES * EACH // 2
    assert found.metrics["a.npz"]["map_at_r"] > judge(paths).metrics["a.npz"]["map_at_r"]
    names = [f"{c}-{k}" for c in range(CLASSES) for k in range(4)]
    lines = [f"{int(a[:2] == b[:2])} {a} {b}" for a in names[::3] for b in names[1::3]]
    lines = [f"{int(a.split('-')[0] == b.split('-')[0])} {a} {b}" for _, a, b in map(str.split, lines)]
    (tmp_path / "trials").write_text("\n".join(lines))
    judged = judge_trials(paths, TrialOptions(tmp_path / "trials"), templates=file)
    assert judged.differences["eer"].estimate < 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["nobody,t,m"], "line 2 names nobody, which no sample is called"),
        (["0_0,t,m", "1_0,t,m"], "line 3: template t has samples of 0 and of 1"),
        (["0_0,,m"], "line 2 has no template"),
    ],
)
def test_a_table_of_templates_that_cannot_be_is_refused_by_its_line(rows, said, written, tmp_path):
    with pytest.raises(UserError) as refused:
        judge(written(), templates=table_of(tmp_path / "t.csv", rows))
    assert said in str(refused.value)


def test_roles_that_cannot_be_are_refused(written):
    odd = some_roles()
    odd[7] = "probe"
    with pytest.raises(UserError, match=r"a\.npz: row 7: role 'probe', expected one of query, gallery"):
        judge(written(role=odd))
    with pytest.raises(UserError, match=r"a\.npz: no sample is in the gallery"):
        judge(written(role=np.full(CLASSES * EACH, "query")))
    apart = np.where(np.repeat(np.arange(CLASSES), EACH) < 25, "gallery", "query")
    with pytest.raises(UserError, match="no query has a relevant sample in the gallery"):
        judge(written(role=apart))


def test_a_command_takes_ranks_roles_and_templates(written, tmp_path):
    paths = [str(path) for path in written(role=some_roles())]
    command = [sys.executable, "-m", "src.evaluate"]

    def typed(*words):
        return subprocess.run([*command, *words], capture_output=True, text=True)

    done = typed(*paths, "--ranks", "1,100", "--map-at", "10", "--out", str(tmp_path / "o.json"))
    assert done.returncode == 0, done.stderr
    for text in ("Recall@100", "mAP@10", "FNIR@FPIR=1e-1", "probes of nobody in the gallery pass"):
        assert text in done.stdout
    assert (tmp_path / "o.png").exists()
    assert "--ranks 0: expected whole numbers from 1" in typed(paths[0], "--ranks", "0").stderr


def test_a_query_that_is_in_the_gallery_does_not_shorten_the_others_lists():
    """Three in the gallery, one of which asks as well: the others' third neighbours count."""
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.05]])
    y = torch.tensor([0, 0, 1, 1])
    found = retrieval(
        x, y, Search(Queries(np.array(["both", "gallery", "gallery", "query"])), ranks=(1, 3))
    )
    assert found.metrics["recall_at_3"] == 1.0 and found.metrics["recall_at_1"] == 0.5
    alone = retrieval(x, y, Search(Queries(np.array(["both", "query", "query", "query"]))))
    assert alone.metrics["recall_at_1"] == 1.0  # of sample 1; sample 0 has nobody to find
    assert alone.per_query[0].isnan().all()


def test_names_that_are_there_twice_are_refused_where_they_matter(written, tmp_path):
    paths = written()
    kept = dict(np.load(paths[0]))
    kept["names"][1] = kept["names"][0]
    np.savez(paths[0], **kept)
    with pytest.raises(UserError, match="what belongs together is not known"):
        judge(paths)
    with pytest.raises(UserError, match="0_0 is the name of 2 samples"):
        judge(paths[:1], templates=table_of(tmp_path / "t.csv", ["0_0,t,m"]))


def test_a_rank_of_average_precision_is_a_number_from_1(written):
    command = [sys.executable, "-m", "src.evaluate", str(written()[0]), "--map-at", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "--map-at 0: expected a whole number from 1" in done.stderr


def test_cameras_count_in_judged_embeddings_as_in_a_search(written):
    roles, cameras = some_roles(), np.arange(CLASSES * EACH) % 3
    path = written(role=roles, camera=cameras)[0]
    kept = dict(np.load(path))
    x, y = torch.from_numpy(kept["embeddings"]).float(), torch.from_numpy(kept["labels"])
    expected = retrieval(x, y, Search(Queries(roles, cameras))).metrics
    found = judge([path]).metrics["a.npz"]
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert expected["map_at_r"] != retrieval(x, y, Search(Queries(roles))).metrics["map_at_r"]
    with pytest.raises(UserError, match=r"b\.npz: has no cameras, the other file has"):
        files = written(role=roles)
        np.savez(path, **kept)
        judge(files)


def test_lists_of_what_is_relevant_count_in_judged_embeddings_as_in_a_search(written):
    rng, roles = np.random.default_rng(3), some_roles()
    queries, gallery = np.flatnonzero(roles == "query"), np.flatnonzero(roles != "query")
    relevant = np.stack([rng.choice(queries, 3000), rng.choice(gallery, 3000)], 1)
    relevant = relevant[relevant[:, 0] != queries[0]]  # one of which nothing is there
    path = written(role=roles, relevant=relevant)[0]
    kept = np.load(path)
    x = kept["embeddings"] / np.linalg.norm(kept["embeddings"], axis=1, keepdims=True)
    found = judge([path], map_at=7).metrics["a.npz"]
    first = []
    for query in set(relevant[:, 0].tolist()):
        answers = set(relevant[relevant[:, 0] == query, 1].tolist())
        nearest = gallery[np.argsort(-x[gallery] @ x[query])]
        first.append(nearest[0] in answers)
    assert found["recall_at_1"] == pytest.approx(np.mean(first)) and 0 < np.mean(first) < 1
    lists = Search(Queries(roles, relevant=relevant), map_at=7)
    expected = retrieval(torch.from_numpy(x).float(), torch.from_numpy(kept["labels"]), lists).metrics
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"relevant": np.array([1, 2])}, r"relevant is int64 \(2,\), expected rows \(P, 2\)"),
        (
            {"relevant": np.array([[0, 1], [2, 999]])},
            r"relevant\[1\] is \[2, 999\], expected rows from 0",
        ),
        (
            {"relevant": np.array([[0, 1]]), "role": None},
            "lists samples that are relevant, and has no roles",
        ),
    ],
)
def test_lists_of_what_is_not_there_are_refused(arrays, said, written):
    given = {"role": some_roles(), **arrays}
    path = written(**{name: values for name, values in given.items() if values is not None})[0]
    with pytest.raises(UserError, match=said):
        judge([path])


def test_lists_are_of_samples_and_not_of_templates(written, tmp_path):
    path = written(role=some_roles(), relevant=np.array([[0, 2]]))[0]
    with pytest.raises(UserError, match="leave out --templates"):
        judge([path], templates=table_of(tmp_path / "t.csv", ["0_0,t,m"]))


def test_two_files_that_list_different_answers_are_refused(written):
    roles = some_roles()
    lists = np.array([[3, 0], [4, 1], [9, 6], [10, 7]])
    paths = written(role=roles, relevant=lists)
    kept = dict(np.load(paths[1]))
    judge(paths)
    np.savez(paths[1], **kept | {"relevant": lists[:3]})
    with pytest.raises(UserError, match="list different samples as relevant"):
        judge(paths)
