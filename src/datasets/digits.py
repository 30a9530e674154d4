"""scikit-learn's bundled handwritten digits: 1797 real images of 8×8 pixels, no network needed."""

from pathlib import Path

import numpy as np

from .splits import Labelled, Source


def digits(root: Path) -> Source:
    """1437 training and 360 test images (1, 8, 8), grey from 0 to 16, always the same ones, with equal
    class shares in both. `root` is not used."""
    # Imported here because scikit-learn takes a second, which no other data set should pay.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        images, bunch.target, test_size=0.2, stratify=bunch.target, random_state=0
    )
    classes = tuple(str(digit) for digit in range(10))
    return Source(train=Labelled(train_x, train_y, classes), test=Labelled(test_x, test_y, classes))
