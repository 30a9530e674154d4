"""The images that a command line names, embedded by a trained run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.checks import with_classes
from ..config.compose import CONF
from ..datasets import Dataset, Files, Split, StreamedSplit
from ..datasets.files import composed, examine, find_images
from ..datasets.splits import Queries
from ..durable import written_aside
from ..errors import UserError
from ..foreign import printable
from .arguments import arguments_of
from .evaluation import with_overrides
from .load import REBUILT, Trained

DATASET_FIELDS = {"train": "train", "validation": "val", "test": "test"}  # of a Dataset


@dataclass(frozen=True)
class Embedded:
    """Embeddings (N, D) with labels (N,) that index `classes`, and the images, one split after the
    other; no `splits` where the embeddings came from a file."""

    embeddings: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    splits: dict[str, Split]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def unit(self) -> Tensor:
        """The embeddings, of length 1."""
        return F.normalize(self.embeddings, dim=1)

    @property
    def names(self) -> list[str]:
        """The images' file names, or their numbers in their split (N)."""
        splits = self.splits.values()
        named = (range(len(each)) if each.names is None else each.names for each in splits)
        return [printable(name) for name in chain.from_iterable(named)]

    @property
    def split_names(self) -> list[str]:
        """The split of each image (N)."""
        return [name for name, split in self.splits.items() for _ in range(len(split))]

    @property
    def pictures(self) -> bool:
        """Whether the images are at hand, and not features."""
        return bool(self.splits) and all(split.pictures for split in self.splits.values())

    def pick(self, rows: Tensor, what: Callable[[Split, Tensor], Tensor]) -> Tensor:
        """`what` of a split and some of its rows, for any rows (n,), in their order."""
        parts, places, first = [], [], 0
        for split in self.splits.values():
            inside = ((rows >= first) & (rows < first + len(split))).nonzero().squeeze(1)
            if len(inside):
                parts.append(what(split, rows[inside] - first))
                places.append(inside)
            first += len(split)
        return torch.cat(parts)[torch.cat(places).argsort().to(parts[0].device)]

    def thumbnails(self, rows: Tensor) -> np.ndarray:
        """Images `rows` (n,) as bytes (n, height, width, channels)."""

        def small(split: Split, rows: Tensor) -> Tensor:
            return torch.from_numpy(split.thumbnails(rows.cpu().numpy()))

        return self.pick(rows, small).numpy()


def embedded(run: Trained, splits: dict[str, Split]) -> Embedded:
    """Embed splits, whose classes are the same where their names are."""
    classes = tuple(dict.fromkeys(chain.from_iterable(split.classes for split in splits.values())))
    place = {name: label for label, name in enumerate(classes)}
    labels = [
        torch.tensor([place[name] for name in split.classes], device=split.labels.device)[split.labels]
        for split in splits.values()
    ]
    embeddings = torch.cat([run.embed(split) for split in splits.values()])
    return Embedded(embeddings, torch.cat(labels), tuple(map(printable, classes)), splits)


def images_split(
    run: Trained, sources: list[Path], skip_broken: bool
) -> tuple[StreamedSplit, list[Path]]:
    """All images among some files and folders, read as they are embedded and labelled by the folder they
    lie in; and those that were left out. Raises UserError for one that is broken, or if there are
    none."""
    if not run.pictures:
        raise UserError(f"{sources[0]}: images; the model of {run.folder} takes features")
    found: dict[Path, Path] = {}  # and what each is called
    for source in sources:
        if source.is_dir():
            with arguments_of("dataset"):
                inside = find_images(source)
            above = Path() if len(sources) == 1 else Path(source.resolve().name)
            found |= {path: above / path.relative_to(source) for path in inside}
        else:
            found[source] = Path(source.name)
    paths = list(found)
    headers, broken = examine(paths, whole=True)
    if broken and not skip_broken:
        path, why = next(iter(broken.items()))
        raise UserError(
            f"{path}: not an image that can be read: {why}; --skip-broken leaves such files out"
        )
    paths = [path for path, header in zip(paths, headers, strict=True) if header]
    if not paths:
        raise UserError(f"{', '.join(map(str, sources))}: no image is in it")
    names = [found[path] for path in paths]
    folders = [composed(name.parent.as_posix()) for name in names]
    classes, labels = np.unique(folders, return_inverse=True)
    split = StreamedSplit(
        Files(np.array([str(path) for path in paths]), run.image_shape),
        torch.from_numpy(labels).to(run.device.torch),
        run.mean,
        run.std,
        tuple(classes.tolist()),
        np.array([name.as_posix() for name in names]),
    )
    return split, list(broken)


