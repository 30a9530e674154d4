"""Real images, read right, and never written over."""

import gzip
import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from src.datasets import (
    Labelled,
    Source,
    Split,
    check_labels,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    kmnist,
    load,
    mnist,
)
from src.torchvision_compat import datasets as published

CPU = torch.device("cpu")


def test_digits_are_scikit_learns_split_by_class_and_always_the_same():
    data = load(digits, "unused", CPU)
    assert data.image_shape == (1, 8, 8) and (len(data.train), len(data.test)) == (1437, 360)
    both = torch.cat([data.train.images, data.test.images]).flatten(1).numpy()
    bunch = load_digits()
    images, labels = bunch.data.astype(np.uint8), bunch.target
    split = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    assert np.array_equal(both, np.concatenate(split[:2]))
    assert np.array_equal(torch.cat([data.train.labels, data.test.labels]), np.concatenate(split[2:]))
    assert data.test.labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert (load(digits, "unused", CPU).test.labels == data.test.labels).all()


def test_normalisation_is_the_training_splits_own():
    data = load(digits, "unused", CPU)
    images, labels = data.train.batch(torch.arange(len(data.train)))
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    back = images * data.train.std[0] + data.train.mean[0]
    torch.testing.assert_close(back, data.train.images.float())
    picked, _ = data.train.batch(torch.tensor([5, 0]))
    assert torch.equal(picked, images[[5, 0]])


def test_colour_images_keep_their_channels():
    images = torch.randint(256, (6, 3, 4, 5), dtype=torch.uint8)
    mean, std = [10.0, 20.0, 30.0], [2.0, 3.0, 4.0]
    split = Split(images, torch.arange(6), mean, std)
    picked, labels = split.batch(torch.tensor([4, 1]))
    expected = (images[[4, 1]].numpy() - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(picked, expected, rtol=1e-5)
    assert labels.tolist() == [4, 1]


def test_labels_outside_the_classes_are_named():
    with pytest.raises(
        ValueError, match=r"^2 of 4 test labels are outside the 3 classes \(0…2\), the first is 3"
    ):
        check_labels("test", np.array([0, 3, -1, 2]), ("a", "b", "c"))


def test_a_missing_data_set_names_folder_and_file(tmp_path):
    with pytest.raises(ValueError, match=rf"^root={tmp_path}.*MNIST/raw/train-images-idx3-ubyte.gz"):
        load(mnist, tmp_path, CPU)


def test_a_broken_archive_is_named_and_left_alone(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"not images"))
    before = {path: path.read_bytes() for path in raw.iterdir()}
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: not the published file"):
        load(fashion_mnist, tmp_path, CPU)
    assert {path: path.read_bytes() for path in raw.iterdir()} == before


def test_a_broken_extracted_file_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"FashionMNIST/raw: holds a broken file"):
        load(fashion_mnist, tmp_path, CPU)


def test_fashion_mnist_is_read_whole_and_its_folder_is_left_as_it_was(data_root):
    before = sorted(path.name for path in (data_root / "FashionMNIST" / "raw").iterdir())
    data = load(fashion_mnist, data_root, CPU)
    assert (len(data.train), len(data.test), data.image_shape) == (60_000, 10_000, (1, 28, 28))
    assert data.train.labels.bincount().tolist() == [6000] * 10 and data.classes[9] == "Ankle boot"
    # The statistics that everybody uses for it.
    assert data.train.mean[0] / 255 == pytest.approx(0.2860, abs=1e-4)
    assert data.train.std[0] / 255 == pytest.approx(0.3530, abs=1e-4)
    assert sorted(path.name for path in (data_root / "FashionMNIST" / "raw").iterdir()) == before


@pytest.mark.parametrize(
    ("reader", "folder"),
    [(kmnist, "KMNIST"), (mnist, "MNIST"), (fashion_mnist, "FashionMNIST")],
    ids=["kmnist", "mnist", "fashion_mnist"],
)
def test_extracted_files_of_mnists_format_are_read(tmp_path, reader, folder):
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
    data = load(reader, tmp_path, CPU)
    np.testing.assert_array_equal(data.train.images[:, 0], written["train"])
    np.testing.assert_array_equal(data.test.images[:, 0], written["t10k"])
    assert data.test.labels.tolist() == [*range(10), 0, 1] and len(data.classes) == 10


