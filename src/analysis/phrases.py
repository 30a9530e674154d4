"""Numbers, intervals and lists as people read them."""

from ..evaluation import metric_named
from .statistics import CONFIDENCE, Interval


def enumerate_labels(labels: list[str], most: int = 4) -> str:
    if len(labels) <= most:
        return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    return f"{', '.join(labels[:most])} and {len(labels) - most} more"


INTERVAL = f"{CONFIDENCE:.0%} interval"


def number(metric: str, value: float, signed: bool = False) -> str:
    """A metric as people read it: shares in percent, angles in degrees; differences with their sign."""
    return metric_named(metric).format(value, signed)


def clipped(metric: str, interval: Interval) -> tuple[float | None, float | None]:
    """Return the ends of an interval, cut at the metric's bounds, which the t interval does not know."""
    if interval.low is None:
        return None, None
    return metric_named(metric).clip(interval.low, interval.high)


def signed_ends(metric: str, low: float, high: float) -> list[str]:
    """The ends of an interval of differences, without their unit: `-0.4`, `+1.2`."""
    return [number(metric, end, signed=True).split()[0] for end in (low, high)]


def difference_text(
    metric: str, estimate: float, low: float | None, high: float | None, separable: bool
) -> str:
    """`+2.1 points (+1.3 … +3.0) *`: a difference with its interval, and a star if that leaves out 0."""
    text = number(metric, estimate, signed=True)
    if low is not None:
        low, high = signed_ends(metric, low, high)
        text += f" ({low}\u00a0…\u00a0{high})"
    return text + "\u00a0*" * separable


def interval_text(metric: str, low: float | None, high: float | None) -> str:
    """Return `58.5% … 59.2%`, or nothing where there is no interval."""
    return "" if low is None else f"{number(metric, low)} … {number(metric, high)}"
