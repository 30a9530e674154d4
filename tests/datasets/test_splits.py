"""What does not fit in memory is read batch by batch, and trains to the same numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from src.datasets import Augmentation, Split, StreamedSplit, image_folder, load

CPU = torch.device("cpu")


def test_streamed_batches_are_the_resident_ones(folder_of):
    root = folder_of("faces", people=6, images=5, mode="RGB")
    resident, streamed = (load(image_folder, root, CPU, memory=memory) for memory in (4, 0))
    assert type(resident.train) is Split and type(streamed.train) is StreamedSplit
    assert resident.train.mean == streamed.train.mean and resident.image_shape == streamed.image_shape
    assert resident.fingerprint == streamed.fingerprint
    order = torch.randperm(len(resident.train), generator=torch.Generator().manual_seed(0))
    batches = zip(resident.train.batches(order, 4), streamed.train.batches(order, 4), strict=True)
    for (images, labels), (same_images, same_labels) in batches:
        assert torch.equal(images, same_images) and torch.equal(labels, same_labels)
        assert same_images.is_contiguous(memory_format=torch.channels_last)
    rows = np.array([0, 7, 3])
    np.testing.assert_array_equal(resident.train.thumbnails(rows, 5), streamed.train.thumbnails(rows, 5))
    assert torch.equal(resident.train.batch(order[:3])[0], streamed.train.batch(order[:3])[0])


def test_memory_is_counted_over_all_splits(folder_of):
    root = folder_of("faces", people=6, images=5, size=(32, 32))
    of_all = 30 * 32 * 32 / 2**30
    assert type(load(image_folder, root, CPU, memory=of_all).test) is Split
    assert type(load(image_folder, root, CPU, memory=0.99 * of_all).test) is StreamedSplit


def test_training_on_streamed_images_gives_the_numbers_of_resident_ones(folder_of):
    root = folder_of("faces", people=10, images=6)

    def trained(memory: float) -> list[torch.Tensor]:
        """Weights after two epochs in which the order, dropout and augmentation draw at random."""
        split = load(image_folder, root, CPU, memory=memory).train
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(120, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)
        )
        optimizer = torch.optim.Adam(model.parameters())
        shuffling, chance = (torch.Generator().manual_seed(0) for _ in range(2))
        augment = Augmentation(chance, crop=2, flip=0.5)
        for _ in range(2):
            for images, labels in split.batches(torch.randperm(len(split), generator=shuffling), 8):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(augment(images)), labels).backward()
                optimizer.step()
        return list(model.state_dict().values())

    for resident, streamed in zip(trained(4), trained(0), strict=True):
        assert torch.equal(resident, streamed)


def test_an_image_that_goes_bad_while_it_is_streamed_is_named(folder_of):
    root = folder_of("faces", people=6, images=5)
    train = load(image_folder, root, CPU, memory=0).train
    (root / train.names[3]).write_bytes(b"gone bad")
    with pytest.raises(ValueError, match=f"{train.names[3]}: not an image that can be read"):
        list(train.batches(torch.arange(len(train)), 4))
