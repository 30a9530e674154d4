"""CUB, Cars and Stanford Online Products from tiny fakes of their published files."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from src.datasets import load, retrieval_sets
from src.datasets.retrieval_sets import Published, cars196, cub, sop
from src.run.build import check_config
from src.run.lifecycle import train_run
from tests.conftest import FAST, config_of, summary_of

CLASSES, EACH = 8, 3  # of which half train
COUNTS = Published((CLASSES // 2 * EACH, CLASSES // 2), (CLASSES // 2 * EACH, CLASSES // 2))
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name in ("CUB", "CARS196", "SOP"):
        monkeypatch.setattr(retrieval_sets, name, COUNTS)


def image_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (8, 8, 3), np.uint8)).save(path)


def a_cub(root):
    folder, images, labels = root / "CUB_200_2011", [], []
    for row in range(CLASSES * EACH):
        label = row // EACH + 1
        name = f"{label:03d}.Bird_{label}/{row}.jpg"
        image_at(folder / "images" / name)
        images.append(f"{row + 1} {name}")
        labels.append(f"{row + 1} {label}")
    (folder / "images.txt").write_text("\n".join(images))
    (folder / "image_class_labels.txt").write_text("\n".join(labels))
    return cub, folder / "images.txt"


def cars(root):
    folder, kinds = root / "cars196", [("relative_im_path", object), ("class", "i4")]
    annotations = np.empty(CLASSES * EACH, kinds)
    for row in range(CLASSES * EACH):
        name = f"car_ims/{row:06d}.jpg"
        image_at(folder / name)
        annotations[row] = (name, row // EACH + 1)
    savemat(folder / "cars_annos.mat", {"annotations": annotations})
    return cars196, folder / "cars_annos.mat"


def products(root):
    folder = root / "Stanford_Online_Products"
    for part, first in (("train", 0), ("test", CLASSES // 2)):
        lines = ["image_id class_id super_class_id path"]
        for row in range(CLASSES // 2 * EACH):
            label = first + row // EACH + 1
            name = f"chair_final/{label}_{row}.JPG"
            image_at(folder / name)
            lines.append(f"{row + 1} {label} 1 {name}")
        (folder / f"Ebay_{part}.txt").write_text("\n".join(lines))
    return sop, folder / "Ebay_test.txt"


@pytest.mark.parametrize("make", [a_cub, cars, products])
def test_half_of_the_classes_train_and_the_others_are_searched(make, tmp_path):
    reader, file = make(tmp_path)
    data = load(reader, tmp_path, device="cpu", val_fraction=0.0)
    assert len(data.train) == COUNTS.train[0] and len(data.test) == COUNTS.test[0]
    assert not set(data.classes) & set(data.test.classes) and len(data.test.classes) == CLASSES // 2
    inside = load(reader, file.parent, device="cpu", val_fraction=0.0)  # the folder itself
    assert len(inside.train) == COUNTS.train[0]


@pytest.mark.parametrize(("name", "make"), [("cub", a_cub), ("cars196", cars), ("sop", products)])
def test_a_benchmark_by_its_name_trains_and_tests_new_classes(name, make, tmp_path):
    make(tmp_path / "data")
    data = (f"dataset={name}", f"dataset.root={tmp_path / 'data'}", "dataset.size=[8,8]")
    config = check_config(config_of(*FAST, *data, "batch_size=4", "dataset.val_fraction=0.5"))
    train_run(config, tmp_path / "run")
    metrics = summary_of(tmp_path / "run")["metrics"]
    assert 0 <= metrics["recall_at_1"] <= 1 and "map_at_r" in metrics


def test_other_numbers_than_those_published_are_refused(tmp_path, monkeypatch):
    reader, _ = a_cub(tmp_path)
    monkeypatch.setattr(retrieval_sets, "CUB", Published((13, 4), (12, 4)))
    with pytest.raises(ValueError, match="12 images of 4 classes in its train part, published are 13"):
        load(reader, tmp_path, device="cpu", val_fraction=0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 a/../../x.jpg", "line 1 is not as published"),
        ("7", "line 1 is not as published"),
        ("99 a.jpg", "is in only one of its two lists"),
    ],
)
def test_a_list_that_is_not_the_published_one_is_named(text, said, tmp_path):
    reader, file = a_cub(tmp_path)
    file.write_text(text)
    with pytest.raises(ValueError, match=said):
        load(reader, tmp_path, device="cpu", val_fraction=0.0)


def test_what_is_missing_is_named(tmp_path):
    for reader, name in ((cub, "CUB_200_2011/"), (cars196, "cars196/"), (sop, "Online_Products/")):
        with pytest.raises(ValueError, match=rf"expected .* in it or in \S*{name}"):
            load(reader, tmp_path, device="cpu", val_fraction=0.0)
    (tmp_path / "cars_annos.mat").write_bytes(b"no")
    with pytest.raises(ValueError, match="not the published annotations"):
        load(cars196, tmp_path, device="cpu", val_fraction=0.0)
