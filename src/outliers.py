"""Look for wrong labels and duplicates: `python -m src.outliers <run> [<images>] --out <folder>`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

from argparse import Namespace

from .errors import UserError
from .run.embedding import embedded, splits_of
from .run.load import Trained
from .run.outliers import duplicates, outliers, suspects, write_outliers
from .run.using import add_sources, model_parser, print_left_out, use_model
from .words import counted


def main() -> None:
    out = "a new folder for outliers.csv and outliers.png"
    parser = model_parser("outliers", __doc__, out, needs_out=True)
    add_sources(parser, "*", split="all", default="; default: the run's own data")
    use_model(parser, look)


def look(run: Trained, given: Namespace) -> None:
    splits, left_out = splits_of(run, given.sources, given.split, given.skip_broken, given.config_dir)
    images = embedded(run, splits)
    if len(images.labels.unique()) < 2:
        what = " ".join(given.sources) or "the run's data"
        raise UserError(f"{what}: images of one class, which nothing tells from another")
    found = outliers(images.embeddings, images.labels, len(images.classes))
    listed = suspects(images, found, duplicates(images))
    write_outliers(given.out, images, listed)
    for each in list(listed.values())[:10]:
        print(each)
    number = counted(len(images), "image")
    each = ", ".join(f"{len(split):,} {name}" for name, split in splits.items() if name)
    print(f"looked at {number}" + f": {each}" * bool(each))
    print_left_out(left_out)
    same = [each for each in listed.values() if each.duplicate_of]
    if same:
        contradicting, across = sum(s.contradicts for s in same), sum(s.across_splits for s in same)
        more = f"{contradicting:,} with another label, {across:,} in another split"
        print(f"{counted(len(same), 'duplicate')} of earlier images: {more}")
    nearer = f"{len(found.rows):,} of {number} are nearer to another class than to their own"
    print(f"{nearer} -> {given.out}")


if __name__ == "__main__":
    main()
