"""Runs whose test set has queries and a gallery."""

import csv

import numpy as np
import pytest
from PIL import Image

from src.analysis import compare_sweeps
from src.analysis.judge import judge
from src.config import BadKey
from src.datasets import load, manifest
from src.errors import UserError
from src.evaluate import print_evaluation
from src.evaluation import Search, retrieval
from src.run.build import check_config
from src.run.embedding import embedded, write_embeddings
from src.run.evaluation import evaluate_run, with_overrides
from src.run.lifecycle import train_run
from src.run.load import load_trained
from tests.conftest import FAST, config_of, summary_of

CLASSES, EACH = 30, 6  # of which the last twelve are tested
FIRST_TESTED = 18


@pytest.fixture
def features(tmp_path):
    """features(roles): overrides of a file of features, whose test samples have these roles."""

    def write(roles=None, seed=0):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(CLASSES), EACH)
        tested = labels >= FIRST_TESTED
        arrays = {
            "features": rng.normal(size=(CLASSES, 8))[labels] + 2 * rng.normal(size=(len(labels), 8)),
            "labels": labels,
            "splits": np.where(tested, "test", np.where(labels < 12, "train", "val")),
        }
        usual = np.where(np.arange(len(labels)) % EACH < 2, "query", "gallery")
        arrays["roles"] = np.where(tested, usual if roles is None else roles, "")
        np.savez(tmp_path / "features.npz", **arrays)
        data = ("dataset=embeddings", f"dataset.root={tmp_path}", "dataset.file=features.npz")
        return (*FAST, *data, "batch_size=16", "evaluation.pairs=200")

    return write


