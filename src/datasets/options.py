"""The options that several readers share, each with the values that are legal."""

from collections.abc import Sequence
from typing import Annotated

from ..arguments import TRUE_OR_FALSE, Legal, is_number, is_whole, whole_from

SETS = ("closed_set", "open_set", "verification")


def _is_size(value: object) -> bool:
    if value is None:
        return True
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    return pair and all(is_whole(side) and 4 <= side <= 4096 for side in value)


# Whether the test classes are those that are trained on, or others.
ClosedOrOpen = Annotated[str, Legal(f"choose one of {', '.join(SETS)}", lambda value: value in SETS)]
Size = Annotated[
    Sequence[int] | None,
    Legal("height and width, 4 to 4096 pixels, as in size=[112,112]; null: as they are", _is_size),
]
Channels = Annotated[
    int | None,
    Legal(
        "1 grey, 3 RGB, null as the images are",
        lambda value: value is None or (is_whole(value) and value in (1, 3)),
    ),
]
MinImages = Annotated[
    int | None,
    Legal(
        "a whole number from 1, or null",
        lambda value: value is None or (is_whole(value) and value >= 1),
    ),
]
SkipBroken = Annotated[bool, TRUE_OR_FALSE]
TestFraction = Annotated[
    float,
    Legal("a share above 0, 1 to train on none", lambda value: is_number(value) and 0 < value <= 1),
]
Seed = Annotated[int, whole_from(0)]
File = Annotated[str, Legal("a file, from the root", lambda value: isinstance(value, str) and value)]
Column = Annotated[
    str, Legal("the name of a column", lambda value: isinstance(value, str) and value != "")
]
