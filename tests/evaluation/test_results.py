"""embeddings.npz holds what reports and figures read."""

import numpy as np
import pytest
import torch

from src.datasets.splits import Split
from src.evaluation import Evaluated
from src.evaluation.results import THUMBNAILS, Results
from src.losses import NormFace


def saved(path, samples: int, names=None) -> dict[str, np.ndarray]:
    images = torch.randint(0, 255, (samples, 3, 6, 5), dtype=torch.uint8)
    split = Split(images, torch.arange(samples) % 2, [0.0] * 3, [1.0] * 3, ("cat", "dog"), names)
    Results.of(Evaluated({}), np.ones((samples, 4)), split, NormFace(4, 2)).save(path)
    with np.load(path) as file:
        return dict(file) | {"images": images.numpy()}


def test_embeddings_come_with_labels_and_names(tmp_path):
    kept = saved(tmp_path / "x.npz", 5, np.array([f"{row}.png" for row in range(5)]))
    assert kept["embeddings"].shape == (5, 4) and "prototypes" not in kept  # of a closed set alone
    assert kept["labels"].tolist() == [0, 1, 0, 1, 0] and kept["classes"].tolist() == ["cat", "dog"]
    assert kept["names"].tolist() == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert "names" not in saved(tmp_path / "y.npz", 5)


def test_thumbnails_are_of_the_rows_that_are_named(tmp_path):
    kept = saved(tmp_path / "x.npz", 2 * THUMBNAILS)
    assert len(kept["shown"]) == THUMBNAILS and kept["shown"][[0, -1]].tolist() == [0, 599]
    np.testing.assert_array_equal(
        kept["thumbnails"], kept["images"][kept["shown"]].transpose(0, 2, 3, 1)
    )


def test_results_are_read_as_they_were_written_and_other_files_are_refused(tmp_path):
    saved(tmp_path / "x.npz", 5)
    again = Results.load(tmp_path / "x.npz")
    again.save(tmp_path / "y.npz")
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    assert again.names is None and again.classes.tolist() == ["cat", "dog"]
    (tmp_path / "z.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "w.npz", labels=np.zeros(3))
    for name in ("z.npz", "w.npz"):
        with pytest.raises(ValueError, match=f"{name}: cannot be read as embeddings"):
            Results.load(tmp_path / name)
