"""What a user can mend: reported as one line, without a traceback."""


class UserError(Exception):
    """Names the key or file that is wrong, what it was and what would be right."""


class Diverged(UserError):
    """Training produced a loss that is not a finite number."""


class Pruned(UserError):
    """Somebody asked the run to stop: a search that expects nothing more of it, or a user."""