@pytest.mark.parametrize(("reader", "classes"), [(cifar10, 10), (cifar100, 100)])
def test_cifar_is_read_from_torchvisions_folder_channels_first(tmp_path, reader, classes):
    """Pickled batches are written here, and so are the md5 sums that torchvision checks."""
    cifar = getattr(published, reader.__name__.upper())
    folder = tmp_path / cifar.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 3072), np.uint8)
    key = "fine_labels" if classes == 100 else "labels"
    sums = {}
    for file, _ in [*cifar.train_list, *cifar.test_list]:
        (folder / file).write_bytes(pickle.dumps({"data": images, key: list(range(10)) * 2}))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    meta = {cifar.meta["key"]: [f"thing {i}" for i in range(classes)]}
    (folder / cifar.meta["filename"]).write_bytes(pickle.dumps(meta))
    sums["meta"] = hashlib.md5((folder / cifar.meta["filename"]).read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patched:
        for which in ("train_list", "test_list"):
            with_sums = [[file, sums[file]] for file, _ in getattr(cifar, which)]
            patched.setattr(cifar, which, with_sums)
        patched.setattr(cifar, "meta", cifar.meta | {"md5": sums["meta"]})
        data = load(reader, tmp_path, CPU)
    assert data.image_shape == (3, 32, 32) and len(data.classes) == classes
    np.testing.assert_array_equal(data.test.images[:20].flatten(1), images)
    assert data.classes[3] == "thing 3" and data.test.labels[:12].tolist() == [*range(10), 0, 1]


def test_a_broken_cifar_is_named_and_left_alone(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"cifar-10-batches-py is not torchvision's CIFAR10") as caught:
        load(cifar10, tmp_path, CPU)
    assert "\n" not in str(caught.value) and (folder / "data_batch_1").read_bytes() == b"broken"


def test_validation_is_a_share_of_each_class_always_the_same_and_never_trained_on():
    data, whole = load(digits, "unused", CPU, val_fraction=0.1), load(digits, "unused", CPU)
    assert whole.val is None and len(data.train) + len(data.val) == len(whole.train)
    shares = data.val.labels.bincount() / whole.train.labels.bincount()
    assert ((shares - 0.1).abs() < 0.005).all()
    again = load(digits, "unused", CPU, val_fraction=0.1)
    assert torch.equal(data.val.images, again.val.images)
    assert torch.equal(data.test.images, whole.test.images)

    def pixels(split):
        return sorted(tuple(row) for row in split.images.flatten(1).tolist())

    assert sorted(pixels(data.train) + pixels(data.val)) == pixels(whole.train)
    mean = data.train.images.float().mean().item()
    assert (
        data.train.mean == [pytest.approx(mean)] and data.train.mean == data.val.mean == data.test.mean
    )


def test_of_the_smallest_share_each_class_has_one_image_if_it_has_two():
    assert load(digits, "unused", CPU, val_fraction=0.0001).val.labels.bincount().tolist() == [1] * 10

    def singles(root):
        source = tiny(root, images=1)
        return replace(source, test=source.train)

    with pytest.raises(ValueError, match=r"^val_fraction=0.5: no class has two images to train on"):
        load(singles, "unused", CPU, val_fraction=0.5)


def tiny(root, *, shades=(10, 200), images: int = 4) -> Source:
    """Somebody's own reader: as many classes as `shades`, each an open set's in its own right."""
    pixels = np.repeat(np.array(shades, np.uint8), images)[:, None, None, None]
    labels = np.repeat(np.arange(len(shades)), images)
    train = Labelled(pixels, labels, tuple(f"train {shade}" for shade in shades))
    return Source(train=train, test=train._replace(classes=tuple(f"test {s}" for s in shades)))


def test_any_callable_that_returns_a_source_is_a_reader_and_is_called_once_per_options(tmp_path):
    calls = []

    def reader(root, *, shades=(10, 200), more=None):
        calls.append((root, shades, more))
        return tiny(root, shades=shades)

    first = load(reader, tmp_path, CPU, shades=[5, 7])
    assert load(reader, str(tmp_path), CPU, shades=[5, 7]).fingerprint == first.fingerprint
    assert first.train.images.unique().tolist() == [5, 7] and first.val is None
    assert calls == [(tmp_path, (5, 7), None)]
    other = load(reader, tmp_path, CPU, shades=[5, 8], more={"unhashable": [1]})
    assert other.fingerprint != first.fingerprint and len(calls) == 2


def test_two_classes_are_too_few_to_validate_on_others():
    said = r"^val_fraction=0.5: 2 classes to train on are too few to hold some out"
    with pytest.raises(ValueError, match=said):
        load(tiny, "unused", CPU, val_fraction=0.5)


def test_a_reader_without_test_images_is_named():
    with pytest.raises(ValueError, match=r"^no images to test on"):
        load(tiny, "unused", CPU, images=0)
