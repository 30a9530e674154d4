"""Draw the figures of finished runs again: `python -m src.draw <run or sweep> …`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import sys
from pathlib import Path

from .commands import parser_of
from .errors import UserError, in_one_line
from .run.figures import draw_run
from .run.folder import RunFolder
from .words import counted


def main() -> None:
    parser = parser_of("draw", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of runs or sweeps")
    failed = False
    for given in parser.parse_args().folders:
        runs = runs_in(given)
        if not runs:
            sys.exit(f"{given}: no finished run is here")
        for folder in runs:
            try:
                print(f"{folder.path}: {counted(len(draw_run(folder)), 'figure')}")
            except (UserError, OSError) as error:
                failed = True
                why = in_one_line(error) if isinstance(error, OSError) else str(error)
                print(why, file=sys.stderr)
    sys.exit(failed)


def runs_in(path: Path) -> list[RunFolder]:
    """The run in a folder, or the finished runs in it."""
    if (path / "summary.json").exists():
        return [RunFolder(path)]
    found = [RunFolder(each) for each in sorted(path.glob("[!.]*/"))]
    return [folder for folder in found if folder.done]


if __name__ == "__main__":
    main()