def dataset_splits(
    run: Trained, source: str, overrides: list[str], part: str, config_dir: Path | None
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The `train`, `validation` or `test` part of a data set, or `all`, by name, and the files that were
    left out. The run's own data set is read from where the run read it, unless `overrides` place it."""
    placed = any(o.lstrip("+").startswith(("dataset.root=", "dataset.file=")) for o in overrides)
    own = source == run.config.name("dataset") and not placed
    config = with_overrides(run, [*([] if own else [f"dataset={source}"]), *overrides], config_dir)
    config = with_classes(config, REBUILT)
    needs = {} if run.owns(config) or part == "validation" else {"val_fraction": 0.0}
    return asked_splits(run.data(config.replace(dataset=needs)), part, f"dataset={source}")


def asked_splits(data: Dataset, part: str, called: str) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The split `part` of a data set, or `all`, by name, and the files that were left out."""
    wanted = DATASET_FIELDS if part == "all" else {part: DATASET_FIELDS[part]}
    splits = {name: getattr(data, key) for name, key in wanted.items()}
    splits = {name: split for name, split in splits.items() if split is not None}
    if not splits:
        raise UserError(f"--split {part}: {called} has none")
    return splits, data.skipped


def splits_of(
    run: Trained, words: list[str], part: str, skip_broken: bool, config_dir: Path | None = None
) -> tuple[dict[str, Split], Sequence[object]]:
    """The images that a command line names, by split, and what was left out of them: files and folders,
    which have no split; one data set with its overrides; or nothing, for the run's own data. Raises
    UserError for anything else."""
    if not words:
        return asked_splits(run.data(run.config), part, "the run's data set")
    words = [word.removeprefix("dataset=") for word in words]
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    sources = [word for word in words if word not in overrides]
    known = sorted(
        path.stem
        for folder in (CONF, *([config_dir] if config_dir else []))
        for path in (folder / "dataset").glob("[!_]*.yaml")
    )
    missing = [source for source in sources if not (source and Path(source).exists())]
    if sources and not missing:
        if overrides:
            raise UserError(f"{overrides[0]}: this is for a data set, but {sources[0]} is of images")
        split, left_out = images_split(run, [Path(source) for source in sources], skip_broken)
        return {"": split}, left_out
    if len(sources) == 1 and sources[0] in known:
        return dataset_splits(run, sources[0], overrides, part, config_dir)
    what = (missing or words)[0]
    raise UserError(
        f"{what!r}: neither an image or a folder nor a data set; those are {', '.join(known)}"
    )


def write_embeddings(out: Path, images: Embedded) -> None:
    """Write embeddings (N, D), labels (N,), class names, and, where there are any, names, roles and
    cameras (N,) and rows (P, 2) of what is relevant to each query."""
    arrays = {"embeddings": images.embeddings.cpu().numpy(), "labels": images.labels.cpu().numpy()}
    arrays["classes"] = np.array(images.classes, dtype=str)
    if all(split.names is not None for split in images.splits.values()):
        arrays["names"] = np.array(images.names)
    splits = list(images.splits.values())
    if any(split.queries for split in splits):  # what is trained on has none
        queries = [split.queries or Queries(np.full(len(split), "")) for split in splits]
        arrays["roles"] = np.concatenate([each.roles for each in queries])
        if len(splits) > 1:
            arrays["splits"] = np.array(images.split_names)
        if any(each.cameras is not None for each in queries):
            arrays["cameras"] = np.concatenate(
                [
                    np.full(len(each.roles), "") if each.cameras is None else each.cameras.astype(str)
                    for each in queries
                ]
            )
        before = np.cumsum([0, *map(len, splits)])
        lists = [
            each.relevant + first
            for each, first in zip(queries, before, strict=False)
            if each.relevant is not None
        ]
        if lists:
            arrays["relevant"] = np.concatenate(lists)
    with written_aside(out) as beside, open(beside, "wb") as file:  # a path gets .npz appended
        np.savez_compressed(file, **arrays)
