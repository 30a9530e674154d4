"""The classes that a configuration names: what they take is their signature, checked by pydantic.

Importing a class may take seconds, torch's alone two: nothing here runs before it has to.
"""

import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Container, Mapping
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf
from pydantic import BeforeValidator, ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ..words import first_line
from .errors import MISSING, BadKey, Mistakes, mistakes_in, suggestion
from .fields import in_words, plain_number
from .tree import PACKAGES, Config

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# How many arguments a run passes by position, and those that it passes by name: no configuration may.
BY_POSITION = {"loss": 2, "model": 1, "dataset": 1, "optimizer": 1, "schedule": 3}
BY_NAME = {
    "loss": ("margin", "scale", "learnable_scale", "dynamic_scale"),
    "model": ("fetch",),
    # The last three want another kernel than `foreach`, which is what the project's optimizers use.
    "optimizer": ("lr", "foreach", "fused", "capturable", "differentiable"),
}


# Arguments of an object within a loss that the run fills in, by what they stand for.
FILLED_IN = {"num_classes": "classes", "embedding_size": "dimension", "embedding_dim": "dimension"}


@functools.cache
def locate(group: str, path: str) -> Callable:
    """Return the class or function that `<group>._target_` names. Raises BadKey if there is none."""
    found = callable_at(path, f"{group}._target_", lambda: nearest_class(group, path))
    if group == "loss":
        from ..losses import Head

        if not (inspect.isclass(found) and issubclass(found, Head)):
            why = (
                "not a subclass of src.losses.Head; loss=module loss.module._target_=… takes any module"
            )
            raise BadKey("loss._target_", path, why)
    return found


def callable_at(path: str, key: str, hint: Callable[[], str] = str) -> Callable:
    """Import a class or function. Raises BadKey for `key`, with a hint, if there is none."""
    try:
        found = imported(path)
    except Exception as error:  # whatever a module raises while it is imported
        why = first_line(error)
        raise BadKey(key, path, f"cannot be imported ({why}){hint()}") from None
    if not callable(found) or isinstance(found, types.ModuleType):
        raise BadKey(key, path, "neither a class nor a function")
    return found


def imported(path: str) -> Any:
    """Return the object at a dotted path; attributes come before modules of the same name."""
    first, *rest = path.split(".")
    found, walked = importlib.import_module(first), first
    for part in rest:
        walked += f".{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            if not isinstance(found, types.ModuleType):
                raise
            found = importlib.import_module(walked)
    return found


def nearest_class(group: str, path: str) -> str:
    """Words that propose the class of this project that comes nearest to a wrong path."""
    package, _, name = path.rpartition(".")
    if package != PACKAGES[group]:
        return ""
    found = difflib.get_close_matches(name, importlib.import_module(package).__all__, 1)
    return f"; did you mean {package}.{found[0]}?" if found else ""


def target_of(config: Config, group: str) -> Callable:
    return locate(group, getattr(config, group).target)


