"""Images that are trained on and tested, that are there twice, or that have two labels."""

import os
import shutil

import numpy as np
import pytest
import torch

from src.config import identity
from src.datasets import Labelled, Pairs, Source, image_folder, load, manifest
from src.errors import UserError
from src.run.build import build_device
from src.run.data import build_data
from tests.conftest import FAST

CPU = torch.device("cpu")


def images(*shades: int) -> np.ndarray:
    return np.array(shades, np.uint8).reshape(-1, 1, 1, 1).repeat(16, -1)


def read(train: dict[int, str], test: dict[int, str] | list, then: str = "warn", val=None):
    """Data of images of one shade each, by their labels; a shade may come again in another part."""

    def labelled(part) -> Labelled | None:
        if part is None:
            return None
        shades, labels = zip(*(part.items() if isinstance(part, dict) else part), strict=True)
        classes, index = np.unique(labels, return_inverse=True)
        return Labelled(images(*shades), index, tuple(classes.tolist()))

    parts = {"train": labelled(train), "val": labelled(val), "test": labelled(test)}
    return load(lambda root: Source(**parts), ".", CPU, duplicates=then)


TRAIN = {1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"}


def test_images_that_are_trained_on_and_tested_are_counted_and_dropped_from_training():
    test = {2: "a", 3: "b", 9: "c"}
    said = read(TRAIN, test).duplicates
    line = "2 of 3 test images are training images too, as test image 0 and training image 1"
    assert said == (line,)
    data = read(TRAIN, test, "drop")
    assert data.train.images.flatten(1)[:, 0].tolist() == [1, 4, 5, 6] and len(data.test) == 3
    assert data.notes == (f"left out: {line}",) and data.duplicates == ()
    assert data.skipped == ("training image 1", "training image 2")
    with pytest.raises(ValueError, match=r"^duplicates=refuse: 2 of 3 test images are training images"):
        read(TRAIN, test, "refuse")


def test_validation_counts_as_well_and_the_last_split_keeps_an_image():
    val = {1: "a", 9: "c", 7: "b"}
    said = read(TRAIN, {9: "c", 8: "b"}, val=val).duplicates
    assert [line.partition(",")[0] for line in said] == [
        "1 of 3 validation images are training images too",
        "1 of 2 test images are validation images too",
    ]
    data = read(TRAIN, {9: "c", 8: "b"}, "drop", val=val)
    assert [len(part) for part in (data.train, data.val, data.test)] == [5, 2, 2]


def test_of_an_image_that_is_tested_twice_one_is_kept():
    test = [(8, "a"), (8, "a"), (8, "a"), (9, "b")]
    assert "2 of 4 test images are copies of others there" in read(TRAIN, test).duplicates[0]
    assert read(TRAIN, test, "drop").test.images.flatten(1)[:, 0].tolist() == [8, 9]


def test_an_image_with_two_labels_is_dropped_wherever_it_is():
    train = TRAIN | {20: "c"}
    test = [(1, "b"), (20, "c"), (9, "a"), (7, "b"), (6, "b"), (8, "c")]
    said = read(train, test).duplicates[-1]
    assert said.startswith(
        "2 images with another label than their copy, as test image 0 (b) and training image 0 (a)"
    )
    data = read(train, test, "drop")
    assert data.train.images.flatten(1)[:, 0].tolist() == [2, 3, 4, 5]  # 20 is tested
    assert data.test.images.flatten(1)[:, 0].tolist() == [20, 9, 7, 8]


def test_a_class_of_which_nothing_is_left_goes_and_one_that_is_tested_is_named():
    twice = TRAIN | {10: "d", 11: "d"}
    data = read(twice, [(10, "a"), (11, "a"), (12, "a"), (13, "b"), (14, "c")], "drop")
    assert data.train.classes == ("a", "b", "c") and data.test.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"^duplicates=drop: leaves no image of class d to train on"):
        read(twice, {10: "d", 11: "d", 12: "a", 13: "b", 14: "c"}, "drop")


def test_the_images_of_pairs_come_as_often_as_they_are_paired():
    rows = np.array([0, 1])
    pairs = Pairs(rows, rows[::-1], np.array([True, False]), rows)
    train = Labelled(images(1, 2, 3, 4), np.array([0, 0, 1, 1]), ("a", "b"))
    test = Labelled(images(9, 9, 2), np.zeros(3, int), ("unknown",), pairs=pairs)
    for then, kept in (("warn", 4), ("drop", 3)):
        data = load(lambda root: Source(train=train, test=test), ".", CPU, duplicates=then)
        (said,) = data.notes + data.duplicates
        assert "1 of 3 test images are training images too" in said
        assert (len(data.train), len(data.test)) == (kept, 3) and data.test.pairs is pairs


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Anna", "anna "), "2 classes with names that differ in case, blanks or look-alike letters"),
        (("\u0410nna", "Anna"), "2 classes with names"),  # a Cyrillic A
        (("a\u200bb", "ab"), "2 classes with names"),  # a blank of no width
        (("ann", "anna"), None),
    ],
)
def test_names_of_classes_that_look_the_same_are_said(names, said):
    lines = read(
        {1: names[0], 2: names[0], 3: names[1], 4: names[1]}, dict(zip((5, 6), names, strict=True))
    ).duplicates
    assert any(said in line for line in lines) if said else not lines


def test_a_link_to_a_file_and_one_to_a_class_are_the_same_images(folder_of):
    root = folder_of("faces", people=4)
    os.symlink("p01_0001.png", root / "p01" / "also.png")
    lines = [f"{p.relative_to(root)},{p.parent.name}" for p in sorted(root.rglob("p*_*.png"))]
    (root / "l.csv").write_text("path,label\n" + "\n".join([*lines, "p01/also.png,p02"]) + "\n")
    options = {"file": "l.csv", "split": "closed_set"}
    said = load(manifest, root, CPU, **options).duplicates
    assert len(said) == 1 and "also.png (p02)" in said[0] and "p01/p01_0001.png (p01)" in said[0]
    (root / "p01" / "also.png").unlink()
    os.symlink("p00", root / "p09")
    said = load(image_folder, root, CPU).duplicates
    assert any(line.startswith("4 images with another label") for line in said)


def test_images_that_are_read_batch_by_batch_are_compared_by_their_pixels_too(folder_of, tmp_path):
    root = folder_of("faces", people=4)
    shutil.copy(root / "p01" / "p01_0001.png", root / "p01" / "again.png")
    said = [load(image_folder, root, CPU, memory=memory, duplicates="drop") for memory in (4, 0)]
    assert said[0].notes == said[1].notes != () and said[0].skipped == said[1].skipped != ()
    assert said[0].fingerprint == said[1].fingerprint
    again = root.rename(root.with_name("renamed"))
    assert said[0].fingerprint == load(image_folder, again, CPU).fingerprint  # of what was read


def test_dropping_is_part_of_the_run_and_refusing_is_not(composed, folder_of):
    same, other = (
        identity(composed("dataset=image_folder", f"dataset.duplicates={then}"))
        for then in ("refuse", "drop")
    )
    assert same == identity(composed("dataset=image_folder")) != other
    root = folder_of("faces", people=10)
    shutil.copy(root / "p01" / "p01_0001.png", root / "p01" / "again.png")
    words = (*FAST, "dataset=image_folder", f"dataset.root={root}", "dataset.duplicates=refuse")
    config = composed(*words)
    with pytest.raises(UserError, match=r"^dataset.duplicates=refuse: 1 of [0-9]+ .*images are copies"):
        build_data(config, build_device(config))
