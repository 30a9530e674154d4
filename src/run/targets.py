"""The classes that a configuration names by `_target_`: found, checked, called with its arguments."""

import functools
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, ModuleType

from hydra.utils import get_object

from ..arguments import parameters
from ..errors import UserError

# Where this project's own choices of a group come from.
PACKAGES = {
    "loss": "src.losses",
    "model": "src.models",
    "dataset": "src.datasets",
    "optimizer": "src.training",
    "schedule": "src.training",
}
# What rebuilding a trained run calls; optimizers and schedules are only ever made by a command that was
# typed.
REBUILT = ("loss", "model", "dataset")
MESSAGE_LENGTH = 300  # of what a constructor says


@functools.cache
def locate(group: str, path: str) -> Callable:
    """The class or function that `<group>._target_` names. Raises UserError if there is none."""
    try:
        found = get_object(path)
    except Exception as error:  # whatever a module raises while it is imported
        why = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{group}._target_={path}: cannot be imported ({why})") from None
    if not callable(found) or isinstance(found, ModuleType):
        raise UserError(f"{group}._target_={path}: neither a class nor a function")
    return found


def check_trusted(config: Mapping, allowed: Iterable[str] = ()) -> None:
    """Raise UserError unless everything that rebuilding a run calls is this project's own, or of a
    package that the user allowed. Looks at names: nothing foreign is imported before it is allowed."""
    for group in REBUILT:
        target = config[group].get("_target_")
        package, _, name = str(target).rpartition(".")
        if package == PACKAGES[group] and name in importlib.import_module(package).__all__:
            continue
        if not any(str(target).startswith(f"{prefix}.") for prefix in allowed):
            raise UserError(
                f"{group}._target_={target}: not a class of this project; "
                f"--allow {str(target).split('.')[0]} trusts that package with running its code"
            )


def call_arguments(target: Callable, keys: Mapping, options: Mapping) -> dict:
    """`options`, and those of a group's other `keys` that the target has a parameter for."""
    accepted = parameters(target)
    return {key: value for key, value in keys.items() if key in accepted} | dict(options)


@contextmanager
def qualified(
    keys: Mapping[str, str], otherwise: str, values: Mapping[str, object] = MappingProxyType({})
) -> Iterator[None]:
    """Turn what a constructor raises about its own arguments into a UserError about configuration keys.

    `keys` gives the key of each argument. In a message, the key takes the place of `<argument>=`; a
    message that begins with an argument's name, or names no other, is prefixed with its key and its
    value of `values`, one that names no argument and no file with `otherwise`.
    """
    try:
        yield
    except (TypeError, ValueError, IndexError, RuntimeError, AssertionError) as error:
        message = without_middle((str(error) or type(error).__name__).splitlines()[0])
        said = re.findall(r"\w+", message)
        named = [name for name in values if name in keys and name in said]
        name = said[0] if said and said[0] in named else named[0] if len(named) == 1 else None
        if name and f"{name}=" not in message:
            raise UserError(f"{keys[name]}={values[name]}: {message}") from error
        raise UserError(in_keys(message, keys, otherwise)) from error


def without_middle(message: str) -> str:
    """A message that is not too long to read: what is wrong stands at one end of it."""
    half = MESSAGE_LENGTH // 2
    return message if len(message) <= MESSAGE_LENGTH else f"{message[:half]} … {message[-half:]}"


def in_keys(message: str, keys: Mapping[str, str], otherwise: str = "") -> str:
    """The message with `name=` replaced by `key=` for each argument; prefixed with `otherwise` where it
    names neither an argument nor a file."""
    names = "|".join(sorted(map(re.escape, keys), key=len, reverse=True))
    if not names:
        return f"{otherwise}: {message}" if otherwise else message
    replaced, count = re.subn(rf"(?<![\w.])({names})(?==)", lambda match: keys[match.group(1)], message)
    if count or message.startswith("/") or not otherwise:
        return replaced
    return f"{otherwise}: {message}"
