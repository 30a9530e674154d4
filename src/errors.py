"""What a user can mend: reported as one line, without a traceback."""

from collections.abc import Callable


class UserError(Exception):
    """Names the key or file that is wrong, what it was and what would be right."""


class Mistakes:
    """What several checks refuse, to be said all at once."""

    def __init__(self):
        self.lines: dict[str, None] = {}

    def of(self, check: Callable[..., object], *arguments: object) -> bool:
        """Whether a check passes; what it refuses otherwise is kept."""
        try:
            check(*arguments)
        except UserError as error:
            self.add(str(error))
            return False
        return True

    def add(self, text: str) -> None:
        self.lines |= dict.fromkeys(text.splitlines())

    def refuse(self) -> None:
        """Raise UserError with a line for each mistake, if there are any."""
        if self.lines:
            raise UserError("\n".join(self.lines))


class Diverged(UserError):
    """Training produced a loss that is not a finite number."""


class Pruned(UserError):
    """Somebody asked the run to stop: a search that expects nothing more of it, or a user."""


class Interrupted(UserError):
    """A sweep ended before a run did; `state` says how far the run had come."""

    def __init__(self, why: str, state: str = "interrupted"):
        super().__init__(why)
        self.state = state
