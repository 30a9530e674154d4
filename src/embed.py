"""Embed images with a trained run: `python -m src.embed <run> <images or data set> --out file.npz`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

from argparse import Namespace

from .run.embedding import embedded, splits_of, write_embeddings
from .run.load import Trained
from .run.using import add_sources, model_parser, print_left_out, use_model
from .words import counted


def main() -> None:
    parser = model_parser("embed", __doc__, "the .npz to write", needs_out=True)
    add_sources(parser, "+", split="test")
    use_model(parser, embed)


def embed(run: Trained, given: Namespace) -> None:
    splits, left_out = splits_of(run, given.sources, given.split, given.skip_broken, given.config_dir)
    images = embedded(run, splits)
    write_embeddings(given.out, images)
    number, dimensions = counted(len(images), "embedding"), images.embeddings.shape[1]
    print(f"{number} of {dimensions} dimensions -> {given.out}")
    print_left_out(left_out)


if __name__ == "__main__":
    main()
