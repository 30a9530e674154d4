"""What is known of a metric besides its values: unit, direction and bounds, and how people read it."""

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
_TITLES = {"map_at_r": "MAP@R", "r_precision": "R-precision", "auc": "AUC", "eer": "EER"}


# What a metric can be a share of, by the name of the count (see counts.py): one of them, in words.
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
    """Values are shares of 1, angles in radians, or plain numbers, from `lowest` to `highest`. People
    read shares in percent and angles in degrees, which `display_factor` converts to. `counted` names
    what it is a share of, in COUNTED; empty for one that counts nothing."""

    name: str
    unit: Unit
    higher_is_better: bool
    lowest: float
    highest: float
    counted: tuple[str, ...] = ()

    @classmethod
    def share(cls, name: str, *counted: str, higher_is_better: bool = True) -> "Metric":
        """A share, from 0 to 1, of what is `counted`."""
        return cls(name, "share", higher_is_better, 0.0, 1.0, counted)

    @classmethod
    def angle(cls, name: str, *, higher_is_better: bool) -> "Metric":
        """An angle in radians, from 0 to π."""
        return cls(name, "angle", higher_is_better, 0.0, math.pi)

    @property
    def label(self) -> str:
        """The name as papers write it: "worst recall", "MAP@R", "Recall@1", "TAR@FAR=1e-3"."""
        if self.name.startswith("recall_at_"):
            return f"Recall@{self.name.removeprefix('recall_at_')}"
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
        """Takes a value to the number that people read: 100 for shares, 180/π for angles, else 1."""
        return _DISPLAY[self.unit].factor

    def format(self, value: float, signed: bool = False) -> str:
        """A value as people read it: "97.7%", "12.3°", "0.53". With `signed`, a difference between two
        values: "+1.2 points", "-3.0°", "+0.10"."""
        factor, _, symbol, decimals = _DISPLAY[self.unit]
        shown = round(value * factor, decimals) + 0.0  # never -0.0
        if signed:
            symbol = " points" if self.unit == "share" else symbol
            return f"{shown:+.{decimals}f}{symbol}"
        return f"{shown:.{decimals}f}{symbol}"

    @property
    def best(self) -> float:
        """The best value that there is, which may be infinite."""
        return self.highest if self.higher_is_better else self.lowest

    @property
    def counted_noun(self) -> str:
        """One of what it is a share of, in words: "query"."""
        return COUNTED[self.counted[0]]

    def resolution(self, counts: Mapping[str, int]) -> float | None:
        """How far one more image, query or pair that goes wrong can move the metric, on a split with
        these `counts`; None for a metric that counts nothing, or if the count is not known."""
        numbers = [counts.get(name) for name in self.counted]
        return 1 / min(numbers) if numbers and all(numbers) else None

    def clip(self, low: float, high: float) -> tuple[float, float]:
        """The part of an interval that the metric can reach, of which a t interval knows nothing."""
        return max(low, self.lowest), min(high, self.highest)


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """Metrics by their names, in their order."""
    return {metric.name: metric for metric in metrics}