def arguments(group: str, target: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a group's class that a configuration may give."""
    named = parameters(target, BY_POSITION[group])
    return {name: p for name, p in named.items() if name not in BY_NAME.get(group, ())}


def is_own(group: str, target: str) -> bool:
    """Return whether a target is one of this project's own classes, without importing anything else."""
    package, _, name = target.rpartition(".")
    return package == PACKAGES[group] and name in importlib.import_module(package).__all__


@functools.cache
def parameters(target: Callable, by_position: int = 0) -> Mapping[str, inspect.Parameter]:
    """The named parameters of a function or class, without the first ones, which are passed by position.
    Where a constructor passes `**options` on to the class it inherits from, that one's are included."""
    found: dict[str, inspect.Parameter] = {}
    for function in constructors(target):
        found = _named(function, by_position + inspect.isclass(target)) | found
    return found


def constructors(target: Callable) -> list[Callable]:
    """A function itself; of a class, its constructor and those that it passes `**options` on to."""
    if not inspect.isclass(target):
        return [target]
    found = []
    for cls in target.__mro__:
        if "__init__" in vars(cls) and cls is not object:
            found.append(vars(cls)["__init__"])
            if not passes_on(found[-1]):
                break
    return found


def _named(function: Callable, by_position: int) -> dict[str, inspect.Parameter]:
    found = {}
    for p in inspect.signature(function).parameters.values():
        if p.kind in VARIADIC:
            continue
        if p.kind is not p.KEYWORD_ONLY and by_position > 0:
            by_position -= 1
            continue
        found[p.name] = p.replace(annotation=resolved_hint(function, p.annotation))
    return found


def resolved_hint(function: Callable, hint: Any) -> Any:
    """Evaluate an annotation given as text, as under `from __future__ import annotations`; return Any if
    it cannot be evaluated."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, getattr(inspect.unwrap(function), "__globals__", {}))
    except Exception:
        return Any


def passes_on(function: Callable) -> bool:
    """Return whether a function takes `**options`."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


@functools.cache
def adapter(annotation: Any) -> TypeAdapter:
    """Checks the values of a parameter by its annotation; anything passes one that pydantic does not
    know."""
    how = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        return TypeAdapter(annotation, config=how)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            return TypeAdapter(Any)
        return TypeAdapter(annotation)
    except (TypeError, NameError):
        return TypeAdapter(Any)


def type_of(parameter: inspect.Parameter) -> Any:
    """The type of a parameter, bool for a switch that states none."""
    if parameter.annotation is parameter.empty:
        return bool if type(parameter.default) is bool else Any
    kind = parameter.annotation
    return Annotated[kind, BeforeValidator(plain_number)] if is_number(kind) else kind


def checked_arguments(group: str, target: Callable, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of a group's class, as `checked` does. A class that hands its `**options` to a
    library accepts any name, except those of arguments that the run itself passes."""
    known = arguments(group, target)
    return checked(
        target, known, given, f"{group}.", set(parameters(target)) if is_loose(target) else None
    )


def is_loose(target: Callable) -> bool:
    """Return whether a class hands `**options` on to one that is not known, so that any name may be
    right."""
    return not constructors(target) or passes_on(constructors(target)[-1])


def checked_object(node: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Check what an argument with a `_target_` of its own gives to that class, as `checked` does."""
    given = {name: value for name, value in node.items() if name != "_target_"}
    target = callable_at(str(node["_target_"]), f"{key}._target_")
    known = {
        name: parameter
        for name, parameter in parameters(target).items()
        if name in given or name not in FILLED_IN
    }
    loose = set() if is_loose(target) else None
    return {"_target_": node["_target_"]} | checked(target, known, given, f"{key}.", loose)


def built(value: Any, **sizes: int) -> Any:
    """Build an argument that has a `_target_`, and those within it; return any other as it is. `sizes`
    are the values of FILLED_IN."""
    if isinstance(value, list):
        return [built(each, **sizes) for each in value]
    if not is_object(value):
        return value
    target = imported(value["_target_"])
    given = {name: built(each, **sizes) for name, each in value.items() if name != "_target_"}
    filled = {name: sizes[FILLED_IN[name]] for name in FILLED_IN.keys() & parameters(target).keys()}
    return target(**filled | given)


def is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def checked_node(target: type, node: DictConfig, prefix: str) -> dict[str, Any]:
    """`checked` for a class of this project that Hydra builds, with what its `node` gives."""
    given = OmegaConf.to_container(node, resolve=True)
    del given["_target_"]
    return checked(target, parameters(target), given, prefix)


def checked(
    target: Callable,
    known: Mapping[str, inspect.Parameter],
    given: Mapping[str, Any],
    prefix: str,
    refused: Container[str] | None = None,
) -> dict[str, Any]:
    """Return the arguments `given` to `target`, converted to the types of its parameters, `known`.
    Other names are mistakes or, where a container of names `refused` is given, only the names in it are.
    Raises Refused with a BadKey, `<prefix><argument>`, for each wrong name, illegal value and missing
    argument."""
    found, mistakes = {}, Mistakes()
    for name, value in given.items():
        if name in known:
            found[name] = mistakes.of(converted, known[name], value, prefix + name)
        elif refused is None or name in refused:
            near = suggestion(prefix + name, [prefix + each for each in known])
            why = f"{called(target)} takes no such argument, {near}"
            mistakes.add(BadKey(prefix + name, value, why))
        else:
            found[name] = value
    for name, parameter in known.items():
        if name not in given and parameter.default is parameter.empty:
            why = f"no value, and {called(target)} needs one"
            mistakes.add(BadKey(prefix + name, MISSING, why))
    mistakes.refuse()
    return found


def converted(parameter: inspect.Parameter, value: Any, key: str) -> Any:
    """Return a value as a parameter's type has it; an object with a `_target_` is built only later.
    Raises BadKey for one that is not legal."""
    if is_object(value):
        return checked_object(value, key)
    if isinstance(value, list) and any(map(is_object, value)):
        return [
            checked_object(each, f"{key}.{place}") if is_object(each) else each
            for place, each in enumerate(value)
        ]
    annotation = type_of(parameter)
    try:
        return adapter(annotation).validate_python(value)
    except PydanticUserError:  # of a type that pydantic does not know
        return value
    except ValidationError as error:
        first = mistakes_in(error, value, lambda _: in_words(annotation))[0]
        wants_object = any(each["type"] == "is_instance_of" for each in error.errors())
        why = f"expected an object: {key}._target_=<its class>" if wants_object else first.why
        raise BadKey(key, value, why) from None


def called(target: Callable) -> str:
    return getattr(target, "__name__", None) or getattr(target, "func", target).__name__


def is_number(annotation: Any) -> bool:
    """Return whether a type is of numbers and not of bool."""
    if typing.get_origin(annotation) is Annotated:
        return is_number(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = typing.get_args(annotation)
        return bool not in inner and any(map(is_number, inner))
    return annotation in (int, float)
