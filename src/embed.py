"""Embed images with a trained run: `python -m src.embed <run> <images or data set> --out file.npz`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import sys
from pathlib import Path

from .commands import add_allow, parser_of
from .errors import UserError
from .run.embedding import embed_into
from .run.load import load_trained


def main() -> None:
    parser = parser_of("embed", __doc__)
    parser.add_argument("run", type=Path, help="a run's folder, or best:<sweep>")
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="source",
        help="images and folders of them; or a data set's name and overrides, as dataset.root=<folder>",
    )
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out what is no image, and say so"
    )
    add_allow(parser)
    parser.add_argument("--config-dir", type=Path, help="your own configuration groups")
    given = parser.parse_intermixed_args()
    try:
        run = load_trained(given.run, allowed=given.allow)
        if run.unfinished:
            print(run.unfinished)
        print(
            embed_into(
                run,
                given.sources,
                given.out,
                part=given.split,
                skip_broken=given.skip_broken,
                config_dir=given.config_dir,
            )
        )
    except (UserError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
