"""Question 3: is it the margin, the scale, the learning rate or the loss?

A sweep that crosses them answers it. An effect is the difference between two levels of one factor, where
all else is equal: it is a mean over the pairs of settings that share everything but this factor, with
the same seeds. The noise between seeds is pooled over all settings that take part."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from ..config.classes import locate
from .settings import Setting
from .statistics import CONFIDENCE, FEWEST_DEGREES, NO_SPREAD, Repeat, by_fold, pooled, range_quantile

FACTORS = ("margin", "scale", "optimizer.lr")
NAMES = {"optimizer.lr": "learning rate"}


@dataclass
class Effect:
    """The gain on the test split from changing a `factor` from `other` to `level`. `where` says whether
    it is averaged over the other factors or taken at their best levels. For a margin, `other` is no
    margin if that was tried. `loss` is None if the factor is the loss itself."""

    factor: str
    loss: str | None
    level: str
    other: str
    where: str
    estimate: float
    low: float | None
    high: float | None
    separable: bool


@dataclass
class Contrast:
    """Two of the `levels` levels of a factor. Each of `pairs` has the settings at `level` and those at
    `other` that share everything else. The variance between seeds is pooled over `pool`."""

    factor: str
    loss: str | None
    level: str
    other: str
    where: str
    levels: int
    pairs: list[tuple[list[Setting], list[Setting]]]
    pool: list[Setting]


def effects(comparison) -> list[Effect]:
    """Return the effects that the sweep can tell; their intervals hold together."""
    contrasts = []
    for loss, own in comparison.by_loss.items():
        for factor in FACTORS:
            contrasts += contrasts_of(comparison, loss, own, factor)
    contrasts += between_losses(comparison)
    crossed = {contrast.factor for contrast in contrasts}
    if len(crossed) < 2:  # one factor alone is question 1 or 2
        return []
    confidence = 1 - (1 - CONFIDENCE) / len(contrasts)
    return [effect(contrast, comparison.metric, confidence) for contrast in contrasts]


def level_of(setting: Setting, factor: str) -> Hashable:
    """Return a setting's value of a factor, or None."""
    value = setting.value(factor if "." in factor else f"{factor}.value")
    return tuple(value) if isinstance(value, list) else value


def without(setting: Setting, *factors: str) -> Hashable:
    """Return the rest of a setting's values, which two settings must share to be compared."""
    hidden = {f if "." in f else f"{f}.value" for f in factors} | {"loss"}
    rest = {key: value for key, value in setting.differs.items() if key not in hidden}
    levels = [level_of(setting, f) for f in FACTORS if f not in factors]
    rest = {k: v for k, v in rest.items() if k not in ("margin.value", "scale.value", "optimizer.lr")}
    return (*levels, repr(sorted(rest.items())))


def grid(settings: Iterable[Setting], row: Callable, column: Callable) -> dict:
    """Return settings by row and column, without the columns that some row lacks."""
    cells: dict[Hashable, dict[Hashable, list[Setting]]] = {}
    for setting in settings:
        cells.setdefault(row(setting), {}).setdefault(column(setting), []).append(setting)
    whole = set.intersection(*(set(columns) for columns in cells.values())) if cells else set()
    return {level: {c: own[c] for c in own if c in whole} for level, own in cells.items()}


def contrasts_of(comparison, loss: str, own: list[Setting], factor: str) -> list[Contrast]:
    """Compare the best level of a factor with no margin, or else with the worst level."""
    cells = grid(
        (s for s in own if level_of(s, factor) is not None),
        lambda s: level_of(s, factor),
        lambda s: without(s, factor),
    )
    if len(cells) < 2 or not all(cells.values()):
        return []
    ranked = sorted(cells, key=lambda level: mean_chosen(comparison, cells[level]), reverse=True)
    neutral = neutral_margin(own[0]) if factor == "margin" else None
    if neutral in cells:
        best, other = next(level for level in ranked if level != neutral), neutral
    else:
        best, other = ranked[0], ranked[-1]
    blocks = list(cells[best])
    found = [contrast_at(own, factor, cells, best, other, blocks, "on average")]
    if factor == "margin" and len(blocks) > 1:
        at = max(blocks, key=lambda c: mean_chosen(comparison, {c: cells[best][c] + cells[other][c]}))
        found.append(contrast_at(own, factor, cells, best, other, [at], "at the best scale and rate"))
    return found


