"""Upload the runs that W&B's server lacks: `python -m src.sync <folder> …`; `make sync` does it."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import sys
from pathlib import Path

from .commands import parser_of
from .errors import user_errors_in_one_line
from .run.upload import upload
from .words import counted


def main() -> None:
    parser = parser_of("sync", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps' folders, or single runs'")
    folders = parser.parse_args().folders
    for folder in folders:
        if not folder.is_dir():
            sys.exit(f"{folder}: no such folder")
    with user_errors_in_one_line():
        count = upload(folders)
    print(f"{counted(count, 'run')} uploaded to W&B" if count else "W&B has everything")


if __name__ == "__main__":
    main()
