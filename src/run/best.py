"""`best:<sweep>`: the run that a comparison leaves to be used.

`comparison/best` is a relative link to that run's folder, so a sweep can be moved; where links are not
possible, as on some network drives, it is a file that holds the same path.
"""

import os
from pathlib import Path

from ..commands import command
from ..durable import write_text
from ..errors import UserError
from ..foreign import text_of

PREFIX, LINK = "best:", "best"


def point_to(run: Path | None, comparison: Path) -> None:
    """Let `best` in a comparison's folder lead to a run's folder; with None, to nothing. Raises
    UserError if something else is there."""
    link = comparison / LINK
    if link.is_symlink() or link.is_file():
        link.unlink()
    elif link.exists():
        raise UserError(f"{link}: in the place of the link to the best run; remove it")
    if run is None:
        return
    target = os.path.relpath(run.resolve(), comparison.resolve())
    try:
        link.symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError):
        write_text(link, target + "\n", encoding="utf-8")


def name_of(comparison: Path) -> str:
    """How a comparison's best run is called on a command line, as `best:multirun/margins`."""
    sweep = comparison.parent if comparison.name == "comparison" else comparison
    return f"{PREFIX}{os.path.relpath(sweep)}"


def run_folder(given: Path) -> Path:
    """The run's folder that a command line names: itself, or the best of a sweep. Raises UserError if
    no comparison there has named a best one, or if it is gone."""
    if not str(given).startswith(PREFIX):
        return given
    place = Path(str(given).removeprefix(PREFIX))
    links = [place / "comparison" / LINK, place / LINK]
    link = next((link for link in links if link.is_symlink() or link.exists()), None)
    if link is None:
        if not place.is_dir():
            raise UserError(f"{given}: no such folder, {place}")
        compare = command("compare", str(place))
        raise UserError(
            f"{given}: no comparison there names a best run; {compare} does, unless it ranks nobody "
            "first: then name a run's folder"
        )
    try:
        path = os.readlink(link) if link.is_symlink() else text_of(link).strip()
    except (OSError, ValueError) as error:
        raise UserError(f"{given}: {link} does not lead to a run ({error})") from None
    target = (link.parent.resolve() / path).resolve()
    if not target.is_dir():
        raise UserError(
            f"{given}: {link} leads to {os.path.relpath(target)}, which is gone; "
            f"{command('compare', str(place))} looks again"
        )
    return Path(os.path.relpath(target))
