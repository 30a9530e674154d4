"""What a metric is: its unit, direction, bounds, and the form in which people read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Unit = Literal["share", "angle", "number"]


class _Display(NamedTuple):
    factor: float
    axis_unit: str
    symbol: str
    decimals: int


_DISPLAY = {
    "share": _Display(100.0, " (%)", "%", 1),
    "angle": _Display(180 / math.pi, " (degrees)", "°", 1),
    "number": _Display(1.0, "", "", 2),
}


# How papers write the names that are no plain words.
_TITLES = {
    "ten_fold_accuracy": "ten-fold accuracy",
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "auc": "AUC",
    "eer": "EER",
}
_TITLES |= {"min_dcf": "minDCF", "actual_dcf": "actual DCF", "cllr": "Cllr"}
ROUNDING = 1e-4  # of sums in float32, in a metric's unit

# What a metric can be a share of: the name of the count (see counts.py), and the noun for one.
COUNTED = {
    "images": "image",
    "smallest_class": "image of the smallest class",
    "queries": "query",
    "same_pairs": "pair",
    "different_pairs": "pair",
    "folded_pairs": "pair",
}


@dataclass(frozen=True)
class Metric:
    """A metric, whose values are shares of 1, angles in radians, or plain numbers, from `lowest` to
    `highest`. People read shares in percent and angles in degrees, see `display_factor`. `counted` has
    the names in COUNTED of what it is a share of; empty for a metric that counts nothing."""

    name: str
    unit: Unit
    higher_is_better: bool
    lowest: float
    highest: float
    counted: tuple[str, ...] = ()

    @classmethod
    def share(cls, name: str, *counted: str, higher_is_better: bool = True) -> "Metric":
        """Make a metric that is a share, from 0 to 1, of what is `counted`."""
        return cls(name, "share", higher_is_better, 0.0, 1.0, counted)

    @classmethod
    def angle(cls, name: str, *, higher_is_better: bool) -> "Metric":
        """Make a metric that is an angle in radians, from 0 to π."""
        return cls(name, "angle", higher_is_better, 0.0, math.pi)

    @property
    def label(self) -> str:
        """The name as papers write it: "worst recall", "MAP@R", "Recall@1", "TAR@FAR=1e-3"."""
        if self.name.startswith("recall_at_"):
            return f"Recall@{self.name.removeprefix('recall_at_')}"
        if self.name.startswith("map_at_") and self.name != "map_at_r":
            return f"mAP@{self.name.removeprefix('map_at_')}"
        if self.name.startswith("fnir_at_fpir_"):
            return f"FNIR@FPIR={self.name.removeprefix('fnir_at_fpir_')}"
        if self.name.startswith("tar_at_far_"):
            return f"TAR@FAR={self.name.removeprefix('tar_at_far_')}"
        return _TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def axis_label(self) -> str:
        """The name in words with the unit that people read: "worst recall (%)"."""
        return self.label + _DISPLAY[self.unit].axis_unit

    @property
    def tick_format(self) -> str:
        """A format for numbers `x` that people read, for an axis whose label names no unit."""
        return "{x:g}" + _DISPLAY[self.unit].symbol

    @property
    def display_factor(self) -> float:
        """The factor from a value to the number that people read: 100 for shares, 180/π for angles, or
        1."""
        return _DISPLAY[self.unit].factor

    def format(self, value: float, signed: bool = False) -> str:
        """Return a value as people read it: "97.7%", "12.3°", "0.53". With `signed`, a difference
        between two values: "+1.2 points", "-3.0°", "+0.10"."""
        factor, _, symbol, decimals = _DISPLAY[self.unit]
        shown = round(value * factor, decimals) + 0.0  # never -0.0
        if signed:
            symbol = " points" if self.unit == "share" else symbol
            return f"{shown:+.{decimals}f}{symbol}"
        return f"{shown:.{decimals}f}{symbol}"

    @property
    def sign(self) -> int:
        """1 if larger is better, else -1: a value times its sign is larger where it is better."""
        return 1 if self.higher_is_better else -1

    @property
    def best(self) -> float:
        """The best possible value, which may be infinite."""
        return self.highest if self.higher_is_better else self.lowest

    @property
    def counted_noun(self) -> str:
        """One of what it is a share of, in words: "query"."""
        return COUNTED[self.counted[0]]

    def resolution(self, counts: Mapping[str, int]) -> float | None:
        """Return how far one more wrong image, query or pair can move the metric, on a split with these
        `counts`; None for a metric that counts nothing, or whose count is not known."""
        numbers = [counts.get(name) for name in self.counted]
        return 1 / min(numbers) if numbers and all(numbers) else None

    def within_bounds(self, value: float) -> float:
        """Undo rounding past a bound, as π in float32 is above π. A value further outside is a bug, and
        is returned unchanged."""
        inside = min(max(value, self.lowest), self.highest)
        return inside if abs(inside - value) < ROUNDING else value

    def clip(self, low: float, high: float) -> tuple[float, float]:
        """Cut an interval to the metric's bounds, which a t interval does not know."""
        return max(low, self.lowest), min(high, self.highest)


def finite_values(known: Mapping[str, Metric], values: Mapping[str, float]) -> dict[str, float]:
    """Drop values that are not finite, and bring the others within the bounds of the `known` metrics."""
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return {name: known[name].within_bounds(value) for name, value in finite.items()}


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """Return metrics by their names, in their order."""
    return {metric.name: metric for metric in metrics}
