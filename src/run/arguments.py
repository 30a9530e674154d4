"""From an error about an argument to one about a key."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..config import BadKey, Config
from ..errors import UserError
from ..losses import BadArgument
from ..words import first_line

MOST_LETTERS = 300  # of what a constructor says
# The keys of arguments that are not called as their group has them.
ELSEWHERE = {
    "loss": {"margin": "margin.value", "scale": "scale.value"},
    "model": {"norm": "neck.norm", "dropout": "neck.dropout"},
    "dataset": {"split": "evaluation"},
}


@contextmanager
def arguments_of(group: str, config: Config | None = None) -> Iterator[None]:
    """Turn a ValueError of the block, about the arguments of a group's class, into a UserError: a
    BadArgument into one that names the key, any other into one that names the group's choice. Other
    exceptions are bugs, and keep their traceback."""
    try:
        yield
    except BadArgument as error:
        key = ELSEWHERE.get(group, {}).get(error.argument, f"{group}.{error.argument}")
        raise BadKey(key, error.value, error.why) from error
    except ValueError as error:
        said = first_line(error)
        half = MOST_LETTERS // 2  # what is wrong stands at one end of it
        said = said if len(said) <= MOST_LETTERS else f"{said[:half]} … {said[-half:]}"
        what = f"{group}={config.name(group)}" if config else group
        raise UserError(f"{what}: {said}") from error
