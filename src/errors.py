"""What a user can mend: reported as one line, without a traceback."""


class UserError(Exception):
    """Names the key or file that is wrong, what it was and what would be right."""


class Diverged(UserError):
    """Training produced losses, weights, embeddings or metrics that are not finite numbers."""


def in_one_line(error: OSError) -> str:
    """What the machine refused: `/data/run/metrics.csv: No space left on device`."""
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}"


class Pruned(UserError):
    """Somebody asked the run to stop: a search that expects nothing more of it, or a user."""
