"""Which samples are trained on, validated on and tested on: as the data say; what they do not say is
drawn."""

from collections.abc import Sequence

import numpy as np

from ..losses import BadArgument
from .splits import Labelled

# What people call the three parts, in lower case.
PART_NAMES = {"train": "train", "training": "train"}
PART_NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
PART_NAMES |= dict.fromkeys(("test", "testing"), "test")
# And what they call parts of which it is not known whether they validate or test.
OTHER_PARTS = {"eval", "evaluation", "gallery", "holdout", "probe", "query"}
IN_WORDS = {"train": "training", "val": "validation", "test": "test"}
ROLES = ("query", "gallery", "both")
NOT_SPLIT = ""  # stands for the one part of data that are not divided


def parts_called(names: Sequence[str], where: str) -> list[str]:
    """The part that each name says, if all say one, else `NOT_SPLIT` for each. Raises ValueError, which
    calls the place `where`, if all may say one, and some are unclear, as `eval` is."""
    known = [PART_NAMES.get(name.lower()) for name in names]
    if all(known):
        return known
    unclear = [name for name in names if name.lower() in OTHER_PARTS]
    if len(unclear) + sum(map(bool, known)) == len(names):
        raise ValueError(f"{where}: {unclear[0]} looks like a split; splits are train, val and test")
    return [NOT_SPLIT] * len(names)


def draw_test(
    where: str, whole: Labelled, split: str, fraction: float, seed: int
) -> tuple[Labelled | None, Labelled]:
    """Parts to train on and to test on: `fraction` of each class's samples, at least one, or of the
    classes, is tested on; all of them if it is 1. Raises ValueError if there are too few classes."""
    if len(whole.classes) < 2:
        raise ValueError(f"{where}: only one class, {whole.classes[0]}; expected at least two")
    if fraction == 1:
        return None, whole
    if split == "closed_set":
        return whole.split_samples(fraction, seed)
    parts = whole.split_classes(fraction, seed)
    if parts is None:
        raise BadArgument(
            "test_fraction",
            fraction,
            f"leaves fewer than 2 of the {len(whole.classes)} classes in {where} to train on: use less, "
            "more classes, or a closed set",
        )
    return parts


def check_classes(where: str, split: str, parts: dict[str, Labelled]) -> None:
    """Raise ValueError if a part of a closed set has classes that are not trained on, or if two parts of
    an open set have a class in common."""
    classes = {part: set(labelled.classes) for part, labelled in parts.items()}
    for first, second in (("train", "test"), ("train", "val"), ("val", "test")):
        if not {first, second} <= set(parts):
            continue
        common, new = classes[first] & classes[second], classes[second] - classes[first]
        names = IN_WORDS[first], IN_WORDS[second]
        if split != "closed_set" and common:
            raise BadArgument(
                "split",
                split,
                f"class {min(common)} is in both the {names[0]} and the {names[1]} part of {where}; an "
                "open set must test classes that were not used before; did you mean closed_set?",
            )
        if split == "closed_set" and first == "train" and new:
            raise BadArgument(
                "split",
                split,
                f"class {min(new)} is in the {names[1]} part of {where} and not in the training part; "
                "an open set tests classes that were not trained on; did you mean open_set?",
            )


def relabelled(part: Labelled, classes: tuple[str, ...]) -> Labelled:
    """`part` with labels that index `classes`, which include its own."""
    row_of = {name: row for row, name in enumerate(classes)}
    new_label = np.array([row_of[name] for name in part.classes], int)
    return part._replace(labels=new_label[part.labels], classes=classes)
