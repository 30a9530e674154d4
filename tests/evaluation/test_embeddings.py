"""embeddings.npz holds what reports read."""

import numpy as np
import torch

from src.datasets.splits import Split
from src.evaluation.embeddings import THUMBNAILS, save_embeddings


def saved(path, samples: int, names=None) -> dict[str, np.ndarray]:
    images = torch.randint(0, 255, (samples, 3, 6, 5), dtype=torch.uint8)
    split = Split(images, torch.arange(samples) % 2, [0.0] * 3, [1.0] * 3, ("cat", "dog"), names)
    save_embeddings(path, np.ones((samples, 4)), split, np.eye(2, 4))
    with np.load(path) as file:
        return dict(file) | {"images": images.numpy()}


def test_embeddings_come_with_labels_names_and_prototypes(tmp_path):
    kept = saved(tmp_path / "x.npz", 5, np.array([f"{row}.png" for row in range(5)]))
    assert kept["embeddings"].shape == (5, 4) and kept["prototypes"].shape == (2, 4)
    assert kept["labels"].tolist() == [0, 1, 0, 1, 0] and kept["classes"].tolist() == ["cat", "dog"]
    assert kept["names"].tolist() == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert "names" not in saved(tmp_path / "y.npz", 5)


def test_thumbnails_are_of_the_rows_that_are_named(tmp_path):
    kept = saved(tmp_path / "x.npz", 2 * THUMBNAILS)
    assert len(kept["shown"]) == THUMBNAILS and kept["shown"][[0, -1]].tolist() == [0, 599]
    np.testing.assert_array_equal(
        kept["thumbnails"], kept["images"][kept["shown"]].transpose(0, 2, 3, 1)
    )
