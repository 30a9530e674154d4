"""Labels that may be wrong are found, and put first."""

import csv
import shutil

import numpy as np
import pytest
import torch

from src.outliers import main
from src.run.outliers import outliers


@pytest.fixture
def look(trained_on_patterns, monkeypatch, capsys):
    """look("--out", …) -> what the command prints; a refusal raises SystemExit."""

    def of(*arguments) -> str:
        monkeypatch.setattr("sys.argv", ["src.outliers", str(trained_on_patterns), *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return of


def test_each_sample_is_measured_against_the_others_of_its_class():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 5)), np.array([0] * 19 + [1] * 20 + [2])
    found = outliers(torch.tensor(x), torch.tensor(labels), 4)  # one alone in class 2, none in 3
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for i in range(39):
        others = {c: unit[(labels == c) & (np.arange(40) != i)].sum(0) for c in range(3)}
        cosine = {c: unit[i] @ v / np.linalg.norm(v) for c, v in others.items()}
        own = cosine.pop(labels[i])
        assert found.own[i].item() == pytest.approx(own, abs=1e-9)
        assert found.other[i].item() == pytest.approx(max(cosine.values()), abs=1e-9)
        assert found.nearest[i].item() == max(cosine, key=cosine.get)
    excess = found.other - found.own
    assert found.own[39].isnan() and 39 not in found.rows
    assert found.rows.tolist() == [
        i for i in excess[:39].argsort(descending=True).tolist() if excess[i] > 0
    ]


def test_images_in_wrong_folders_come_first(look, patterns, tmp_path):
    folder, planted = tmp_path / "images", set()
    shutil.copytree(patterns / "known", folder)
    names = sorted(path.name for path in folder.iterdir())
    for wrong, right in zip(names[:3], names[3:6], strict=True):
        image = sorted((folder / right).iterdir())[0]
        planted.add(f"{wrong}/from-{right}.png")
        image.rename(folder / wrong / f"from-{right}.png")
    said = look(folder, "--out", tmp_path / "out")
    with open(tmp_path / "out" / "outliers.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows[:3]} == planted
    for row in rows[:3]:
        assert float(row["its_cosine"]) > float(row["own_cosine"])
    right = [f"from-{row['nearest_class']}.png" in row["image"] for row in rows[:3]]
    assert sum(right) >= 2  # of nearly ten patterns in a hundred, another is nearer
    assert f"{len(rows)} of 60 images are nearer to another class" in said
    assert (tmp_path / "out" / "outliers.png").stat().st_size


def test_by_default_the_runs_training_images_are_looked_at(look, tmp_path):
    assert " of 228 images are nearer" in look("--out", tmp_path / "out")
    assert " of 156 images are nearer" in look("--split", "validation", "--out", tmp_path / "other")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--out", "."], "exists already"),
        (["nowhere", "--out", "new"], "'nowhere': neither an image or a folder nor a data set"),
        (["dataset.root=x", "--out", "new"], "neither an image or a folder nor a data set"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words, why, look):
    with pytest.raises(SystemExit, match=why):
        look(*words)


def test_images_of_one_class_are_refused(look, patterns, tmp_path):
    one = next((patterns / "known").iterdir())
    with pytest.raises(SystemExit, match="images of one class"):
        look(one, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
