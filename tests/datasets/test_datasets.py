"""Real images, read right, and never written over."""

import gzip

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from src.datasets import check_labels, load
from src.errors import UserError

CPU = torch.device("cpu")


def test_digits_are_scikit_learns_split_by_class_and_always_the_same():
    data = load("digits", "unused", CPU)
    assert data.image_shape == (1, 8, 8) and (len(data.train), len(data.test)) == (1437, 360)
    both = torch.cat([data.train.images, data.test.images]).flatten(1).numpy()
    expected = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, expected))
    assert data.test.labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert (load("digits", "unused", CPU).test.labels == data.test.labels).all()


def test_normalisation_is_the_training_splits_own():
    data = load("digits", "unused", CPU)
    images, labels = data.train.batch(torch.arange(len(data.train)))
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    back = images * data.train.std[0] + data.train.mean[0]
    torch.testing.assert_close(back, data.train.images.float())
    picked, _ = data.train.batch(torch.tensor([5, 0]))
    assert torch.equal(picked, images[[5, 0]])


def test_colour_images_keep_their_channels():
    from src.datasets import Split

    images = torch.randint(256, (6, 3, 4, 5), dtype=torch.uint8)
    mean, std = [10.0, 20.0, 30.0], [2.0, 3.0, 4.0]
    split = Split(images, torch.arange(6), mean, std)
    picked, labels = split.batch(torch.tensor([4, 1]))
    expected = (images[[4, 1]].numpy() - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(picked, expected, rtol=1e-5)
    assert labels.tolist() == [4, 1]


def test_labels_outside_the_classes_are_named():
    with pytest.raises(UserError, match=r"dataset=mine: 2 of 4 test labels are outside its 3 classes"):
        check_labels("mine", "test", np.array([0, 3, -1, 2]), ("a", "b", "c"))


def test_a_missing_data_set_names_folder_and_file(tmp_path):
    with pytest.raises(
        UserError, match=rf"dataset.root={tmp_path}.*MNIST/raw/train-images-idx3-ubyte.gz"
    ):
        load("mnist", tmp_path, CPU)


def test_a_broken_archive_is_named_and_left_alone(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"not images"))
    before = {path: path.read_bytes() for path in raw.iterdir()}
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is not the published file"):
        load("fashion_mnist", tmp_path, CPU)
    assert {path: path.read_bytes() for path in raw.iterdir()} == before


def test_a_broken_extracted_file_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"FashionMNIST/raw holds a broken file"):
        load("fashion_mnist", tmp_path, CPU)


def test_fashion_mnist_is_read_whole_and_its_folder_is_left_as_it_was(data_root):
    before = sorted(path.name for path in (data_root / "FashionMNIST" / "raw").iterdir())
    data = load("fashion_mnist", data_root, CPU)
    assert (len(data.train), len(data.test), data.image_shape) == (60_000, 10_000, (1, 28, 28))
    assert data.train.labels.bincount().tolist() == [6000] * 10 and data.classes[9] == "Ankle boot"
    # The statistics that everybody uses for it.
    assert data.train.mean[0] / 255 == pytest.approx(0.2860, abs=1e-4)
    assert data.train.std[0] / 255 == pytest.approx(0.3530, abs=1e-4)
    assert sorted(path.name for path in (data_root / "FashionMNIST" / "raw").iterdir()) == before


@pytest.mark.parametrize(("name", "folder"), [("kmnist", "KMNIST"), ("mnist", "MNIST")])
def test_extracted_files_of_mnists_format_are_read(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for part, count in (("train", 30), ("t10k", 12)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count) % 10
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, count], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
        written[part] = images
    data = load(name, tmp_path, CPU)
    np.testing.assert_array_equal(data.train.images[:, 0], written["train"])
    np.testing.assert_array_equal(data.test.images[:, 0], written["t10k"])
    assert data.test.labels.tolist() == [*range(10), 0, 1] and len(data.classes) == 10


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_from_torchvisions_folder_channels_first(tmp_path, name, classes):
    """Its pickled batches, whose md5 torchvision checks: written here, and their md5 with them."""
    import hashlib
    import pickle

    from src.vision import datasets

    kind = getattr(datasets, name.upper())
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 3072), np.uint8)
    key = "fine_labels" if classes == 100 else "labels"
    sums = {}
    for file, _ in [*kind.train_list, *kind.test_list]:
        (folder / file).write_bytes(pickle.dumps({"data": images, key: list(range(10)) * 2}))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    meta = {kind.meta["key"]: [f"thing {i}" for i in range(classes)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
    sums["meta"] = hashlib.md5((folder / kind.meta["filename"]).read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patched:
        for which in ("train_list", "test_list"):
            listed = [[file, sums[file]] for file, _ in getattr(kind, which)]
            patched.setattr(kind, which, listed)
        patched.setattr(kind, "meta", kind.meta | {"md5": sums["meta"]})
        data = load(name, tmp_path, CPU)
    assert data.image_shape == (3, 32, 32) and len(data.classes) == classes
    np.testing.assert_array_equal(data.test.images[:20].flatten(1), images)
    assert data.classes[3] == "thing 3" and data.test.labels[:12].tolist() == [*range(10), 0, 1]


def test_a_broken_cifar_is_named_and_left_alone(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cifar-10-batches-py is not torchvision's CIFAR10") as caught:
        load("cifar10", tmp_path, CPU)
    assert "\n" not in str(caught.value) and (folder / "data_batch_1").read_bytes() == b"broken"


def test_a_share_of_each_class_is_held_out_always_the_same_and_never_trained_on():
    data, whole = load("digits", "unused", CPU, 0.1), load("digits", "unused", CPU)
    assert whole.val is None and len(data.train) + len(data.val) == len(whole.train)
    shares = data.val.labels.bincount() / whole.train.labels.bincount()
    assert ((shares - 0.1).abs() < 0.005).all()
    again = load("digits", "unused", CPU, 0.1)
    assert torch.equal(data.val.images, again.val.images)
    assert torch.equal(data.test.images, whole.test.images)

    def pixels(split):
        return sorted(tuple(row) for row in split.images.flatten(1).tolist())

    assert sorted(pixels(data.train) + pixels(data.val)) == pixels(whole.train)
    mean = data.train.images.float().mean().item()
    assert (
        data.train.mean == [pytest.approx(mean)] and data.train.mean == data.val.mean == data.test.mean
    )


def test_too_small_a_share_is_refused():
    with pytest.raises(UserError, match=r"dataset.val_fraction=0.0001: leaves no image"):
        load("digits", "unused", CPU, 0.0001)