def contrast_at(own, factor, cells, best, other, blocks, where) -> Contrast:
    pairs = [(cells[best][block], cells[other][block]) for block in blocks]
    none = factor == "margin" and other == neutral_margin(own[0])
    levels = text(best), "none" if none else text(other)
    return Contrast(NAMES.get(factor, factor), own[0].loss, *levels, where, len(cells), pairs, own)


def between_losses(comparison) -> list[Contrast]:
    """Compare the best loss with the worst at equal scales and rates, averaged over margins."""
    margins = [
        s for own in comparison.by_loss.values() for s in own if level_of(s, "margin") is not None
    ]
    margins = [s for s in margins if level_of(s, "margin") != neutral_margin(s)]
    cells = grid(margins, lambda s: s.loss, lambda s: without(s, "margin"))
    if len(cells) < 2 or not all(cells.values()):
        return []
    ranked = sorted(cells, key=lambda loss: mean_chosen(comparison, cells[loss]), reverse=True)
    best, worst = ranked[0], ranked[-1]
    pairs = [(cells[best][block], cells[worst][block]) for block in cells[best]]
    where = "at equal scales and rates, on average"
    return [Contrast("loss", None, best, worst, where, len(cells), pairs, margins)]


def mean_chosen(comparison, columns: dict[Hashable, list[Setting]]) -> float:
    """Return the mean validation result of these settings, negated if smaller is better."""
    return comparison.sign * float(np.mean([s.chosen for own in columns.values() for s in own]))


def neutral_margin(setting: Setting) -> Hashable:
    """Return the value at which the margin of a setting's loss does nothing; None if not known."""
    try:
        value = getattr(locate("loss", setting.runs[0].config.loss.target), "no_margin", None)
    except Exception:  # somebody's class, which is not here
        return None
    return tuple(value) if isinstance(value, list | tuple) else value


def text(level: Hashable) -> str:
    if isinstance(level, tuple):
        return f"[{','.join(f'{part:g}' for part in level)}]"
    return f"{level:g}" if isinstance(level, float | int) else str(level)


def over_common(values: dict[str, dict[Repeat, float]]) -> dict[str, list[float]]:
    """The values of several settings with the seeds, or on the folds, that all have; all values where
    they have none in common. After a race, the others are those of settings that were lucky."""
    common = set.intersection(*map(set, values.values()))
    return {
        label: by_fold({repeat: v for repeat, v in own.items() if repeat in common} or own)
        for label, own in values.items()
    }


def effect(contrast: Contrast, metric: str, confidence: float) -> Effect:
    """Estimate an effect: the mean difference over the pairs. Its interval uses the variance between
    seeds of the pool, or that of the paired settings if it is larger."""
    weights: dict[str, float] = {}
    for pair in contrast.pairs:
        for sign, side in zip((1, -1), pair, strict=True):
            for setting in side:
                share = sign / len(side) / len(contrast.pairs)
                weights[setting.label] = weights.get(setting.label, 0.0) + share
    values = {setting.label: by_fold(setting.values(metric)) for setting in contrast.pool}
    taken = over_common({s.label: s.values(metric) for s in contrast.pool if s.label in weights})
    estimate = sum(weight * float(np.mean(taken[each])) for each, weight in weights.items())
    low = high = None
    variance, degrees = pooled(values.values())
    variance = max(variance, pooled(values[each] for each in weights)[0])
    if degrees >= FEWEST_DEGREES and variance > NO_SPREAD**2:
        test_ratio = max(setting.test_ratio for setting in contrast.pool)
        spread = sum(weight**2 * (1 / len(taken[each]) + test_ratio) for each, weight in weights.items())
        quantile = range_quantile(contrast.levels, degrees, confidence) / sqrt(2)
        half = quantile * sqrt(variance * spread)
        low, high = estimate - half, estimate + half
    separable = low is not None and not low <= 0 <= high
    about = contrast.factor, contrast.loss, contrast.level, contrast.other, contrast.where
    return Effect(*about, estimate, low, high, separable)
