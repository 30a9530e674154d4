"""Numbers, intervals and lists as people read them."""

from ..evaluation import METRICS
from .statistics import CONFIDENCE, Interval


def enumerate_labels(labels: list[str], most: int = 4) -> str:
    if len(labels) <= most:
        return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    return f"{', '.join(labels[:most])} and {len(labels) - most} more"


INTERVAL = f"{CONFIDENCE:.0%} interval"


def number(metric: str, value: float, signed: bool = False) -> str:
    """A metric as people read it: shares in percent, angles in degrees; differences with their sign."""
    return METRICS[metric].format(value, signed)


def interval_ends(metric: str, mean: Interval) -> tuple[str, str]:
    """The ends of an interval, cut at the metric's bounds, which the t interval does not know."""
    low, high = METRICS[metric].clip(mean.low, mean.high)
    return number(metric, low), number(metric, high)
