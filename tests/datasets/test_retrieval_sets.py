"""The benchmarks of retrieval from tiny fakes of their published files."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from src.analysis.judge import judge
from src.datasets import gldv2, landmarks, load, retrieval_sets
from src.datasets.retrieval_sets import cars196, cub, inshop, market1501, sop
from src.evaluation import Search, retrieval
from src.evaluation.retrieval import groups_of
from src.run.build import check_config
from src.run.embedding import embedded, write_embeddings
from src.run.lifecycle import train_run
from src.run.load import load_trained
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
    monkeypatch.setattr(landmarks, "TRAINED", {"clean": HALF, "full": (HALF[0] + 1, HALF[1])})
    monkeypatch.setattr(landmarks, "SEARCHED", {"private": (3, None), "public": (1, 1), "index": (9, 4)})
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


INDEX = {"a1a": 1, "a1b": 1, "a1c": 1, "b2a": 2, "b2b": 2, "c3a": 3, "c3b": 3, "c3c": 3, "d9a": 9}
# The second query shows two landmarks; of the third not every image is listed.
ANSWERS = {"f00": "a1a a1b a1c", "f01": "b2a b2b a1a", "f02": "c3a c3c"}


def sights(root):
    folder = root / "gldv2"
    train = [f"{label}00{row}" for label in range(CLASSES // 2) for row in range(EACH)]
    for part, names in (
        ("train", [*train, "9009"]),
        ("index", INDEX),
        ("test", ["f00", "f01", "f02", "f03", "f04"]),
    ):
        for name in names:
            image_at(folder / part / name[0] / name[1] / name[2] / f"{name}.jpg")
    clean = [f"{k + 1},{' '.join(train[k * EACH : (k + 1) * EACH])}" for k in range(CLASSES // 2)]
    full = [f"{name},http,{int(name[0]) + 1}" for name in train] + ["9009,http,4"]
    index = [f"{name},{landmark}" for name, landmark in INDEX.items()]
    solution = [f"{query},{images},Private" for query, images in ANSWERS.items()]
    solution += ["f03,c3b,Public", "f04,None,Ignored"]
    for name, header, lines in (
        ("train/train_clean.csv", "landmark_id,images", clean),
        ("metadata/train.csv", "id,url,landmark_id", full),
        ("index_image_to_landmark.csv", "id,landmark_id", index),
        ("test/retrieval_solution_v2.1.csv", "id,images,Usage", solution),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return gldv2, folder / "test/retrieval_solution_v2.1.csv"


def average_precisions(unit, names, k, without=()):
    """For each query, the mean over its answers of the precision where each is found, among k; without
    some landmarks."""
    gallery = [row for row, name in enumerate(names) if name in INDEX and INDEX[name] not in without]
    found = {}
    for query, answers in ANSWERS.items():
        if INDEX[answers[:3]] in without:
            continue
        order = sorted(gallery, key=lambda row: -(unit[row] @ unit[names.index(query)]))
        right = [names[row] in answers.split() for row in order[:k]]
        precisions = [sum(right[: i + 1]) / (i + 1) for i, one in enumerate(right) if one]
        found[query] = sum(precisions) / min(k, len(answers.split()))
    return found


@pytest.mark.parametrize("k", [2, 5, 100])
def test_landmarks_are_found_by_the_lists_of_answers(k, tmp_path):
    reader, _ = sights(tmp_path)
    data = load(reader, tmp_path, device="cpu", min_images=1, size=[8, 8], val_fraction=0)
    test, names = data.test, [name[-7:-4] for name in data.test.names]
    assert len(data.train) == HALF[0] and sorted(names) == sorted([*INDEX, *ANSWERS])
    assert "3 of 3 landmarks of queries are trained on" in " ".join(data.notes)
    search = Search(test.queries, map_at=k, left_out=True)
    x = RNG.normal(size=(len(test), 4))
    found = retrieval(torch.from_numpy(x).float(), test.labels, search)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    by_hand = average_precisions(unit, names, k)
    rows = [names.index(query) for query in ANSWERS]
    assert found.per_query[rows, -1].tolist() == pytest.approx(list(by_hand.values()), abs=1e-6)
    assert found.metrics[f"map_at_{k}"] == pytest.approx(np.mean(list(by_hand.values())), abs=1e-6)
    # Landmarks 1 and 2 are answers to one query, so they are left out together; 9 is asked for by none.
    group, count = groups_of(test.labels, search)
    of = {name: int(group[row]) for row, name in enumerate(names)}
    assert count == 2 and of["a1a"] == of["b2a"] == of["f01"] != of["c3b"] == of["c3a"]
    for left_out, value in enumerate(found.left_out[f"map_at_{k}"]):
        gone = {landmark for name, landmark in INDEX.items() if of[name] == left_out}
        values = average_precisions(unit, names, k, tuple(gone)).values()
        assert value == pytest.approx(np.mean(list(values)), abs=1e-6)


def test_copies_stay_where_lists_say_what_is_relevant(tmp_path):
    reader, _ = sights(tmp_path)
    images = tmp_path / "gldv2" / "index"
    shutil.copy(images / "a/1/b/a1b.jpg", images / "a/1/a/a1a.jpg")
    options = {"min_images": 1, "size": [8, 8], "val_fraction": 0}
    test = load(reader, tmp_path, device="cpu", duplicates="drop", **options).test
    names = np.array([name[-7:-4] for name in test.names])
    assert len(names) == len(INDEX) + len(ANSWERS)
    listed = {(query, name) for query, text in ANSWERS.items() for name in text.split()}
    assert {tuple(pair) for pair in names[test.queries.relevant].tolist()} == listed


def test_landmarks_of_other_queries_or_of_all_training_images(tmp_path):
    reader, file = sights(tmp_path)
    options = {"device": "cpu", "min_images": 1, "size": [8, 8], "val_fraction": 0.0}
    data = load(reader, tmp_path / "gldv2", usage="public", clean=False, **options)
    assert len(data.train) == HALF[0] + 1 and len(data.test) == len(INDEX) + 1
    assert len(data.test.queries.relevant) == 1
    for wrong, said in (
        ("f03,b2a e9e,Public", "line 5: query f03 names e9e, which the index does not have"),
        ("f03,,Public", "line 5: query f03 has no relevant image"),
        ("f03,b2a,public", "line 5: Usage 'public', expected one of Private, Public, Ignored"),
        ("../x,b2a,Public", "line 5: image '../x', expected as in 0123456789abcdef"),
        ("f03,b2a,Ignored", "published are 1 of 1"),
    ):
        file.write_text(re.sub("f03.*", wrong, file.read_text()))
        with pytest.raises(ValueError, match=re.escape(said)):
            load(reader, tmp_path, usage="public", **options)
        sights(tmp_path)
    file.unlink()
    with pytest.raises(
        ValueError, match=r"expected retrieval_solution_v2\.1\.csv in it, in metadata/ or in"
    ):
        load(reader, tmp_path, **options)


def test_clothes_are_queries_and_a_gallery(tmp_path):
    reader, file = clothes(tmp_path)
    data = load(reader, tmp_path, device="cpu", min_images=1)
    assert data.test.queries.roles.tolist() == ["query", "gallery", "gallery"] * (CLASSES // 2)
    assert data.test.queries.cameras is None and data.train.queries is None
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
    found = retrieval(torch.from_numpy(x), test.labels, Search(test.queries))
    asked, cameras = test.queries.roles == "query", test.queries.cameras
    assert found.per_query[asked].isfinite().all() and found.per_query[~asked].isnan().all()
    near = found.nearest[asked, 0].numpy()
    own = test.labels.numpy()[near] == test.labels.numpy()[asked]
    assert not (own & (cameras[near] == cameras[asked])).any()
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
BY_NAME += [("inshop", clothes), ("market1501", persons), ("gldv2", sights)]


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
    if name == "gldv2":
        assert 0 < metrics["map_at_100"] <= 1
        assert summary_of(tmp_path / "run")["counts"]["test"]["queries"] == len(ANSWERS)
        run, out = load_trained(tmp_path / "run"), tmp_path / "e.npz"
        write_embeddings(out, embedded(run, {"test": run.data(run.config).test}))
        again = judge([out], map_at=100).metrics["e.npz"]
        assert again["map_at_100"] == pytest.approx(metrics["map_at_100"], abs=1e-6)
    if name == "market1501":
        assert metrics["map_at_19732"] >= metrics["map_at_r"]
        assert summary_of(tmp_path / "run")["counts"]["test"]["queries"] == CLASSES // 2


def test_other_numbers_than_those_published_are_refused(tmp_path, monkeypatch):
    reader, _ = a_cub(tmp_path)
    monkeypatch.setattr(retrieval_sets, "CUB", {"train": (13, 4), "test": (12, 4)})
    with pytest.raises(ValueError, match="its train part has 12 images of 4 classes, published are 13"):
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
    expected += ((inshop, "inshop/"), (market1501, "15.09.15/"), (gldv2, "gldv2/"))
    for reader, name in expected:
        with pytest.raises(ValueError, match=rf"expected .* in it or in \S*{name}"):
            load(reader, tmp_path, device="cpu", val_fraction=0.0)
    (tmp_path / "cars_annos.mat").write_bytes(b"no")
    with pytest.raises(ValueError, match="not the published annotations"):
        load(cars196, tmp_path, device="cpu", val_fraction=0.0)
