"""Mistakes in a configuration, each with the key that is wrong, and all of them said at once."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import UserError
from .fields import spelled

LISTED = 20  # names in a message; more help nobody
MISSING = object()


class BadKey(UserError):
    """A mistake about one key, printed as `key=value: why`."""

    def __init__(self, key: str, value: Any, why: str):
        self.key, self.value, self.why = key, value, why
        given = key if value is MISSING else f"{key}={spelled(value)}"
        super().__init__(f"{given}: {why}")


class Mistakes:
    """Collects errors and raises them together."""

    def __init__(self):
        self.errors: list[UserError] = []

    def of(self, check: Callable[..., Any], *arguments: Any) -> Any:
        """Call `check` and return its result; keep what it refuses, and return None."""
        try:
            return check(*arguments)
        except UserError as error:
            self.add(error)

    def add(self, error: UserError) -> None:
        self.errors += error.errors if isinstance(error, Refused) else [error]

    def refuse(self) -> None:
        """Raise Refused if there are any."""
        if self.errors:
            raise Refused(self.errors)


class Refused(UserError):
    """Several mistakes, a line each. Where a whole configuration is refused, `rest` is the same with
    defaults for the keys that are wrong, and `spoiled` are the groups of these, so that more can be
    checked."""

    def __init__(self, errors: Iterable[UserError], rest: Any = None, spoiled: Iterable[str] = ()):
        self.errors = list({str(error): error for error in errors}.values())
        self.rest, self.spoiled = rest, set(spoiled)
        super().__init__("\n".join(map(str, self.errors)))


def mistakes_in(error: ValidationError, given: Any, legal: Callable[[str], str | None]) -> list[BadKey]:
    """A BadKey for each key of `given` that pydantic refuses; `legal` says which values a key may
    have."""
    found: dict[str, BadKey] = {}
    for each in error.errors(include_url=False):
        value, path = given, []
        for part in each["loc"]:
            if not isinstance(value, Mapping):  # the rest says which member of a list, or of a union
                break
            path.append(str(part))
            value = value.get(part, MISSING)
        name = ".".join(path)
        expected = legal(name)
        why = f"expected {expected}" if expected else each["msg"]
        if each["type"] == "value_error":
            why = str(each["ctx"]["error"])
        elif value is MISSING:
            why = "no value, " + why
        found.setdefault(name, BadKey(name, value, why))
    return list(found.values())


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The key of `known` that comes nearest to a dotted `name`. The last part counts, and keys beside
    it, then those in the same group, come first."""
    for keys, cutoff in zip(_circles(name, list(known)), (0.6, 0.6, 0.75), strict=True):
        by_last = {key.rpartition(".")[2]: key for key in reversed(keys)}
        found = difflib.get_close_matches(name.rpartition(".")[2], by_last, 1, cutoff)
        if found:
            return by_last[found[0]]
    return None


def _circles(name: str, known: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The known keys with the parent of `name`, those in its group, and all; of Hydra's, the first
    alone."""
    parent, group = name.rpartition(".")[0], name.partition(".")[0]
    beside = [key for key in known if parent and key.startswith(f"{parent}.")]
    same = [key for key in known if parent and key.startswith(f"{group}.")]
    ours = [key for key in known if not key.startswith("hydra.")]
    return (beside, [], []) if group == "hydra" else (beside, same, ours)


def suggestion(name: str, known: Iterable[str]) -> str:
    """In words, which of the `known` names comes nearest, or which there are where none does."""
    known = list(known)
    near = nearest(name, known)
    if near:
        return f"did you mean {near}?"
    some = sorted(next(filter(None, _circles(name, known)), []))
    more = f" and {len(some) - LISTED} more (--cfg job)" if len(some) > LISTED else ""
    return f"there are {', '.join(some[:LISTED])}{more}" if some else "there are none"
