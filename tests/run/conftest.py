"""A model trained on images of patterns, and more such images, to ask it about."""

import numpy as np
import pytest
from PIL import Image

from src.run.lifecycle import train_run
from tests.conftest import FAST, config_of

CLASSES, IMAGES = 60, 12


@pytest.fixture(scope="session")
def patterns(tmp_path_factory):
    """Images of patterns with noise: `trained` on, a `gallery` of others, new images of these, `known`,
    and of yet others, `unknown`."""
    root, rng = tmp_path_factory.mktemp("patterns"), np.random.default_rng(0)
    for label in range(CLASSES):
        pattern = rng.integers(30, 180, (8, 8))
        for i in range(IMAGES):
            if label < 40:
                part = "trained"
            elif label < 50:
                part = "gallery" if i < IMAGES // 2 else "known"
            else:
                part = "unknown"
            path = root / part / f"p{label:02d}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.normal(0, 25, (8, 8))
            Image.fromarray((pattern + noise).clip(0, 255).astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="session")
def trained_on_patterns(patterns):
    data = ("dataset=image_folder", f"dataset.root={patterns / 'trained'}", "dataset.val_fraction=0.4")
    overrides = [*FAST, *data, "model.embedding_dim=16", "epochs=10", "batch_size=32"]
    train_run(config_of(*overrides), patterns / "run")
    return patterns / "run"
