"""Which epoch's model a run keeps, and when no better one is to be expected: both by the objective on
the validation split.

While a run trains, `checkpoint.pt` is that of its last epoch, to go on from. With checkpoint.keep=best
or both, `best.pt` is the same of its best epoch so far, and at the end its weights are what is
evaluated, drawn, embedded and exported. `best` then lets it take the place of `checkpoint.pt`; `both`
leaves both.
"""

import os
from pathlib import Path

from ..errors import UserError
from ..evaluation import METRICS
from ..training import load_checkpoint

LAST, BEST = "checkpoint.pt", "best.pt"


def keeps_best(config: dict) -> bool:
    return config["checkpoint"]["keep"] != "last"


def check_chosen_on_validation(config: dict, split: str) -> None:
    """UserError if an epoch would be chosen by the images that the model is reported on."""
    for key, chosen in (
        ("checkpoint.keep", keeps_best(config) and config["checkpoint"]["keep"]),
        ("early_stopping.patience", config["early_stopping"]["patience"]),
    ):
        if chosen and split == "test":
            raise UserError(
                f"{key}={chosen}: needs a validation split; dataset.val_fraction=0.1 holds one out"
            )


def best_epoch(config: dict, rows: list[dict]) -> int:
    """The number, from 1, of the epoch with the best objective; the first of several."""
    sign = 1 if METRICS[config["objective"]].higher_is_better else -1
    values = [sign * row[config["objective"]] for row in rows]
    return values.index(max(values)) + 1


def is_enough(config: dict, rows: list[dict]) -> bool:
    """Whether the objective has not improved for early_stopping.patience epochs."""
    patience = config["early_stopping"]["patience"]
    return bool(patience and rows) and len(rows) - best_epoch(config, rows) >= patience


def lacks_best(folder: Path, saved: dict) -> bool:
    """Whether a checkpoint's run has had its best epoch, and that epoch's model is gone."""
    best = best_epoch(saved["config"], saved["rows"])
    if not keeps_best(saved["config"]) or best == saved["epoch"]:  # then it is written again
        return False
    try:
        return load_checkpoint(folder / BEST)["epoch"] != best
    except (OSError, ValueError, KeyError):
        return True


def take_best(folder: Path, config: dict) -> dict:
    """The checkpoint of the best epoch, which takes the last one's place unless both are kept."""
    saved = load_checkpoint(folder / BEST)
    if config["checkpoint"]["keep"] == "best":
        os.replace(folder / BEST, folder / LAST)
    return saved


def model_file(folder: Path) -> Path:
    """The checkpoint of the model that a run is used by; a file is its own."""
    if folder.is_file():
        return folder
    return folder / BEST if (folder / BEST).is_file() else folder / LAST
