"""Ask a trained run whose an image is: `python -m src.query <run> <images> --gallery <folder>`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .run.embedding import embedded, images_split
from .run.load import Trained
from .run.query import ask, calibrate, check_options, gallery_of, write_answers
from .run.using import add_skip_broken, model_parser, print_left_out, use_model
from .words import counted


def main() -> None:
    parser = model_parser("query", __doc__, "a new folder for answers.csv and nearest.png")
    add = parser.add_argument
    add("images", type=Path, nargs="+", help="images, and folders of them")
    add("--gallery", help="a folder per class, or an .npz of src.embed; default: the training images")
    share = "of unknown images that may be taken for somebody; sets the threshold (default: 0.01)"
    add("--false-accepts", type=float, default=0.01, metavar="SHARE", help=share)
    add("--threshold", type=float, metavar="COSINE", help="instead of a share")
    add_skip_broken(parser)
    use_model(parser, query)


def query(run: Trained, given: Namespace) -> None:
    check_options(given.false_accepts, given.threshold, given.images)
    images, left_out = images_split(run, given.images, given.skip_broken)
    gallery, source, missing = gallery_of(run, given.gallery, given.skip_broken)
    classes = counted(len(gallery.labels.unique()), "class")
    print(f"gallery: {counted(len(gallery), 'image')} of {classes}, {source}")
    cosine, how = given.threshold, "as given"
    if cosine is None:
        how = calibrate(run, gallery, given.false_accepts)
        cosine = how.cosine
    queries = embedded(run, {"": images})
    answers, rows = ask(queries, gallery, cosine)
    table = Table("image", "answer", "nearest", "cosine", "next class", "cosine")
    for answer in answers:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else v for v in answer))
    Console(highlight=False, markup=False).print(table)
    print(f"accepted above a cosine of {cosine:.3f}: {how}")
    print_left_out([*left_out, *missing])
    if given.out:
        title = f"answers and the nearest, blue if of the first one's class; accepted above {cosine:.2f}"
        write_answers(given.out, queries, gallery, answers, rows, title)
        print(f"-> {given.out}")


if __name__ == "__main__":
    main()
