"""Ask a trained run whose an image is: `python -m src.query <run> <images> --gallery <folder>`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import sys
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .commands import add_allow, parser_of
from .datasets.files import name_some
from .errors import UserError
from .run.embedding import images_split
from .run.load import load_trained
from .run.query import ask, calibrate, check_options, gallery_of, rows_of, write_answers


def main() -> None:
    parser = parser_of("query", __doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run's folder, or best:<sweep>")
    add("images", type=Path, nargs="+", help="images, and folders of them")
    add("--gallery", help="a folder per class, or an .npz of src.embed; default: the training images")
    share = "of unknown images that may be taken for somebody; sets the threshold (default: 0.01)"
    add("--false-accepts", type=float, default=0.01, metavar="SHARE", help=share)
    add("--threshold", type=float, metavar="COSINE", help="instead of a share")
    add("--out", type=Path, help="a new folder for answers.csv and nearest.png")
    add("--skip-broken", action="store_true", help="leave out what is no image")
    add_allow(parser)
    given = parser.parse_args()
    try:
        answer(given)
    except (UserError, OSError) as error:
        sys.exit(str(error))


def answer(given: Namespace) -> None:
    check_options(given.false_accepts, given.threshold, given.out, given.images)
    run = load_trained(given.run, allowed=given.allow)
    if run.unfinished:
        print(run.unfinished)
    images, left_out = images_split(run, given.images, given.skip_broken)
    gallery, cosine, how = gallery_of(run, given.gallery, given.skip_broken), given.threshold, "as given"
    if cosine is None:
        how = calibrate(run, gallery, given.false_accepts)
        cosine = how.cosine
    answers = ask(run.embed(images), gallery, cosine)
    table = Table("image", "answer", "nearest", "cosine", "next class", "cosine")
    for row in rows_of(images, gallery, answers):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()))
    Console(highlight=False, markup=False).print(table)
    print(f"known above a cosine of {cosine:.3f}: {how}")
    if left_out:
        print(f"{len(left_out)} left out: {name_some(left_out)}")
    if given.out:
        title = f"answers and the nearest, blue if of the first one's class; known above {cosine:.2f}"
        write_answers(given.out, images, gallery, answers, title)
        print(f"-> {given.out}")


if __name__ == "__main__":
    main()
