"""From the answer to the model: the run of the winner, and the commands that use it."""

import os

from ..commands import command
from ..errors import UserError
from ..run.best import name_of, point_to
from ..words import counted
from .ranking import Comparison
from .read import RunRecord


def winning_run(comparison: Comparison) -> RunRecord | None:
    """Of the winner's runs, the best on the validation split, or the first where nothing was held out:
    the test split chooses nothing. None if no setting ranks first."""
    if comparison.winner is None:
        return None
    sign = comparison.sign
    whole = [run for run in comparison.winner.runs if run.state != "collapsed"]
    runs = whole or comparison.winner.runs
    if comparison.chosen_on_test:
        return runs[0]
    return max(runs, key=lambda run: sign * run.chosen_by(comparison.metric))


def point_to_winner(comparison: Comparison) -> None:
    """Leave `best` in the comparison's folder; where something else is, that is a problem to name."""
    run = winning_run(comparison)
    try:
        point_to(run.folder if run else None, comparison.folder)
    except UserError as error:
        comparison.problems.append(str(error))


def next_steps(comparison: Comparison) -> list[str]:
    """Where the winner's model is, and the commands to embed images with it, evaluate and export it."""
    run = winning_run(comparison)
    if run is None or comparison.folder is None:
        return []
    seed = f"seed {run.seed}" + (f", fold {run.repeat.fold}" if run.repeat.fold is not None else "")
    of = counted(len(comparison.winner.runs), "run")
    how = "the first" if comparison.chosen_on_test else "the best on the validation split"
    which = f"{seed}, {how} of its {of}" if len(comparison.winner.runs) > 1 else seed
    best = name_of(comparison.folder)
    data = ("image_folder", "dataset.root=<folder>")
    images = ("<folder of images>",)
    if run.config.name("dataset") == "embeddings":
        images = data = ("embeddings", "dataset.file=<file>")
    # Said, since the other data set would bring its own.
    protocol = f"evaluation={run.config.evaluation.protocol}"
    commands = (
        ("embed", best, *images, "--out", "embeddings.npz"),
        ("evaluate", best, f"dataset={data[0]}", data[1], protocol),
        ("export", best, "--format", "onnx"),
    )
    place = os.path.relpath(run.folder)
    return [f"Its model is in {place} ({which}). To use it:", *(command(*words) for words in commands)]
