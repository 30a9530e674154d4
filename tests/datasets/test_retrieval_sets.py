"""The benchmarks of retrieval from tiny fakes of their published files."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from src.datasets import load, retrieval_sets
from src.datasets.retrieval_sets import cars196, cub, inshop, market1501, sop
from src.evaluation import Search, retrieval
from src.run.build import check_config
from src.run.lifecycle import train_run
from tests.conftest import FAST, config_of, summary_of

CLASSES, EACH = 8, 3  # of which half train
HALF = (CLASSES // 2 * EACH, CLASSES // 2)
COUNTS = {"train": HALF, "test": HALF}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name in ("CUB", "CARS196", "SOP"):
        monkeypatch.setattr(retrieval_sets, name, COUNTS)
    searched = {"train": HALF, "query": (CLASSES // 2, CLASSES // 2)}
    monkeypatch.setattr(retrieval_sets, "INSHOP", searched | {"gallery": (HALF[0] - HALF[1], HALF[1])})
    monkeypatch.setattr(retrieval_sets, "MARKET1501", searched)
    monkeypatch.setattr(retrieval_sets, "MARKET1501_GALLERY", HALF[0] - HALF[1] + 3)


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


def clothes(root):
    folder, lines = root / "inshop", ["24", "image_name item_id evaluation_status"]
    for row in range(CLASSES * EACH):
        label, query = row // EACH + 1, row % EACH == 0
        part = "train" if label <= CLASSES // 2 else "query" if query else "gallery"
        name = f"img/WOMEN/Tees/id_{label:08d}/{row}_front.jpg"
        image_at(folder / "Img" / name)
        lines.append(f"{name}    id_{label:08d}    {part}")
    (folder / "Eval").mkdir(parents=True)
    (folder / "Eval" / "list_eval_partition.txt").write_text("\n".join(lines))
    return inshop, folder / "Eval" / "list_eval_partition.txt"


def persons(root):
    folder = root / "Market-1501-v15.09.15"
    for row in range(CLASSES * EACH):
        label, camera = row // EACH + 1, row % EACH // 2 + 1  # two of three by the first camera
        part = "bounding_box_train" if label <= CLASSES // 2 else "bounding_box_test"
        part = "query" if part == "bounding_box_test" and row % EACH == 0 else part
        image_at(folder / part / f"{label:04d}_c{camera}s1_{row:06d}_00.jpg")
    for name in ("-1_c1s1_000001_00", "0000_c1s1_000002_00", "0000_c2s1_000003_00"):
        image_at(folder / "bounding_box_test" / f"{name}.jpg")
    return market1501, folder / "query"


def test_clothes_are_queries_and_a_gallery(tmp_path):
    reader, file = clothes(tmp_path)
    data = load(reader, tmp_path, device="cpu", min_images=1)
    assert data.test.roles.tolist() == ["query", "gallery", "gallery"] * (CLASSES // 2)
    assert data.test.cameras is None and data.train.roles is None
    file.write_text(file.read_text().replace(" query", " probe", 1))
    with pytest.raises(ValueError, match="is of 'probe', expected train, query, gallery"):
        reader(tmp_path, min_images=1)


def test_persons_are_searched_by_other_cameras_among_distractors_without_junk(tmp_path):
    reader, _ = persons(tmp_path)
    data = load(reader, tmp_path, device="cpu", min_images=1)
    test = data.test
    assert len(test) == HALF[0] + 2 and len(test.classes) == CLASSES // 2 + 2  # each of them another
    assert not any("/-1_" in name for name in test.names)
    x = RNG.normal(size=(len(test), 4)).astype(np.float32)
    found = retrieval(torch.from_numpy(x), test.labels, Search(test.roles, test.cameras))
    asked = test.roles == "query"
    assert found.per_query[asked].isfinite().all() and found.per_query[~asked].isnan().all()
    near = found.nearest[asked, 0].numpy()
    own = test.labels.numpy()[near] == test.labels.numpy()[asked]
    assert not (own & (test.cameras[near] == test.cameras[asked])).any()
    (tmp_path / "Market-1501-v15.09.15" / "query" / "x.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="not named as published, as in 0002_c1s1_"):
        reader(tmp_path, min_images=1)


@pytest.mark.parametrize("make", [a_cub, cars, products])
def test_half_of_the_classes_train_and_the_others_are_searched(make, tmp_path):
    reader, file = make(tmp_path)
    data = load(reader, tmp_path, device="cpu", val_fraction=0.0)
    assert len(data.train) == HALF[0] and len(data.test) == HALF[0]
    assert not set(data.classes) & set(data.test.classes) and len(data.test.classes) == CLASSES // 2
    inside = load(reader, file.parent, device="cpu", val_fraction=0.0)  # the folder itself
    assert len(inside.train) == HALF[0]


BY_NAME = [("cub", a_cub), ("cars196", cars), ("sop", products)]
BY_NAME += [("inshop", clothes), ("market1501", persons)]


@pytest.mark.parametrize(("name", "make"), BY_NAME)
def test_a_benchmark_by_its_name_trains_and_tests_new_classes(name, make, tmp_path):
    make(tmp_path / "data")
    data = (f"dataset={name}", f"dataset.root={tmp_path / 'data'}", "dataset.size=[8,8]")
    config = check_config(config_of(*FAST, *data, "batch_size=4", "dataset.val_fraction=0.5"))
    train_run(config, tmp_path / "run")
    metrics = summary_of(tmp_path / "run")["metrics"]
    assert 0 <= metrics["recall_at_1"] <= 1 and "map_at_r" in metrics
    if name == "inshop":
        assert metrics["recall_at_50"] == 1  # of eight in the gallery
    if name == "market1501":
        assert metrics["map_at_19732"] >= metrics["map_at_r"]
        assert summary_of(tmp_path / "run")["counts"]["test"]["queries"] == CLASSES // 2


def test_other_numbers_than_those_published_are_refused(tmp_path, monkeypatch):
    reader, _ = a_cub(tmp_path)
    monkeypatch.setattr(retrieval_sets, "CUB", {"train": (13, 4), "test": (12, 4)})
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
    expected = ((cub, "CUB_200_2011/"), (cars196, "cars196/"), (sop, "Online_Products/"))
    expected += ((inshop, "inshop/"), (market1501, "15.09.15/"))
    for reader, name in expected:
        with pytest.raises(ValueError, match=rf"expected .* in it or in \S*{name}"):
            load(reader, tmp_path, device="cpu", val_fraction=0.0)
    (tmp_path / "cars_annos.mat").write_bytes(b"no")
    with pytest.raises(ValueError, match="not the published annotations"):
        load(cars196, tmp_path, device="cpu", val_fraction=0.0)
