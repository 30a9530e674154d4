"""What a function or class may be given, read from its own signature: the names of its arguments, and
which values are legal. Configurations are checked with it before anything is built."""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
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
SMALLEST, LARGEST = 1.2e-38, 3.4e38  # besides 0, that float32 holds


def fits_float32(value: object) -> bool:
    return is_number(value) and (value == 0 or SMALLEST <= abs(value) <= LARGEST)


TYPES = {
    bool: TRUE_OR_FALSE,
    int: Legal("a whole number", lambda value: is_whole(value) and abs(value) < 2**63),
    float: Legal("a finite number", fits_float32),
    str: Legal("text", lambda value: isinstance(value, str)),
    type(None): Legal("null", lambda value: value is None),
    dict: Legal("keys with values", lambda value: isinstance(value, dict)),
}


def legal_by_type(annotation: object) -> Legal | None:
    """What a parameter's type lets it be, of values that a configuration can hold; None where its type
    does not say."""
    if annotation in TYPES:
        return TYPES[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return Legal(" or ".join(map(str, inner)), lambda value: value in inner)
    if origin in (typing.Union, types.UnionType):
        rules = [rule for rule in map(legal_by_type, inner) if rule]  # nobody types a tensor
        if not [rule for rule in rules if rule is not TYPES[type(None)]]:
            return None
        words = " or ".join(str(rule.words) for rule in rules)
        return Legal(words, lambda value: any(rule.test(value) for rule in rules))
    if origin in (list, tuple, Sequence):
        members = [part for part in inner if part is not Ellipsis]
        rules = [legal_by_type(part) for part in members]
        if not rules or None in rules:
            return None
        fixed = len(rules) if origin is tuple and Ellipsis not in inner else None
        what = f"a list of {fixed} values" if fixed else "a list"

        def fits(value: object) -> bool:
            if not isinstance(value, (list, tuple)) or fixed not in (None, len(value)):
                return False
            own = rules if fixed else rules * len(value)
            return all(rule.test(part) for rule, part in zip(own, value, strict=True))

        return Legal(f"{what}, each {rules[0].words}", fits)
    return None


def rules_of(parameter: inspect.Parameter) -> list[Legal]:
    """What is said about a parameter's values: by `Legal`, else by its type, else, of a switch, by its
    default."""
    annotation = parameter.annotation
    stated = [rule for rule in getattr(annotation, "__metadata__", ()) if isinstance(rule, Legal)]
    if stated:
        return stated
    if annotation is inspect.Parameter.empty and type(parameter.default) is bool:
        return [TRUE_OR_FALSE]
    by_type = legal_by_type(annotation)
    return [by_type] if by_type else []


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
    """Raise ValueError, with a line that begins with `name=value: ` for each argument that `target` does
    not take or whose value is not legal. `reserved` are parameters that the caller sets itself."""
    known = {name: p for name, p in parameters(target).items() if name not in reserved}
    wrong = []
    for name, value in given.items():
        if name not in known:
            if name in reserved or not takes_any(target):
                wrong.append(f"{name}={value}: no such option, {suggestion(name, known)}")
            continue
        default = known[name].default
        if type(value) is type(default) and value == default:
            continue
        broken = [rule for rule in rules_of(known[name]) if not rule.test(value)]
        wrong += [f"{name}={value}: {rule.explain(value)}" for rule in broken[:1]]
    if wrong:
        raise ValueError("\n".join(wrong))


LISTED = 20  # names in a message; more help nobody


def suggestion(name: str, known: Mapping[str, object] | list[str]) -> str:
    """In words, which of the `known` names comes nearest, or what there is where none does. Of dotted
    names the last part counts, and those in the same group come first."""
    group, last = name.split(".")[0], name.rpartition(".")[2]
    same = [key for key in known if "." in name and key.split(".")[0] == group] or list(known)
    for keys, cutoff in ((same, 0.6), (list(known), 0.75)):
        by_last = {key.rpartition(".")[2]: key for key in reversed(keys)}
        near = difflib.get_close_matches(last, list(by_last), 1, cutoff)
        if near:
            return f"did you mean {by_last[near[0]]}?"
    if not same:
        return "there are none"
    more = f" and {len(same) - LISTED} more (--cfg job)" if len(same) > LISTED else ""
    return f"there are {', '.join(sorted(same)[:LISTED])}{more}"
