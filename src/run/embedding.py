"""Images embedded by a trained run, into a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..commands import refuse_existing
from ..config.checks import with_classes
from ..config.compose import CONF
from ..datasets import Dataset, Files, Split, StreamedSplit
from ..datasets.files import composed, examine, find_images, name_some
from ..durable import written_aside
from ..errors import UserError
from ..words import counted
from .arguments import arguments_of
from .evaluation import with_overrides
from .load import REBUILT, Trained


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


def dataset_split(
    run: Trained, source: str, overrides: list[str], part: str, config_dir: Path | None
) -> tuple[Split, tuple[str, ...]]:
    """The `train`, `validation` or `test` part of a data set, and the files that were left out. By its
    name alone the run's own is where it was."""
    placed = any(o.lstrip("+").startswith(("dataset.root=", "dataset.file=")) for o in overrides)
    own = source == run.config.name("dataset") and not placed
    config = with_overrides(run, [*([] if own else [f"dataset={source}"]), *overrides], config_dir)
    config = with_classes(config, REBUILT)
    needs = {} if run.owns(config) or part == "validation" else {"val_fraction": 0.0}
    data: Dataset = run.data(config.replace(dataset=needs))
    split = getattr(data, {"validation": "val"}.get(part, part))
    if split is None:
        raise UserError(f"--split {part}: dataset={source} has none")
    return split, data.skipped


def split_of(
    run: Trained, words: list[str], part: str, skip_broken: bool, config_dir: Path | None = None
) -> tuple[Split, Sequence[object]]:
    """The images that a command line names, files and folders or one data set with its overrides, and
    what was left out of them. Raises UserError for anything else."""
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
        return images_split(run, [Path(source) for source in sources], skip_broken)
    if len(sources) == 1 and sources[0] in known:
        return dataset_split(run, sources[0], overrides, part, config_dir)
    what = (missing or words)[0]
    raise UserError(
        f"{what!r}: neither an image or a folder nor a data set; those are {', '.join(known)}"
    )


def embed_into(
    run: Trained,
    words: list[str],
    out: Path,
    *,
    part: str,
    skip_broken: bool,
    config_dir: Path | None = None,
) -> str:
    """Write embeddings (N, D), labels (N,), class names, and file names where there are files, into
    `out`; return a line that says so. `words` name the images, see `split_of`. Raises UserError if `out`
    exists."""
    refuse_existing(out)
    split, skipped = split_of(run, words, part, skip_broken, config_dir)
    embeddings = run.embed(split).cpu().numpy()
    arrays = {"labels": split.labels.cpu().numpy(), "classes": np.array(split.classes, dtype=str)}
    if split.names is not None:
        arrays["names"] = split.names.astype(str)
    with written_aside(out) as beside, open(beside, "wb") as file:  # a path gets .npz appended
        np.savez_compressed(file, embeddings=embeddings, **arrays)
    left_out = f"; {len(skipped)} left out: {name_some(skipped)}" if skipped else ""
    number = counted(len(embeddings), "embedding")
    return f"{number} of {embeddings.shape[1]} dimensions -> {out}{left_out}"
