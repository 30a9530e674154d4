"""The user's own images: one folder a class."""

import os
from pathlib import Path

import numpy as np

from ..errors import UserError
from .files import Files, common_shape, examine, find_images, subfolders
from .splits import Labelled, Source

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def image_folder(
    root: Path,
    *,
    split: str = "open_set",
    test_fraction: float = 0.2,
    split_seed: int = 0,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    min_images: int | None = None,
    skip_broken: bool = False,
) -> Source:
    """`root`/<class>/…/<image>, or the same in `root`/train and `root`/test (and `root`/val).

    Without train/ and test/, `split` says what is held out for testing: `closed_set`, that share of each
    class's images; `open_set` (or `verification`), that share of the classes; 1 trains on none. Raises
    UserError naming what is wrong: a file that is no image, a class without images, or with fewer than
    two, or than `min_images`; with `skip_broken`, or where `min_images` is given, these are left out and
    named in `skipped`."""
    if not root.is_dir():
        raise UserError(
            f"dataset.root={root}: no such folder; name the one that your class folders are in"
        )
    given = {folder.name: folder for folder in subfolders(root)}
    parts = {"train", "test"} <= set(given)
    if given and not parts and {name.lower() for name in given} <= SPLITS:
        raise UserError(
            f"dataset.root={root}: has {'/, '.join(given)}/, which look like splits; wanted are train/ "
            "and test/ (and val/), or one folder a class"
        )
    if parts and set(given) - {"train", "val", "test"}:
        other = sorted(set(given) - {"train", "val", "test"})[0]
        raise UserError(
            f"dataset.root={root}: has train/ and test/, and beside them {other}/: which is it?"
        )
    folders = given if parts else {"": root}
    found = {part: collect(folder, min_images, skip_broken) for part, folder in folders.items()}
    skipped = tuple(
        os.path.relpath(path, root) for _, _, left_out in found.values() for path in left_out
    )
    paths = [path for files, _, _ in found.values() for path in files]
    kinds = [kind for _, seen, _ in found.values() for kind in seen]
    shape = common_shape(paths, kinds, size, channels)
    labelled = {part: label(folders[part], files, root, shape) for part, (files, _, _) in found.items()}
    if parts:
        train, test = labelled["train"], labelled["test"]
        check_parts(root, split, train, test)
        if split == "closed_set":
            test = in_terms_of(train, test)
        val = labelled.get("val")
        if val:
            check_parts(root, split, train, val, ("train", "val"))
            if split != "closed_set":
                check_parts(root, split, val, test, ("val", "test"))
            val = in_terms_of(train, val) if split == "closed_set" else val
        return Source(train, test, val, skipped)
    whole = labelled[""]
    if len(whole.classes) < 2:
        raise UserError(f"dataset.root={root}: one folder a class, here is {len(whole.classes)}")
    if test_fraction == 1:
        return Source(None, whole, skipped=skipped)
    if split == "closed_set":
        return Source(*by_sample(whole, test_fraction, split_seed), skipped=skipped)
    both = whole.split_classes(test_fraction, split_seed)
    if both is None:
        raise UserError(
            f"dataset.test_fraction={test_fraction}: of {len(whole.classes)} classes in {root} leaves "
            "fewer than 2 to train on: use less, more classes, or evaluation=closed_set"
        )
    return Source(*both, skipped=skipped)


def collect(folder: Path, min_images: int | None, skip_broken: bool):
    """Image files below a folder, by class and name; what each is; and what was left out, as paths."""
    if not subfolders(folder):
        raise UserError(f"dataset.root={folder}: no folders in it; one folder a class is wanted")
    stray = [path for path in find_images(folder) if path.parent == folder]
    if stray:
        raise UserError(
            f"{stray[0]}: an image beside the class folders: put it into one, or take it away"
        )
    paths, kinds, left_out = [], [], []
    for class_folder in subfolders(folder):
        files = find_images(class_folder)
        seen, broken = examine(files, whole=True)
        if broken and not skip_broken:
            path, why = next(iter(broken.items()))
            others = f" (and {len(broken) - 1} more in its class)" if len(broken) > 1 else ""
            raise UserError(
                f"{path}: not an image that can be read{others}: {why}; dataset.skip_broken=true leaves "
                "such out"
            )
        good = [path for path in files if path not in broken]
        left_out += broken
        if not good and not skip_broken:
            raise UserError(
                f"{class_folder}: a class without images: delete it, or dataset.skip_broken=true leaves "
                "it out"
            )
        if len(good) < 2 and min_images is None and good:
            raise UserError(
                f"{class_folder}: a class of one image ({good[0].name}), which is like nothing else: "
                "dataset.min_images=2 leaves such classes out, dataset.min_images=1 keeps them"
            )
        if len(good) < (min_images or 1):
            left_out.append(class_folder)
            continue
        paths += good
        kinds += [kind for kind in seen if kind]
    if not paths:
        raise UserError(f"dataset.root={folder}: no image is left of it")
    return paths, kinds, left_out


def label(folder: Path, paths: list[Path], root: Path, shape: tuple[int, int, int]) -> Labelled:
    of_class = [path.relative_to(folder).parts[0] for path in paths]
    classes, labels = np.unique(of_class, return_inverse=True)
    names = np.array([Path(os.path.relpath(path, root)).as_posix() for path in paths])
    held = np.array([str(path) for path in paths])
    return Labelled(Files(held, shape), labels, tuple(classes.tolist()), names)


def check_parts(
    root: Path,
    split: str,
    train: Labelled,
    test: Labelled,
    parts: tuple[str, str] = ("train", "test"),
) -> None:
    """Classes of the two parts are the same in a closed set, and others in an open one."""
    first, part = parts
    both = set(train.classes) & set(test.classes)
    if split != "closed_set" and both:
        raise UserError(
            f"evaluation={split}: class {min(both)} is in both {root}/{first} and {root}/{part}; an "
            "open set tests classes that nothing was chosen by: evaluation=closed_set?"
        )
    new = set(test.classes) - set(train.classes)
    if split == "closed_set" and new:
        raise UserError(
            f"evaluation=closed_set: class {min(new)} is in {root}/{part} and not in {root}/train: "
            "evaluation=open_set tests classes that were not trained on"
        )


def in_terms_of(train: Labelled, test: Labelled) -> Labelled:
    """`test`, labelled by the classes of `train`."""
    labels = np.array([train.classes.index(name) for name in test.classes])[test.labels]
    return test._replace(labels=labels, classes=train.classes)


def by_sample(whole: Labelled, fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    """Two parts with all classes in each; `fraction` of each class's images, and one at least, drawn by
    `seed`, in the second, as long as it has two."""
    rng, out = np.random.default_rng(seed), np.zeros(len(whole.labels), bool)
    for each in range(len(whole.classes)):
        members = np.flatnonzero(whole.labels == each)
        held = min(max(1, round(fraction * len(members))), len(members) - 1)
        out[rng.choice(members, held, replace=False)] = True
    return whole.pick(~out), whole.pick(out)
