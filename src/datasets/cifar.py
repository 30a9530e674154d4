"""CIFAR-10 and CIFAR-100 through torchvision."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from .splits import Labelled, Source


def cifar10(root: Path) -> Source:
    return _read("CIFAR10", root)


def cifar100(root: Path) -> Source:
    return _read("CIFAR100", root)


def _read(name: str, root: Path) -> Source:
    """`root`/cifar-10-batches-py or cifar-100-python, as torchvision extracts them; it checks their
    md5."""
    from ..vision import datasets

    kind = getattr(datasets, name)
    folder = root / kind.base_folder
    try:
        # Once the batches are there and right, nothing is downloaded or written.
        train, test = (kind(root, train=part, download=not folder.is_dir()) for part in (True, False))
    except Exception as error:  # torchvision passes on whatever its network stack or pickle raises
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"dataset.root={root}: {folder} is not torchvision's {name}, or not there and could not be "
            f"downloaded ({reason}): put it there, or set DATA_ROOT"
        ) from error
    return Source(
        *(
            Labelled(part.data.transpose(0, 3, 1, 2), np.array(part.targets), tuple(part.classes))
            for part in (train, test)
        )
    )
