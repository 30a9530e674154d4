"""Look for labels that may be wrong: `python -m src.outliers <run> [<images>] --out <folder>`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import sys
from argparse import Namespace
from pathlib import Path

from .commands import add_allow, parser_of, refuse_existing
from .errors import UserError
from .run.embedding import split_of
from .run.load import load_trained
from .run.outliers import outliers, write_outliers
from .words import counted


def main() -> None:
    parser = parser_of("outliers", __doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run's folder, or best:<sweep>")
    add("sources", nargs="*", metavar="source", help="as for src.embed; default: the run's own data")
    add("--out", type=Path, required=True, help="a new folder for outliers.csv and outliers.png")
    add("--split", choices=("train", "validation", "test"), default="train", help="of a data set")
    add("--skip-broken", action="store_true", help="leave out what is no image")
    add_allow(parser)
    add("--config-dir", type=Path, help="your own configuration groups")
    given = parser.parse_intermixed_args()
    try:
        look(given)
    except (UserError, OSError) as error:
        sys.exit(str(error))


def look(given: Namespace) -> None:
    refuse_existing(given.out)
    run = load_trained(given.run, allowed=given.allow)
    if run.unfinished:
        print(run.unfinished)
    sources = given.sources or [run.config.name("dataset")]
    images, _ = split_of(run, sources, given.split, given.skip_broken, given.config_dir)
    if len(images.labels.unique()) < 2:
        raise UserError(f"{' '.join(sources)}: images of one class, which nothing tells from another")
    embeddings = run.embed(images)
    found = outliers(embeddings, images.labels, len(images.classes))
    title = "labels that may be wrong (blue: has the same label)"
    rows = write_outliers(given.out, images, embeddings, found, title)
    for row in rows[:10]:
        print(
            f"{row['image']}: {row['label']} ({row['own_cosine']:.2f}), or {row['nearest_class']} "
            f"({row['its_cosine']:.2f})?"
        )
    of = (
        f"{len(rows):,} of {counted(len(images), 'image')} are nearer to another class than to their own"
    )
    print(f"{of} -> {given.out}")


if __name__ == "__main__":
    main()
