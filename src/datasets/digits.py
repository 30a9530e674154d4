"""scikit-learn's bundled handwritten digits: 1797 real images of 8×8 pixels, no network needed."""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .splits import Labelled, Source

TEST_SHARE = 0.2


def digits(root: Path) -> Source:
    """1437 training and 360 test images (1, 8, 8), grey from 0 to 16, always the same ones, with equal
    class shares in both. `root` is not used."""
    # The file alone: importing scikit-learn takes as long as a short run on these images.
    table = np.loadtxt(
        Path(find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz",
        delimiter=",",
        dtype=np.int64,
    )
    images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), table[:, -1]
    train, test = stratified(labels, math.ceil(TEST_SHARE * len(labels)), np.random.RandomState(0))
    classes = tuple(str(digit) for digit in range(10))
    return Source(
        train=Labelled(images[train], labels[train], classes),
        test=Labelled(images[test], labels[test], classes),
    )


def stratified(labels: np.ndarray, held_out: int, rng: np.random.RandomState):
    """Rows to train on and `held_out` rows, in random orders, with equal class shares: what
    `train_test_split(stratify=labels)` of scikit-learn draws from the same generator."""
    counts = np.bincount(labels)
    trained = in_proportion(counts, len(labels) - held_out, rng)
    held = in_proportion(counts - trained, held_out, rng)
    rows = [np.flatnonzero(labels == label) for label in range(len(counts))]
    drawn = [members[rng.permutation(len(members))] for members in rows]
    first = [members[:count] for members, count in zip(drawn, trained, strict=True)]
    second = [m[a : a + b] for m, a, b in zip(drawn, trained, held, strict=True)]
    return rng.permutation(np.concatenate(first)), rng.permutation(np.concatenate(second))


def in_proportion(counts: np.ndarray, total: int, rng: np.random.RandomState) -> np.ndarray:
    """Whole numbers in proportion to `counts` that add up to `total`; those of the largest remainders
    are rounded up, of equal ones some at random."""
    exact = counts / counts.sum() * total
    whole = np.floor(exact)
    remainders = exact - whole
    for remainder in np.unique(remainders)[::-1]:
        missing = int(total - whole.sum())
        if not missing:
            break
        equal = np.flatnonzero(remainders == remainder)
        whole[rng.choice(equal, min(len(equal), missing), replace=False)] += 1
    return whole.astype(int)
