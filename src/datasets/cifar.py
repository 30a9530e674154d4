"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read by torchvision."""

from pathlib import Path

import numpy as np

from ..foreign import check_file, one_line
from ..losses import BadArgument
from .splits import Labelled, Source

MOST_BYTES = 2**29  # of one file; the largest published has 155 MB


def cifar10(root: Path) -> Source:
    """50,000 training and 10,000 test photographs of ten things, 32×32, RGB. Reads
    `root`/cifar-10-batches-py, which torchvision downloads if it is not there. Raises ValueError if it
    cannot."""
    return _read("CIFAR10", root)


def cifar100(root: Path) -> Source:
    """50,000 training and 10,000 test photographs of a hundred things, 32×32, RGB. Reads
    `root`/cifar-100-python, which torchvision downloads if it is not there. Raises ValueError if it
    cannot."""
    return _read("CIFAR100", root)


def _read(class_name: str, root: Path) -> Source:
    from ..torchvision_compat import datasets

    cifar = getattr(datasets, class_name)
    folder = root / cifar.base_folder
    for file in folder.iterdir() if folder.is_dir() else ():
        check_file(file, MOST_BYTES)
    try:
        # torchvision checks md5 sums; where they are right it downloads and writes nothing.
        train, test = (cifar(root, train=part, download=not folder.is_dir()) for part in (True, False))
    except Exception as error:  # torchvision passes on whatever its network stack or pickle raises
        reason = one_line(error)
        raise BadArgument(
            "root",
            root,
            f"{folder} is not torchvision's {class_name}, or not there and could not be downloaded "
            f"({reason}): put it there, or set DATA_ROOT",
        ) from error

    def labelled(part) -> Labelled:
        return Labelled(part.data.transpose(0, 3, 1, 2), np.array(part.targets), tuple(part.classes))

    return Source(train=labelled(train), test=labelled(test))
