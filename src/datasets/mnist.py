"""MNIST, Fashion-MNIST and Kuzushiji-MNIST through torchvision, without touching what already lies in
the folder."""

import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path

from ..errors import UserError
from .files import remove_empty
from .splits import Labelled, Source


def mnist(root: Path) -> Source:
    return _read("MNIST", root)


def fashion_mnist(root: Path) -> Source:
    return _read("FashionMNIST", root)


def kmnist(root: Path) -> Source:
    return _read("KMNIST", root)


def _read(name: str, root: Path) -> Source:
    from ..vision import datasets

    source = getattr(datasets, name)
    folder = root / name / "raw"
    archives = [folder / file for file, _ in source.resources]
    missing = [file for file in archives if not (file.exists() or file.with_suffix("").exists())]
    if missing:
        try:
            source(root, download=True)
        except Exception as error:  # torchvision passes on whatever its network stack raises
            remove_empty(folder, root)
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"dataset.root={root}: {missing[0]} is not there and could not be downloaded "
                f"({reason}): put torchvision's {missing[0].name} there, or set DATA_ROOT"
            ) from error
    # torchvision extracts beside the archives, over whatever is there: it reads a copy instead.
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / name / "raw"
        copy.mkdir(parents=True)
        for archive, (_, md5) in zip(archives, source.resources, strict=True):
            _extract(archive, md5, copy / archive.stem)
        try:
            train, test = source(scratch, train=True), source(scratch, train=False)
        except Exception as error:
            raise UserError(f"dataset.root={root}: {folder} holds a broken file: {error}") from error
        names = tuple(name.split(" - ")[0] for name in source.classes)
        return Source(
            *(
                Labelled(part.data.unsqueeze(1).numpy(), part.targets.numpy(), names)
                for part in (train, test)
            )
        )


def _extract(archive: Path, md5: str, target: Path) -> None:
    extracted = archive.with_suffix("")
    if extracted.exists():
        try:
            target.symlink_to(extracted.resolve())
        except OSError:  # Windows wants a privilege for it
            shutil.copyfile(extracted, target)
        return
    if hashlib.md5(archive.read_bytes()).hexdigest() != md5:
        raise UserError(
            f"{archive} is not the published file (its md5 differs): delete it, or replace it"
        )
    with gzip.open(archive) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out)
