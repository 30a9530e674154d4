"""Define keys: their line in the tree, their types, and the legal values in words."""

import math
import os
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

SMALLEST, LARGEST = 1.2e-38, 3.4e38  # float32's range of absolute values, besides 0


def key(
    default: Any,
    help: str,
    *,
    identity: bool = True,
    always: bool = False,
    default_of: str | None = None,
    **field,
) -> Any:
    """A key of the tree: its default, its help, and

    `identity`    whether it changes what a run computes
    `always`      whether it counts for a run's identity also with its default, which does something
    `default_of`  the key whose default it is, where nothing else reads it
    """
    extra = {"identity": identity, "always": always, "default_of": default_of}
    return Field(default, description=help, json_schema_extra=extra, **field)


class Group(BaseModel):
    """A group of keys. Unknown keys are refused, and so are numbers that are infinite or NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, validate_by_name=True
    )


def plain_number(value: Any) -> Any:
    """Reject bools, and numbers outside float32's range; text passes, and pydantic parses it."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "expected a number")
    size = abs(value) if isinstance(value, (int, float)) else 0
    if 0 < size < SMALLEST or LARGEST < size < math.inf:
        raise ValueError("expected a number in float32's range")
    return value


def expanded(value: str) -> str:
    return os.path.normpath(os.path.expanduser(value))


Number = Annotated[float, BeforeValidator(plain_number)]
Whole = Annotated[int, BeforeValidator(plain_number), Field(lt=2**63)]
Rate = Annotated[Number, Field(gt=0, lt=1e6)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(expanded)]


BOUNDS = {
    "ge": "≥ {:g}",
    "gt": "> {:g}",
    "le": "≤ {:g}",
    "lt": "< {:g}",
    "max_length": "of at most {} letters",
}


def bounds_in_words(metadata: Sequence[object]) -> str:
    """The limits in a field's metadata: ` ≥ 1, < 64`."""
    found = []
    for limit in metadata:
        if isinstance(limit, FieldInfo):
            found += [inner] if (inner := bounds_in_words(limit.metadata).strip()) else []
            continue
        for name, words in BOUNDS.items():
            bound = getattr(limit, name, None)
            if bound is not None and abs(bound) < 2**63 - 1:  # the largest integer goes without saying
                found.append(words.format(bound).replace("e+0", "e"))
    return f" {', '.join(found)}" * bool(found)


def in_words(annotation: object, metadata: Sequence[object] = ()) -> str | None:
    """The values that an annotation allows, or its description of them; None where it does not say."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    stated = [each.description for each in metadata if isinstance(each, FieldInfo) and each.description]
    if stated:
        return stated[0]
    if origin is Annotated:
        return in_words(inner[0], (*inner[1:], *metadata))
    if annotation in SIMPLE:
        return SIMPLE[annotation] + bounds_in_words(metadata)
    if origin is Literal:
        return "one of " + ", ".join(map(spelled, inner)) if len(inner) > 1 else spelled(inner[0])
    if origin in (typing.Union, types.UnionType):
        parts = [in_words(part, metadata if part is not type(None) else ()) for part in inner]
        said = [part for part in parts if part]  # nobody types a tensor
        return " or ".join(said) if said and said != ["null"] else None
    if origin in (list, tuple) or origin is Sequence:
        members = [part for part in inner if part is not Ellipsis]
        of = in_words(members[0]) if members else None
        if of in PLURAL and origin is not tuple:
            return f"a list of {PLURAL[of]}"
        count = f"{len(members)} " if origin is tuple and Ellipsis not in inner else ""
        return f"a list of {count}values" + f", each {of}" * bool(of)
    return None


PLURAL = {"a number": "numbers", "an integer": "integers", "text": "texts"}
SIMPLE = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "null",
    dict: "keys with values",
}


def spelled(value: Any) -> str:
    """A value as it is typed: `null`, `true`, `0.3`, `[112,112]`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.12g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(spelled, value)) + "]"
    return str(value)
