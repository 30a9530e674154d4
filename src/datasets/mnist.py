"""MNIST, Fashion-MNIST and Kuzushiji-MNIST, read by torchvision without changing files that are
there."""

import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path

from ..foreign import check_file, one_line
from ..losses import BadArgument
from .files import remove_empty_folders
from .splits import Labelled, Source

MOST_BYTES = 2**28  # of one file; the largest published has 47 MB


def mnist(root: Path) -> Source:
    """60,000 training and 10,000 test images of handwritten digits (LeCun et al. 1998), 28×28. Reads
    `root`/MNIST/raw, downloads what is not there, and raises ValueError if it cannot."""
    return _read("MNIST", root)


def fashion_mnist(root: Path) -> Source:
    """60,000 training and 10,000 test images of clothes (Xiao et al. 2017), 28×28. Reads
    `root`/FashionMNIST/raw, downloads what is not there, and raises ValueError if it cannot."""
    return _read("FashionMNIST", root)


def kmnist(root: Path) -> Source:
    """60,000 training and 10,000 test images of cursive Japanese characters (Clanuwat et al. 2018),
    28×28. Reads `root`/KMNIST/raw, downloads what is not there, and raises ValueError if it cannot."""
    return _read("KMNIST", root)


def _read(class_name: str, root: Path) -> Source:
    from ..torchvision_compat import datasets

    published = getattr(datasets, class_name)
    folder = root / class_name / "raw"
    archives = [folder / file for file, _ in published.resources]
    missing = [file for file in archives if not (file.exists() or file.with_suffix("").exists())]
    for file in (path for archive in archives for path in (archive, archive.with_suffix(""))):
        if file.exists():
            check_file(file, MOST_BYTES)
    if missing:
        try:
            published(root, download=True)
        except Exception as error:  # torchvision passes on whatever its network stack raises
            remove_empty_folders(folder, root)
            reason = str(error).strip().splitlines()[-1]
            raise BadArgument(
                "root",
                root,
                f"{missing[0]} is not there and could not be downloaded ({reason}): put torchvision's "
                f"{missing[0].name} there, or set DATA_ROOT",
            ) from error
    # torchvision extracts archives next to themselves, over whatever is there: let it read a copy.
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / class_name / "raw"
        copy.mkdir(parents=True)
        for archive, (_, md5) in zip(archives, published.resources, strict=True):
            _extract(archive, md5, copy / archive.stem)
        try:
            train, test = published(scratch, train=True), published(scratch, train=False)
        except Exception as error:
            raise ValueError(f"{folder}: holds a broken file: {one_line(error)}") from error
    classes = tuple(name.split(" - ")[0] for name in published.classes)

    def labelled(part) -> Labelled:
        return Labelled(part.data.unsqueeze(1).numpy(), part.targets.numpy(), classes)

    return Source(train=labelled(train), test=labelled(test))


def _extract(archive: Path, md5: str, target: Path) -> None:
    extracted = archive.with_suffix("")
    if extracted.exists():
        try:
            target.symlink_to(extracted.resolve())
        except OSError:  # Windows requires a privilege for links
            shutil.copyfile(extracted, target)
        return
    if hashlib.md5(archive.read_bytes()).hexdigest() != md5:
        raise ValueError(
            f"{archive}: not the published file (its md5 differs): delete it, or replace it"
        )
    with gzip.open(archive) as compressed, open(target, "wb") as out:
        shutil.copyfileobj(compressed, out)
