"""Labels that may be wrong are found, and put first."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import Split
from src.outliers import main
from src.run.embedding import Embedded
from src.run.lifecycle import train_run
from src.run.outliers import duplicates, outliers, suspects, write_outliers
from tests.conftest import FAST, config_of


@pytest.fixture
def look(trained_on_patterns, monkeypatch, capsys):
    """look("--out", …) -> what the command prints; a refusal raises SystemExit."""

    def of(*arguments) -> str:
        monkeypatch.setattr("sys.argv", ["src.outliers", str(trained_on_patterns), *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return of


def rows_in(folder):
    with open(folder / "outliers.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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
    rows = rows_in(tmp_path / "out")
    assert {row["image"] for row in rows[:3]} == planted
    for row in rows[:3]:
        assert float(row["its_cosine"]) > float(row["own_cosine"])
    right = [f"from-{row['nearest_class']}.png" in row["image"] for row in rows[:3]]
    assert sum(right) >= 2  # of nearly ten patterns in a hundred, another is nearer
    assert f"{len(rows)} of 60 images are nearer to another class" in said
    assert (tmp_path / "out" / "outliers.png").stat().st_size


def test_by_default_all_of_the_runs_images_are_looked_at(look, tmp_path):
    said = look("--out", tmp_path / "out")
    assert "looked at 480 images: 228 train, 156 validation, 96 test\n" in said
    assert " of 480 images are nearer" in said
    said = look("--split", "validation", "--out", tmp_path / "other")
    assert "looked at 156 images: 156 validation\n" in said and " of 156 images are nearer" in said


@pytest.mark.parametrize("evaluation", ["open_set", "closed_set"])
def test_wrong_labels_are_found_whichever_split_they_are_in(evaluation, patterns, tmp_path, monkeypatch):
    folder = shutil.copytree(patterns / "trained", tmp_path / "images")
    for wrong in range(0, 40, 8):  # five, given the label of another class
        path = folder / f"p{wrong:02d}" / "0.png"
        path.rename(folder / f"p{wrong + 1:02d}" / "wrong.png")
    data = ("dataset=image_folder", f"dataset.root={folder}", "dataset.val_fraction=0.4")
    more = ("dataset.test_fraction=0.4", f"evaluation={evaluation}", "batch_size=32", "epochs=5")
    train_run(config_of(*FAST, *data, *more, "model.embedding_dim=16"), tmp_path / "run")
    words = ["src.outliers", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    main()
    rows = rows_in(tmp_path / "out")
    found = [row for row in rows[:10] if row["image"].endswith("wrong.png")]
    assert len(found) == 5 and len({row["split"] for row in found}) > 1


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_an_image_in_two_splits_is_listed_also_where_it_is_no_picture(kind, tmp_path):
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 1, 8, 8), generator=drawn).to(kind)
    pixels[9] = pixels[2]
    labels = torch.arange(12) % 2
    labels[9] = labels[2]
    splits = {
        name: Split(pixels[rows], labels[rows], [0.0], [1.0], ("a", "b"))
        for name, rows in (("train", slice(0, 6)), ("test", slice(6, 12)))
    }
    images = Embedded(pixels.flatten(1).float() - 127, labels, ("a", "b"), splits)
    assert duplicates(images) == [(2, 9)]
    listed = suspects(images, outliers(images.embeddings, labels, 2), duplicates(images))
    assert listed[9].across_splits and not listed[9].contradicts
    assert "3 (test): a" in str(listed[9]) and "the same image as 2 (train)" in str(listed[9])
    write_outliers(tmp_path / "out", images, listed)
    assert (tmp_path / "out" / "outliers.png").exists() == (kind == torch.uint8)


def test_images_that_are_there_twice_are_listed_and_first_those_with_two_labels(
    look, patterns, tmp_path
):
    folder = shutil.copytree(patterns / "known", tmp_path / "images")
    first, second, *_ = sorted(folder.iterdir())
    image = sorted(first.iterdir())[0]
    shutil.copy(image, second / "copy.png")
    pixels = np.array(Image.open(sorted(second.iterdir())[0])).astype(int)
    Image.fromarray((pixels + np.indices(pixels.shape).sum(0) % 2).astype(np.uint8)).save(
        second / "saved-anew.png"
    )
    said = look(folder, "--out", tmp_path / "out")
    rows = [row for row in rows_in(tmp_path / "out") if row["duplicate_of"]]
    assert rows == rows_in(tmp_path / "out")[:1] + rows_in(tmp_path / "out")[-1:]
    assert (rows[0]["image"], rows[0]["duplicate_of"]) == (
        f"{second.name}/copy.png",
        f"{first.name}/{image.name}",
    )
    assert (rows[0]["label"], rows[0]["its_label"]) == (second.name, first.name)
    assert rows[1]["image"].endswith("saved-anew.png") and rows[1]["its_label"] == second.name
    assert "2 duplicates of earlier images: 1 with another label, 0 in another split" in said


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
