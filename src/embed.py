"""Embed images with a trained run: `python -m src.embed <run> <folder or data set> --out file.npz`."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

from .config import check
from .datasets import READERS, Files, StreamedSplit
from .datasets.files import examine, find_images, listed
from .errors import UserError
from .evaluate import with_overrides
from .trained import Trained, load_trained
from .training import embed


def folder_split(run: Trained, folder: Path, skip_broken: bool) -> tuple[StreamedSplit, list[Path]]:
    """All images in a folder and below, read as they are embedded, labelled by the folder they lie in;
    and those that were left out. Raises UserError for one that is broken, or if there are none."""
    paths = find_images(folder)
    seen, broken = examine(paths, whole=True)
    if broken and not skip_broken:
        path, why = next(iter(broken.items()))
        raise UserError(f"{path}: not an image that can be read: {why}; --skip-broken leaves such out")
    paths = [path for path, kind in zip(paths, seen, strict=True) if kind]
    if not paths:
        raise UserError(f"{folder}: no image is in it")
    names = [path.relative_to(folder) for path in paths]
    classes, labels = np.unique([name.parent.as_posix() for name in names], return_inverse=True)
    split = StreamedSplit(
        Files(np.array([str(path) for path in paths]), run.image_shape),
        torch.from_numpy(labels).to(run.device.torch),
        run.mean,
        run.std,
        tuple(classes.tolist()),
        np.array([name.as_posix() for name in names]),
    )
    return split, list(broken)


def embed_into(run: Trained, source: str, out: Path, overrides: list[str], part: str, skip: bool) -> str:
    """Write embeddings (N, D), labels (N,), class names, and file names where there are files; say what
    was done, in a line."""
    if out.exists():
        raise UserError(f"--out {out}: is there already, and would be overwritten; name a new file")
    skipped = []
    if source and Path(source).is_dir():
        if overrides:
            raise UserError(f"{overrides[0]}: of a data set, and {source} is a folder of images")
        split, skipped = folder_split(run, Path(source), skip)
    elif source in READERS:
        config = with_overrides(run, [f"dataset={source}", *overrides])
        check(config)
        needs = {} if run.owns(config["dataset"]) or part == "validation" else {"val_fraction": 0}
        data = run.data(config["dataset"] | needs)
        split, skipped = getattr(data, {"validation": "val"}.get(part, part)), data.skipped
        if split is None:
            raise UserError(f"--split {part}: dataset={source} has none")
    else:
        known = ", ".join(READERS)
        raise UserError(f"{source!r}: neither a folder nor a data set; those are {known}")
    embeddings = embed(run.backbone, split, run.device).cpu().numpy()
    arrays = {"labels": split.labels.cpu().numpy(), "classes": np.array(split.classes, dtype=str)}
    if split.names is not None:
        arrays["names"] = split.names.astype(str)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp")
    with open(unfinished, "wb") as file:
        np.savez_compressed(file, embeddings=embeddings, **arrays)
    os.replace(unfinished, out)
    left_out = f"; {len(skipped)} left out: {listed(skipped)}" if skipped else ""
    return f"{len(embeddings):,} embeddings of {embeddings.shape[1]} dimensions -> {out}{left_out}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.embed", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("source", help="a folder of images, or a data set's name")
    parser.add_argument("overrides", nargs="*", help="of the data set, as in dataset.root=<folder>")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out what is no image, and say so"
    )
    given = parser.parse_intermixed_args()
    try:
        run = load_trained(given.run)
        if run.unfinished:
            print(run.unfinished)
        print(embed_into(run, given.source, given.out, given.overrides, given.split, given.skip_broken))
    except (UserError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
