"""What a function or class may be given, read from its own signature: the names of its arguments, and
which values are legal. Configurations are checked with it before anything is built."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Legal:
    """States with a parameter what it may be, as a test and in words:

    def reader(root: Path, *, share: Annotated[float, Legal("a share from 0 to 1", is_share)] = 0.2)

    `words` may be a function of the illegal value, to suggest what comes near it.
    """

    words: str | Callable[[object], str]
    test: Callable[[object], bool]

    def explain(self, value: object) -> str:
        return self.words(value) if callable(self.words) else self.words


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole_from(least: int) -> Legal:
    return Legal(f"a whole number from {least}", lambda value: is_whole(value) and value >= least)


TRUE_OR_FALSE = Legal("true or false", lambda value: type(value) is bool)


def parameters(target: Callable) -> dict[str, inspect.Parameter]:
    """The named parameters of a function or class. Where a constructor passes `**options` on to the
    class it inherits from, that one's are included."""
    if not inspect.isclass(target):
        return _named(inspect.signature(target))
    found: dict[str, inspect.Parameter] = {}
    for cls in target.__mro__:
        if "__init__" not in vars(cls) or cls is object:
            continue
        signature = inspect.signature(vars(cls)["__init__"])
        found = _named(signature) | found
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return {name: parameter for name, parameter in found.items() if name != "self"}


def _named(signature: inspect.Signature) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in signature.parameters.items() if p.kind not in VARIADIC}


def takes_any(target: Callable) -> bool:
    """Whether a function has `**options`, so that only a library behind it knows their names."""
    return not inspect.isclass(target) and any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(target).parameters.values()
    )


def check_arguments(
    target: Callable, given: Mapping[str, object], reserved: tuple[str, ...] = ()
) -> None:
    """Raise ValueError, beginning with `name=value: `, for an argument that `target` does not take or
    whose value is not legal. `reserved` are parameters that the caller sets itself."""
    known = {name: p for name, p in parameters(target).items() if name not in reserved}
    for name, value in given.items():
        if name not in known:
            if takes_any(target) and name not in reserved:
                continue
            raise ValueError(f"{name}={value}: no such option, {suggestion(name, known)}")
        for rule in getattr(known[name].annotation, "__metadata__", ()):
            if isinstance(rule, Legal) and not rule.test(value):
                raise ValueError(f"{name}={value}: {rule.explain(value)}")


def suggestion(name: str, known: Mapping[str, object] | list[str]) -> str:
    """In words, which of the `known` names comes nearest, or all of them where none does."""
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(sorted(known))}" if known else "there are none"
