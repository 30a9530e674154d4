"""What the signature of a function or class allows, asked of pydantic."""

import inspect
import json
from collections.abc import Callable, Mapping

from pydantic import ConfigDict, TypeAdapter, ValidationError

STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def parameters(target: Callable) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def why_not(target: Callable, name: str, value: object) -> str | None:
    """Why an argument may not have a value; None where it may."""
    legal = TypeAdapter(parameters(target)[name].annotation, config=STRICT)
    try:
        legal.validate_json(json.dumps(value))  # of which lists are tuples, as in YAML
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return None


def check_signature(target: Callable, *by_the_caller: str) -> None:
    """Every argument that a configuration may give has a type and a legal default."""
    for name, parameter in parameters(target).items():
        if name in by_the_caller or parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert parameter.annotation is not parameter.empty, (target, name)
        if parameter.default is not parameter.empty:
            assert why_not(target, name, parameter.default) is None, (target, name)
