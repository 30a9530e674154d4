"""What the commands share that use a trained run: arguments, loading the model, errors in a line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection
from pathlib import Path

from ..commands import parser_of, refuse_existing
from ..config.tree import Device
from ..datasets.files import name_some
from ..errors import user_errors_in_one_line
from .load import Trained, load_trained


def model_parser(name: str, description: str, out: str, *, needs_out: bool = False) -> ArgumentParser:
    """Return a parser that takes a run, --out and --allow."""
    parser = parser_of(name, description)
    parser.add_argument("run", type=Path, help="a run's folder, or best:<sweep>")
    parser.add_argument("--out", type=Path, required=needs_out, help=out)
    trusted = "trust this package's classes (repeatable)"
    parser.add_argument("--allow", action="append", default=[], metavar="PACKAGE", help=trusted)
    return parser


def add_sources(parser: ArgumentParser, nargs: str, split: str, default: str = "") -> None:
    """Let a parser take images or a data set, for `embedding.splits_of`."""
    images = "images and folders of them; or a data set's name and overrides, as dataset.root=<folder>"
    add = parser.add_argument
    add("sources", nargs=nargs, metavar="source", help=images + default)
    parts = ("train", "validation", "test", "all")
    add("--split", choices=parts, default=split, help=f"of a data set; default: {split}")
    add_skip_broken(parser)
    add_config_dir(parser)


def add_skip_broken(parser: ArgumentParser) -> None:
    parser.add_argument("--skip-broken", action="store_true", help="leave out what is no image")


def add_config_dir(parser: ArgumentParser) -> None:
    parser.add_argument("--config-dir", type=Path, help="your own configuration groups")


def print_left_out(files: Collection[object]) -> None:
    if files:
        print(f"{len(files)} left out: {name_some(files)}")


def use_model(
    parser: ArgumentParser, work: Callable[[Trained, Namespace], None], device: Device | None = None
) -> None:
    """Parse the command line, load its model and call `work` with both. Ends the process with one line
    about what the user can mend."""
    given = parser.parse_intermixed_args()
    with user_errors_in_one_line():
        refuse_existing(given.out)
        run = load_trained(given.run, device, given.allow)
        if run.unfinished:
            print(run.unfinished)
        work(run, given)
