"""The error for a wrong argument, and checks that raise it."""

import math
import numbers


class BadArgument(ValueError):
    """Raised for an argument with a wrong value.

    `argument` is its name, `value` what it was, and `why` what would be right. A caller can so name the
    argument as its own users know it, without reading the message.
    """

    def __init__(self, argument: str, value: object, why: str):
        self.argument, self.value, self.why = argument, value, why
        super().__init__(f"{argument}={value}: {why}")

    def __reduce__(self):
        return type(self), (self.argument, self.value, self.why)


def is_number(value: object) -> bool:
    """Return whether a value is a real number, of Python or of NumPy; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_number(
    argument: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise BadArgument unless `value` is a finite number within the limits: at least `least`, greater
    than `above`, at most `most`, less than `below`."""
    if is_number(value) and least <= value <= most and above < value < below:
        return
    limits = {"≥": least, "above": above, "≤": most, "below": below}
    given = [f"{word} {_digits(limit)}" for word, limit in limits.items() if math.isfinite(limit)]
    raise BadArgument(argument, value, f"expected a finite number {' and '.join(given)}".rstrip())


def check_whole(argument: str, value: object, least: int, most: float = math.inf) -> None:
    """Raise BadArgument unless `value` is a whole number from `least` to `most`."""
    if not (is_number(value) and isinstance(value, numbers.Integral) and least <= value <= most):
        to = f" to {most}" if math.isfinite(most) else ""
        raise BadArgument(argument, value, f"expected a whole number from {least}{to}")


def check_choice(argument: str, value: object, *choices: object) -> None:
    """Raise BadArgument unless `value` is one of the choices."""
    if value not in choices:
        listed = ", ".join(map(str, choices[:-1]))
        raise BadArgument(argument, value, f"expected {listed} or {choices[-1]}")


def _digits(limit: float) -> str:
    return "π" if limit == math.pi else f"{limit:g}"
