"""Did every loss get a learning rate that suits it? What a comparison at one rate can tell of that."""

import numpy as np

from ..evaluation import METRICS
from ..run.folder import RunFolder
from ..words import counted
from .ranking import Comparison

FEWEST_EPOCHS = 4  # a curve of fewer has no end to look at
STILL = 0.1  # of the whole change, in the last fifth of the epochs: half of what a straight line does


def shared_rate(comparison: Comparison) -> float | None:
    """The one learning rate that all of several losses were trained at; None if they had a choice."""
    trained = [setting for own in comparison.by_loss.values() for setting in own]
    rates = {run.config.optimizer.lr for setting in trained for run in setting.runs}
    return rates.pop() if len(comparison.by_loss) > 1 and len(rates) == 1 else None


def unsuited(comparison: Comparison) -> dict[str, str]:
    """By loss, in words, why a learning rate looks as if it did not suit it: runs of it collapsed, or
    the best setting was still getting better when training ended."""
    found = {}
    for loss, own in comparison.by_loss.items():
        collapsed = sum(len(setting.collapsed) for setting in own)
        if collapsed:
            found[loss] = f"{collapsed} of {counted(sum(len(s.runs) for s in own), 'run')} collapsed"
            continue
        signs = [still_changing(run.folder, comparison.metric) for run in own[0].runs]
        if signs and sum(map(bool, signs)) * 2 > len(signs):
            found[loss] = next(filter(None, signs))
    return found


def still_changing(folder, metric: str) -> str | None:
    """What was still changing in the last fifth of a run's epochs, by its metrics.csv: its training loss
    fell, or its metric improved, by more than a tenth of the whole way since the first epochs."""
    try:
        rows = RunFolder(folder).rows()
        loss = np.array([float(row["loss"]) for row in rows])
        values = np.array([float(row[metric]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError):  # missing, or damaged
        return None
    if len(rows) < FEWEST_EPOCHS:
        return None
    if share_at_the_end(-loss) > STILL:
        return "its training loss was still falling at the end"
    if share_at_the_end(values if METRICS[metric].higher_is_better else -values) > STILL:
        return f"its {METRICS[metric].label} was still improving at the end"
    return None


def share_at_the_end(values: np.ndarray) -> float:
    """Of rising values (epochs,), how much of the whole rise is between the last two fifths; each is the
    mean over its epochs, since single ones are noisy."""
    block = max(1, len(values) // 5)
    first, before, last = values[:block], values[-2 * block : -block], values[-block:]
    whole = float(last.mean() - first.mean())
    return float(last.mean() - before.mean()) / whole if whole > 0 else 0.0
