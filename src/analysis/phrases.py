"""Numbers, intervals and lists as people read them."""

from ..evaluation import METRICS
from ..words import counted
from .ranking import Comparison
from .settings import Setting
from .statistics import CONFIDENCE, Interval


def repeats(setting: Setting) -> str:
    """`3 seeds`, or `5 folds × 1 seed`."""
    seeds = counted(len(setting.seeds), "seed")
    return f"{counted(len(setting.folds), 'fold')} × {seeds}" if setting.folds else seeds


def repeated_word(comparison: Comparison) -> str:
    """What is repeated independently, and counted by intervals: seeds, or folds."""
    return "fold" if comparison.best.folds else "seed"


def enumerate_labels(labels: list[str], most: int = 4) -> str:
    if len(labels) <= most:
        return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    return f"{', '.join(labels[:most])} and {len(labels) - most} more"


SURE = f"{CONFIDENCE:.0%}"
INTERVAL = f"{SURE} interval"


def number(metric: str, value: float, signed: bool = False) -> str:
    """A metric as people read it: shares in percent, angles in degrees; differences with their sign."""
    return METRICS[metric].format(value, signed)


def between(metric: str, mean: Interval) -> str:
    if mean.low is None:
        return ""
    low, high = interval_ends(metric, mean)
    return f" ({INTERVAL} {low} to {high})"


def interval_ends(metric: str, mean: Interval) -> tuple[str, str]:
    """The ends of an interval, cut at the metric's bounds, which the t interval does not know."""
    low, high = METRICS[metric].clip(mean.low, mean.high)
    return number(metric, low), number(metric, high)
