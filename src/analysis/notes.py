"""What a reader must know besides: lost runs, hidden differences, too few images, one learning rate."""

from collections import Counter

import numpy as np

from ..evaluation import METRICS
from ..run.advice import HANDFUL, in_words
from ..words import counted
from .figures import losses_at_an_edge, losses_by_rate
from .phrases import enumerate_labels
from .ranking import Comparison
from .rates import shared_rate, unsuited


def notes(comparison: Comparison) -> list[str]:
    return [
        *lost_runs(comparison),
        *handful(comparison),
        *duplicates(comparison),
        *one_rate(comparison),
        *at_an_edge(comparison),
        *differences(comparison),
    ]


def lost_runs(comparison: Comparison) -> list[str]:
    lines = []
    without = [run for run in comparison.failures if run.setting == comparison.best.key]
    if without:
        states = ", ".join(f"{n} {state}" for state, n in Counter(r.state for r in without).items())
        lines.append(
            f"More runs of {comparison.best.label} are not in these numbers, because they did not "
            f"finish: {states}."
        )
    lost = {run.setting for run in comparison.failures} - {
        setting.key for setting in comparison.settings
    }
    if lost:
        have = "has" if len(lost) == 1 else "have"
        lines.append(
            f"{counted(len(lost), 'more setting')} {have} no finished run at all, see the failures."
        )
    return lines


def handful(comparison: Comparison) -> list[str]:
    """That the test split is too small for its numbers to mean much."""
    counts = comparison.best.runs[0].counts.get("test", {})
    if "classes" not in counts or not 0 < counts.get("images", HANDFUL) < HANDFUL:
        return []
    metric = METRICS[comparison.metric]
    step = metric.resolution(counts)
    moves = f": one {metric.counted_noun} more or less is {metric.format(step, True).lstrip('+')}"
    fold = " of each fold" * bool(comparison.best.folds)
    return [f"Note that the test split{fold} is a handful, {in_words(counts)}{moves if step else ''}."]


def duplicates(comparison: Comparison) -> list[str]:
    """That images are there more than once, or have two labels."""
    summary = comparison.best.runs[0].summary
    return [f"Note that {line}." for line in summary.duplicates]


def one_rate(comparison: Comparison) -> list[str]:
    """That losses share one learning rate, which may suit one of them and not another."""
    rate = shared_rate(comparison)
    if rate is None:
        return []
    said = (
        f"Note that all losses share one learning rate, optimizer.lr={rate:g}: this compares how it "
        "suits them as much as the losses."
    )
    bad = unsuited(comparison)
    if bad:
        said += f" It looks wrong for {'; '.join(f'{loss} ({why})' for loss, why in bad.items())}."
    return [
        f"{said} A fair comparison (experiment=fair_comparison) lets each loss choose among several."
    ]


def at_an_edge(comparison: Comparison) -> list[str]:
    """Which losses do best at the lowest or the highest of several learning rates."""
    found = losses_by_rate(comparison)
    if found is None:
        return []
    tried = {loss: np.isfinite(row).sum() for loss, row in zip(found[0], found[2], strict=True)}
    losses = [loss for loss in losses_at_an_edge(comparison) if tried[loss] > 1]
    if not losses:
        return []
    do = "does" if len(losses) == 1 else "do"
    return [
        f"Note that {enumerate_labels(losses)} {do} best at the lowest or the highest learning rate "
        "tried: a better one may lie beyond."
    ]


def differences(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.also_differ:
        differing = "; ".join(f"{key}: {', '.join(v)}" for key, v in comparison.also_differ.items())
        lines.append(f"Note that losses also differ in {differing}.")
    if len(comparison.codes) > 1:
        codes = "; ".join(f"{count} by {code}" for code, count in comparison.codes.items())
        lines.append(
            f"Note that the runs were computed by {len(comparison.codes)} versions of the code: {codes}."
        )
    return lines
