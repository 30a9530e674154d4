"""The options that several readers share, each with the values that are legal."""

from typing import Annotated, Literal

from pydantic import Field

# Whether the test classes are those that are trained on, or others.
ClosedOrOpen = Literal["closed_set", "open_set", "verification"]
Side = Annotated[int, Field(ge=4, le=4096)]
HEIGHT_AND_WIDTH = "height and width, 4 to 4096 pixels each, as in [112,112]"
Size = Annotated[tuple[Side, Side], Field(description=HEIGHT_AND_WIDTH)] | None  # None: as they are
Channels = Literal[1, 3] | None  # 1 grey, 3 RGB, None: as they are
MinImages = Annotated[int, Field(ge=1)] | None
TestFraction = Annotated[float, Field(gt=0, le=1)]  # 1: nothing is trained on
Seed = Annotated[int, Field(ge=0)]
File = Annotated[str, Field(min_length=1)]  # its path from the root
Column = Annotated[str, Field(min_length=1)]
