"""Each sample is tested in one fold, whole classes stay together, and a seed draws them."""

import numpy as np
import pytest
import torch

from src.datasets import Files, Labelled, Source, digits, image_folder, load, omniglot, pairs, synthetic

CPU = torch.device("cpu")


def cross_validated(reader, root="", folds=5, **options):
    return [load(reader, root, CPU, folds=folds, fold=fold, **options) for fold in range(folds)]


def test_a_closed_set_is_dealt_by_the_samples_of_each_class():
    parts = cross_validated(digits, val_fraction=0.1)
    sizes = [len(part.test) for part in parts]
    assert sum(sizes) == 1797 and max(sizes) - min(sizes) <= 1
    of_each = np.array([np.bincount(part.test.labels) for part in parts])
    assert (np.ptp(of_each, axis=0) <= 1).all()
    whole = {bytes(image) for part in parts for image in part.test.images.numpy()}
    assert len(whole) > 1790  # some digits are equal
    for part in parts:
        assert part.classes == part.test.classes == part.val.classes == tuple("0123456789")
        assert len(part.train) + len(part.val) + len(part.test) == 1797
        assert part.dealt.over == "samples" and part.dealt.folds == 5
    assert len({part.fingerprint for part in parts}) == len({part.dealt.rows for part in parts}) == 5


def test_an_open_set_is_dealt_by_whole_classes(folder_of):
    root = folder_of("people", people=13, images=4)
    parts = cross_validated(image_folder, root, val_fraction=0.1)
    tested = [set(part.test.classes) for part in parts]
    assert sorted(map(len, tested)) == [2, 2, 3, 3, 3] and len(set.union(*tested)) == 13
    for part in parts:
        trained, chosen = set(part.train.classes), set(part.val.classes)
        assert not trained & chosen and trained | chosen | set(part.test.classes) == set.union(*tested)
        assert all(
            name.startswith(part.test.classes[label])
            for name, label in zip(part.test.names, part.test.labels, strict=True)
        )
        assert part.dealt.over == "classes"


def test_which_fold_a_sample_is_in_depends_on_the_seed_alone(folder_of):
    root = folder_of("people", people=10, images=4)

    def names(**options):
        return [part.test.names.tolist() for part in cross_validated(image_folder, root, 3, **options)]

    for split in ("open_set", "closed_set"):
        assert names(split=split) == names(split=split, test_fraction=0.5, val_fraction=0.4, memory=0)
        assert names(split=split) != names(split=split, split_seed=1)
        seen = [name for part in names(split=split) for name in part]
        assert len(seen) == len(set(seen)) == 40


def test_train_val_and_test_folders_are_pooled(folder_of):
    for part, first, people in (("train", 0, 6), ("val", 6, 2), ("test", 8, 2)):
        folder_of(f"data/{part}", people=people, images=3, first=first)
    root = folder_of("data/none", people=0).parent
    parts = cross_validated(image_folder, root, folds=5)
    assert sum(len(part.test) for part in parts) == 30 and parts[0].val is None
    assert {len(part.test.classes) for part in parts} == {2}


def test_streamed_folds_are_the_resident_ones(folder_of):
    root = folder_of("people", people=6, images=4)
    resident, streamed = (
        load(image_folder, root, CPU, folds=3, fold=1, memory=memory) for memory in (4, 0)
    )
    assert isinstance(streamed.test.images, Files) and resident.fingerprint == streamed.fingerprint


@pytest.mark.parametrize("split", ["closed_set", "open_set"])
def test_generated_classes_are_dealt_too(split):
    parts = cross_validated(synthetic, folds=2, split=split, classes=4, per_class=6, test_per_class=2)
    classes = 4 if split == "closed_set" else 8
    assert sum(len(part.test) for part in parts) == (32 if split == "closed_set" else 4 * 8)
    assert {len(part.test.classes) for part in parts} == {4}
    assert len({name for part in parts for name in part.test.classes}) == classes


def test_omniglots_two_parts_are_pooled(data_root):
    part = load(omniglot, data_root, CPU, folds=5, fold=0, size=[8, 8])
    assert len(part.train.classes) + len(part.test.classes) == 1623 and len(part.test.classes) == 325


@pytest.mark.parametrize(
    ("people", "images", "options", "line"),
    [
        (
            9,
            4,
            {"folds": 5, "fold": 0},
            "folds=5: 9 classes are too few for two per fold: use at",
        ),
        (
            4,
            3,
            {"folds": 5, "fold": 0, "split": "closed_set"},
            "^folds=5: class p00 has 3 images",
        ),
        (9, 4, {"folds": 4, "fold": 4}, r"fold=4: expected one of 0 to 3 \(folds=4\)"),
        (9, 4, {"folds": 4}, "fold=None: expected one of 0 to 3"),
        (9, 4, {"fold": 1}, "fold=1: give the number of folds too"),
    ],
)
def test_what_cannot_be_dealt_is_refused(people, images, options, line, folder_of):
    root = folder_of("people", people=people, images=images)
    with pytest.raises(ValueError, match=line):
        load(image_folder, root, CPU, **options)


def test_pairs_and_images_of_two_kinds_are_refused(faces):
    with pytest.raises(ValueError, match=r"folds=2: the test set is pairs of images"):
        load(pairs, faces, CPU, folds=2, fold=0)
    labels = np.arange(8) % 4

    def mixed(root):
        arrays = Labelled(np.zeros((8, 1, 12, 10), np.uint8), labels, tuple("abcd"))
        return Source(train=arrays, test=arrays._replace(images=Files(np.array(["x"] * 8), (1, 12, 10))))

    with pytest.raises(ValueError, match=r"folds=2: the images cannot be pooled"):
        load(mixed, faces, CPU, folds=2, fold=0)
