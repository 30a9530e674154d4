"""Images that are there more than once: trained on and tested, counted twice, or with two labels."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..losses import BadArgument
from ..words import counted
from .files import Files
from .parts import IN_WORDS
from .splits import Labelled

WhatToDo = Literal["warn", "drop", "refuse"]
# Small letters of other alphabets, and the Latin ones that they look like.
LOOK_ALIKES = str.maketrans("аеіјорсухѕԁһԛԝονρυϲ", "aeijopcyxsdhqwovpuc")


class Duplicates(NamedTuple):
    """Rows of images that are the same as an earlier one, and the row of that: one with another label;
    one with the same label in another split; one with the same label in the same split."""

    contradicting: dict[int, int]
    across: dict[int, int]
    within: dict[int, int]


def duplicates_among(
    groups: Iterable[Sequence[int]], labels: Sequence[str | None], splits: Sequence[str]
) -> Duplicates:
    """The kinds of duplicates in `groups` of ascending rows, each of the same image. A label of None is
    not known: it contradicts none, and its images are there as often as they are meant to be."""
    found = Duplicates({}, {}, {})
    for rows in groups:
        seen: dict[str | None, dict[str, int]] = {}  # the first row of each label and split
        for row in rows:
            label, split = labels[row], splits[row]
            others = (of for other, of in seen.items() if None not in (other, label) and other != label)
            for of in others:
                found.contradicting[row] = next(iter(of.values()))
                break
            for of in seen.values() if label is None else [seen.get(label, {})]:
                for its_split, first in of.items():
                    if its_split != split:
                        found.across.setdefault(row, first)
                    elif label is not None:
                        found.within.setdefault(row, first)
            seen.setdefault(label, {}).setdefault(split, row)
    return found


def pixel_hashes(images: np.ndarray | Files) -> np.ndarray:
    """Hashes (N,) of the pixels, or features, of each image: 64 bits, which two of a million images
    share by chance in one of 40 million data sets. Files are decoded, and none is kept; raises
    BrokenImage that names one that cannot be."""
    if isinstance(images, Files):
        return np.array(images.of_each(pixel_hash, "checking images"), np.uint64)
    return np.array([pixel_hash(image) for image in images], np.uint64)


def pixel_hash(image: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image), digest_size=8).digest())


class Copies(NamedTuple):
    """The images (n,) of several splits that are there more than once, in the order of the splits:
    labels, None in pairs, splits and names, and groups of the same image, by their places here."""

    labels: list[str | None]
    splits: list[str]
    names: list[str]
    groups: list[list[int]]


def look_for_duplicates(
    parts: Mapping[str, Labelled], hashes: Mapping[str, np.ndarray], then: WhatToDo
) -> tuple[dict[str, Labelled], tuple[str, ...], tuple[str, ...]]:
    """The parts of a data set, a line for each kind of duplicate among their images, and for class names
    that look the same; and the names of the images that `drop` leaves out: those that are validated on
    or tested from training, those that are tested from validation, all but one of several, and all that
    have several labels. The images of pairs stay. Raises BadArgument if `then` is to refuse
    duplicates, or if dropping them leaves too little."""
    _, which, counts = np.unique(
        np.concatenate([hashes[split] for split in parts]), return_inverse=True, return_counts=True
    )
    rows = np.flatnonzero(counts[which] > 1)
    copies = copies_of(parts, rows, which[rows])
    sizes = {split: len(part.labels) for split, part in parts.items()}
    lines = [
        *in_words(copies, sizes),
        *alike(dict.fromkeys(name for part in parts.values() for name in part.classes)),
    ]
    if lines and then == "refuse":
        raise BadArgument("duplicates", then, "; ".join(lines))
    if then != "drop" or not len(rows):
        return dict(parts), tuple(lines), ()
    dropped = [place for group in copies.groups for place in places_to_drop(copies, group)]
    left_out = np.zeros(len(which), bool)
    left_out[rows[dropped]] = True
    return (
        without(parts, left_out),
        tuple(lines),
        tuple(copies.names[place] for place in sorted(dropped)),
    )


def copies_of(parts: Mapping[str, Labelled], rows: np.ndarray, which: np.ndarray) -> Copies:
    """What is known of some `rows` (n,) of all parts, one part after the other; `which` (n,) says of
    which image each is."""
    copies, first = Copies([], [], [], []), 0
    for split, part in parts.items():
        own = rows[(rows >= first) & (rows < first + len(part.labels))] - first
        first += len(part.labels)
        copies.splits.extend([split] * len(own))
        labels = part.labels[own].tolist()
        listed = part.pairs is not None or (part.queries and part.queries.relevant is not None)
        copies.labels.extend(None if listed else part.classes[label] for label in labels)
        named = part.names is not None
        copies.names.extend(
            part.names[own].tolist() if named else [f"{IN_WORDS[split]} image {row}" for row in own]
        )
    groups = defaultdict(list)
    for place, group in enumerate(which.tolist()):
        groups[group].append(place)
    copies.groups.extend(groups.values())
    return copies


def in_words(copies: Copies, sizes: Mapping[str, int]) -> list[str]:
    """A line for each kind of duplicate, with their number and an example."""
    labels, splits, names, groups = copies
    found = duplicates_among(groups, labels, splits)
    kinds: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row, first in sorted([*found.across.items(), *found.within.items()]):
        split, other = splits[row], splits[first]
        what = "copies of others there" if other == split else f"{IN_WORDS[other]} images too"
        kinds[f"of {sizes[split]:,} {IN_WORDS[split]} images are {what}"].append((row, first))
    lines = [
        f"{len(pairs):,} {what}, as {names[pairs[0][0]]} and {names[pairs[0][1]]}"
        for what, pairs in kinds.items()
    ]
    if found.contradicting:
        row, first = min(found.contradicting.items())
        number = counted(len(found.contradicting), "image")
        example = " and ".join(f"{names[each]} ({labels[each]})" for each in (row, first))
        lines.append(f"{number} with another label than their copy, as {example}")
    return lines


def alike(classes: Iterable[str]) -> list[str]:
    """A line on names of classes that differ in case, blanks and look-alike letters only, if any do."""
    several = defaultdict(list)
    for name in classes:
        letters = unicodedata.normalize("NFKC", name).casefold().translate(LOOK_ALIKES)
        shown = (c for c in letters if not c.isspace() and unicodedata.category(c) != "Cf")
        several["".join(shown)].append(name)
    pairs = [names for names in several.values() if len(names) > 1]
    if not pairs:
        return []
    number = counted(sum(map(len, pairs)), "class")
    what = " and ".join(map(repr, pairs[0][:2]))
    return [f"{number} with names that differ in case, blanks or look-alike letters only: {what}"]


def places_to_drop(copies: Copies, group: list[int]) -> list[int]:
    """Of copies of one image, those to leave out: all but the first of the last split, or all if their
    labels differ. Those without a label stay."""
    droppable = [place for place in group if copies.labels[place] is not None]
    if len({copies.labels[place] for place in droppable}) > 1:
        return droppable
    kept = next(place for place in group if copies.splits[place] == copies.splits[group[-1]])
    return [place for place in droppable if place != kept]


def without(parts: Mapping[str, Labelled], left_out: np.ndarray) -> dict[str, Labelled]:
    """The parts without some rows, and without the classes of which none is left. Raises BadArgument if
    a class of a closed set is then tested that is not trained on."""
    ends = np.cumsum([len(part.labels) for part in parts.values()])[:-1]
    kept = dict(zip(parts, np.split(~left_out, ends), strict=True))
    present = {split: np.unique(part.labels[kept[split]]) for split, part in parts.items()}
    train = parts.get("train")
    if train is not None and all(part.classes == train.classes for part in parts.values()):  # closed
        for split, classes in present.items():
            untrained = np.setdiff1d(classes, present["train"])
            if len(untrained):
                why = f"leaves no image of class {train.classes[untrained[0]]} to train on"
                raise BadArgument("duplicates", "drop", f"{why}, which {IN_WORDS[split]} images are of")
        present = dict.fromkeys(parts, present["train"])
    return {
        split: part if kept[split].all() and len(present[split]) == len(part.classes)
        else part.pick(kept[split], present[split])
        for split, part in parts.items()
    }  # fmt: skip