def test_queries_search_the_gallery_by_the_ranks_that_were_asked_for(features, tmp_path, capsys):
    asked = ("evaluation.ranks=[1,3,100]", "evaluation.map_at=4", "objective=recall_at_3")
    given = features()
    for loss in ("arcface", "softmax"):
        for seed in range(3):
            config = check_config(config_of(*given, *asked, f"loss={loss}", f"seed={seed}"))
            train_run(config, tmp_path / "sweep" / f"{loss}-{seed}")
    run = load_trained(tmp_path / "sweep" / "arcface-0")
    found = summary_of(run.folder)
    test = run.data(run.config).test
    x = run.embed(test)
    expected = retrieval(x, test.labels, Search(test.queries, (1, 3, 100), 4)).metrics
    assert expected["recall_at_100"] == 1 and "recall_at_5" not in found["metrics"]
    for name, value in expected.items():
        assert found["metrics"][name] == pytest.approx(value, abs=1e-6)
    assert found["counts"]["test"]["queries"] == 2 * 12
    assert "recall_at_3" in found["validation"]
    write_embeddings(tmp_path / "e.npz", embedded(run, {"test": test}))
    judged = judge([tmp_path / "e.npz"], ranks=(1, 3, 100), map_at=4).metrics["e.npz"]
    assert {name: judged[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    again = evaluate_run(run, with_overrides(run, [])).result.metrics
    assert again == pytest.approx(found["metrics"], abs=1e-5)

    comparison = compare_sweeps([tmp_path / "sweep"])
    gap = comparison.facts.which_loss.differences[0]
    assert comparison.metric == "recall_at_3" and gap.classes_low is not None
    with open(tmp_path / "sweep" / "comparison" / "results.csv") as file:
        assert {"recall_at_100", "map_at_4"} <= set(next(csv.reader(file)))
    assert "Recall@3" in capsys.readouterr().out


def test_a_run_says_how_often_nobody_is_taken_for_somebody(features, tmp_path, capsys):
    """Of half of the tested classes nobody is in the gallery."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(80), EACH)
    tested, enrolled = labels >= 20, labels < 50
    roles = np.where(enrolled & (np.arange(len(labels)) % EACH < 2), "gallery", "query")
    np.savez(
        tmp_path / "many.npz",
        features=rng.normal(size=(80, 8))[labels] + 0.7 * rng.normal(size=(len(labels), 8)),
        labels=labels,
        splits=np.where(tested, "test", np.where(labels < 12, "train", "val")),
        roles=np.where(tested, roles, ""),
    )
    config = check_config(config_of(*features(), "dataset.file=many.npz", "plots.figures=true"))
    train_run(config, tmp_path / "run")
    run, metric = load_trained(tmp_path / "run"), "fnir_at_fpir_1e-1"
    found = summary_of(run.folder)["metrics"][metric]
    write_embeddings(tmp_path / "e.npz", embedded(run, {"test": run.data(run.config).test}))
    judged = judge([tmp_path / "e.npz"])
    assert found == pytest.approx(judged.metrics["e.npz"][metric], abs=1e-6) and 0 < found < 1
    assert (run.folder / "plots" / "identification.png").exists()
    done = run.data(run.config)
    write_embeddings(tmp_path / "all.npz", embedded(run, {"train": done.train, "test": done.test}))
    roles = np.load(tmp_path / "all.npz")["roles"]
    assert roles.tolist() == [""] * len(done.train) + done.test.queries.roles.tolist()
    assert judge([tmp_path / "all.npz"]).metrics["all.npz"][metric] == pytest.approx(found, abs=1e-6)
    capsys.readouterr()
    again = evaluate_run(run, run.config)
    print_evaluation(run.config, again, tmp_path / "out")
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if metric in line)
    gap = judged.intervals["e.npz"][metric]
    assert f"{found:.4f}" in line and f"{gap.low:.4f} … {gap.high:.4f}" in line
    assert "% of probes of nobody in the gallery pass (of other classes up to" in said


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ("query", "the test images of dataset=embeddings: no sample is in the gallery"),
        ("gallery", "the test images of dataset=embeddings: no sample is a query"),
        (
            np.where(np.repeat(np.arange(CLASSES), EACH) < 25, "query", "gallery"),
            "the test images of dataset=embeddings: no query has an image of its class in the gallery",
        ),
        ("probe", "row 108: role 'probe', expected one of query, gallery, both"),
        ("", "row 108: role '', expected one of query, gallery, both"),
    ],
)
def test_roles_without_anything_to_find_are_refused_before_training(roles, said, features, tmp_path):
    config = check_config(config_of(*features(roles)))
    with pytest.raises(UserError) as refused:
        train_run(config, tmp_path / "run")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.ranks=[5,1]", r"evaluation\.ranks=\[5,1\]: expected rising numbers, as in \[1,10"),
        ("evaluation.ranks=[0,1]", r"evaluation\.ranks"),
        ("evaluation.ranks=[]", r"evaluation\.ranks"),
        ("evaluation.map_at=0", r"evaluation\.map_at"),
        ("objective=recall_at_7", r"objective=recall_at_7: choose one of recall_at_1"),
    ],
)
def test_ranks_that_cannot_be_are_refused(override, said, features):
    with pytest.raises(UserError, match=said):
        check_config(config_of(*features(), override))


@pytest.mark.parametrize("override", ["evaluation.ranks=[1,2]", "evaluation.map_at=3"])
def test_only_an_open_set_is_searched(override):
    with pytest.raises((UserError, BadKey), match="only evaluation=open_set searches"):
        check_config(config_of("dataset=digits", override))


def test_cameras_that_leave_nothing_to_find_are_refused_before_training(features, tmp_path):
    given = features()
    kept = dict(np.load(tmp_path / "features.npz"))
    np.savez(tmp_path / "features.npz", **kept, cameras=kept["labels"])
    config = check_config(config_of(*given))
    with pytest.raises(UserError, match="an image of its class in the gallery, by another camera"):
        train_run(config, tmp_path / "run")
    cameras = np.where(kept["labels"] < 21, 0, np.arange(len(kept["labels"])))
    np.savez(tmp_path / "other.npz", **kept, cameras=cameras)
    train_run(check_config(config_of(*given, "dataset.file=other.npz")), tmp_path / "other")
    assert summary_of(tmp_path / "other")["counts"]["test"]["queries"] == 2 * 9


def test_a_column_of_cameras_counts_beside_roles_only(tmp_path):
    rows = [f"{row}.png,{row // 4},{row % 2}" for row in range(24)]
    for row in range(24):
        Image.fromarray(np.full((8, 8), row, np.uint8)).save(tmp_path / f"{row}.png")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,camera", *rows]))
    found = manifest(tmp_path, file="t.csv")
    assert found.test.queries is None and "camera" in found.notes[0]
    with pytest.raises(ValueError, match="camera_column=label: it counts beside a column of roles"):
        manifest(tmp_path, file="t.csv", camera_column="label")


def test_folds_would_mix_queries_and_gallery(features, tmp_path):
    config = check_config(config_of(*features(), "dataset.folds=3", "dataset.fold=0"))
    with pytest.raises(UserError, match="has queries and a gallery, which folds would mix"):
        train_run(config, tmp_path / "run")


def test_a_table_says_roles_and_cameras(tmp_path):
    rng, rows = np.random.default_rng(0), ["path,label,split,role,camera"]
    for row in range(24):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / f"{row}.png")
        label, tested = row // 4, row >= 12
        role = ("query" if row % 4 == 0 else "gallery") if tested else ""
        rows.append(f"{row}.png,{label},{'test' if tested else 'train'},{role},{row % 2 * tested or ''}")
    rows = [row if row[-1] != "," or "train" in row else row + "0" for row in rows]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = load(manifest, tmp_path, device="cpu", file="t.csv")
    assert data.test.queries.roles.tolist() == ["query", "gallery", "gallery", "gallery"] * 3
    assert data.test.queries.cameras.tolist() == ["0", "1", "0", "1"] * 3 and data.train.queries is None
    assert not any("not used" in note for note in data.notes)
    (tmp_path / "t.csv").write_text("\n".join(rows).replace(",query,", ",probe,", 1))
    with pytest.raises(ValueError, match="line 14: role 'probe', expected one of query, gallery, both"):
        manifest(tmp_path, file="t.csv")
