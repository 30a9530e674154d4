"""Cross-validation: all labelled samples of a data set, dealt into folds."""

import hashlib
from dataclasses import replace

import numpy as np

from ..losses import BadArgument
from ..words import counted
from .files import Files
from .splits import Dealt, Labelled, Source


def check_fold(folds: int | None, fold: int | None) -> None:
    """Raise BadArgument unless both are None, or `fold` is one of 0 … `folds` − 1."""
    if folds is None and fold is not None:
        raise BadArgument("fold", fold, "give the number of folds too, as in folds=5")
    if folds is not None and (fold is None or not 0 <= fold < folds):
        raise BadArgument("fold", fold, f"expected one of 0 to {folds - 1} (folds={folds})")


def deal(source: Source, folds: int, fold: int, seed: int) -> tuple[Source, Dealt]:
    """All samples of a source, dealt anew: one fold to test on, the others to train on. If the test
    classes are those that are trained on, each class's samples are dealt, and otherwise whole classes.
    Which sample is in which fold depends on `seed`, and not on how the source was split. Raises
    BadArgument if there are too few classes or samples, or none that can be pooled."""
    closed = source.train is not None and set(source.train.classes) >= set(source.test.classes)
    whole = pooled(source, source.train.classes if closed else None, folds)
    fold_of = (samples_dealt if closed else classes_dealt)(whole, folds, seed)
    tested = fold_of == fold
    rows = hashlib.sha256(np.flatnonzero(tested).astype(np.int64).tobytes()).hexdigest()[:16]
    if closed:
        train, test = whole.pick(~tested), whole.pick(tested)
    else:
        train, test = (whole.pick(own, np.unique(whole.labels[own])) for own in (~tested, tested))
    dealt = Dealt(folds, fold, "samples" if closed else "classes", seed, rows)
    return replace(source, train=train, val=None, test=test, drawn=()), dealt


def pooled(source: Source, classes: tuple[str, ...] | None, folds: int) -> Labelled:
    """All samples of all splits, ordered by class and, from files, by name. `classes` are what labels
    index; None: all there are, sorted."""
    parts = [part for part in (source.train, source.val, source.test) if part is not None]
    if any(part.pairs is not None for part in parts):
        raise BadArgument("folds", folds, "the test set is pairs of images, which no fold could hold")
    if any(part.queries for part in parts):
        raise BadArgument(
            "folds", folds, "the test set has queries and a gallery, which folds would mix"
        )
    kinds = {type(part.images) for part in parts}
    if len(kinds) > 1 or not issubclass(*kinds, (np.ndarray, Files)):
        what = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise BadArgument("folds", folds, f"the images cannot be pooled ({what})")
    classes = classes or tuple(sorted({each for part in parts for each in part.classes}))
    labels = np.concatenate(
        [np.array([classes.index(each) for each in part.classes])[part.labels] for part in parts]
    )
    names = None
    if all(part.names is not None for part in parts):
        names = np.concatenate([part.names for part in parts])
    if isinstance(parts[0].images, Files):
        images = parts[0].images.joined([part.images for part in parts[1:]])
    else:
        images = np.concatenate([part.images for part in parts])
    order = np.argsort(labels, kind="stable") if names is None else np.lexsort((names, labels))
    return Labelled(images, labels, classes, names).pick(order)


def classes_dealt(whole: Labelled, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each sample, the same for all of a class; folds differ by a class at most."""
    total = len(whole.classes)
    if total < 2 * folds:  # a single class has no other to be confused with
        most = f"use at most {total // 2}" if total >= 4 else "expected at least 4"
        raise BadArgument("folds", folds, f"{total} classes are too few for two per fold: {most}")
    fold_of_class = np.empty(total, int)
    fold_of_class[np.random.default_rng(seed).permutation(total)] = np.arange(total) % folds
    return fold_of_class[whole.labels]


def samples_dealt(whole: Labelled, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each sample; of each class, and in all, folds differ by a sample at most."""
    counts = np.bincount(whole.labels, minlength=len(whole.classes))
    fewest = int(counts.min())
    if fewest < folds:
        which = whole.classes[int(counts.argmin())]
        most = f"use at most {fewest}, or " if fewest > 1 else ""
        raise BadArgument(
            "folds",
            folds,
            f"class {which} has {counted(fewest, 'image')}, too few for one per fold: {most}leave such "
            "classes out",
        )
    order = np.random.default_rng(seed).permutation(len(whole.labels))
    order = order[np.argsort(whole.labels[order], kind="stable")]  # by class, within each at random
    fold_of = np.empty(len(order), int)
    fold_of[order] = np.arange(len(order)) % folds
    return fold_of
