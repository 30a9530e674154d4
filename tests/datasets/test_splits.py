"""What does not fit in memory is read batch by batch, and trains to the same numbers."""

import numpy as np
import pytest
import torch

from src.config import config_hash
from src.datasets import Split, StreamedSplit, load
from src.errors import UserError
from src.train import train_run
from tests.conftest import FAST

CPU = torch.device("cpu")


def test_streamed_batches_are_the_resident_ones(folder_of):
    root = folder_of("faces", people=6, images=5, mode="RGB")
    held, streamed = (load("image_folder", root, CPU, memory=memory) for memory in (4, 0))
    assert type(held.train) is Split and type(streamed.train) is StreamedSplit
    assert held.train.mean == streamed.train.mean and held.image_shape == streamed.image_shape
    order = torch.randperm(len(held.train), generator=torch.Generator().manual_seed(0))
    pairs = zip(held.train.batches(order, 4), streamed.train.batches(order, 4), strict=True)
    for (images, labels), (same_images, same_labels) in pairs:
        assert torch.equal(images, same_images) and torch.equal(labels, same_labels)
        assert same_images.is_contiguous(memory_format=torch.channels_last)
    rows = np.array([0, 7, 3])
    np.testing.assert_array_equal(held.train.thumbnails(rows, 5), streamed.train.thumbnails(rows, 5))
    assert torch.equal(held.train.batch(order[:3])[0], streamed.train.batch(order[:3])[0])


def test_memory_is_counted_over_all_splits(folder_of):
    root = folder_of("faces", people=6, images=5, size=(32, 32))
    of_all = 30 * 32 * 32 / 2**30
    assert type(load("image_folder", root, CPU, memory=of_all).test) is Split
    assert type(load("image_folder", root, CPU, memory=0.99 * of_all).test) is StreamedSplit


def test_a_streamed_run_has_the_numbers_of_a_resident_one(folder_of, composed, tmp_path):
    root = folder_of("faces", people=10, images=6)
    # All that draws: dropout, augmentation, and a loss with random margins.
    drawing = ("loss=elasticface_arc", "model.dropout=0.2", "augment.crop=2", "augment.flip=0.5")
    overrides = (*FAST, "dataset=image_folder", f"dataset.root={root}", "batch_size=8", *drawing)
    resident, streamed = (composed(*overrides, f"dataset.memory={memory}") for memory in (4, 0))
    assert config_hash(resident) == config_hash(streamed)
    for config, name in ((resident, "resident"), (streamed, "streamed")):
        train_run(config, tmp_path / name)
    for file in ("metrics.csv", "embeddings.npz"):
        assert (tmp_path / "resident" / file).read_bytes() == (tmp_path / "streamed" / file).read_bytes()


def test_an_image_that_goes_bad_while_it_is_streamed_is_named(folder_of):
    root = folder_of("faces", people=6, images=5)
    train = load("image_folder", root, CPU, memory=0).train
    (root / train.names[3]).write_bytes(b"gone bad")
    with pytest.raises(UserError, match=f"{train.names[3]}: not an image that can be read"):
        list(train.batches(torch.arange(len(train)), 4))
