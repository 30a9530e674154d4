"""The answer in sentences: which setting, how good, against the baseline, and how sure that is."""

from collections import Counter

from ..evaluation import METRICS
from .ranking import Comparison, Setting
from .statistics import Difference, Interval


def answer_sentences(comparison: Comparison) -> list[str]:
    """The answer, a sentence or two each: which, how good, against the baseline, how sure."""
    best, metric, n = comparison.best, comparison.metric, len(comparison.settings)
    up = METRICS[metric].higher_is_better
    lower = "" if up else " (lower is better)"
    flatters = ", which flatters it" if comparison.chosen_on_test else ""
    seeds = f"{best.test.n} seeds" if best.test.n > 1 else "a single seed"
    on_test = f"{number(metric, best.test.mean)} on the test split{between(metric, best.test)}, {seeds}."
    lines = [
        f"{best.label} ranks first of {n} settings by {metric}{lower} on the {comparison.chosen_on}"
        f"{flatters}: {on_test}"
        if n > 1
        else f"{best.label}, the only setting: {metric}{lower} {on_test}"
    ]
    without = [run for run in comparison.failures if run.setting == best.key]
    if without:
        states = ", ".join(
            f"{count} {state}" for state, count in Counter(r.state for r in without).items()
        )
        lines.append(
            f"More of its runs are not in these numbers, because they did not finish: {states}."
        )
    lost = {run.setting for run in comparison.failures} - {
        setting.key for setting in comparison.settings
    }
    if lost:
        lines.append(f"{len(lost)} more settings have no finished run at all, see the failures.")
    if comparison.also_differ:
        differing = "; ".join(f"{key}: {', '.join(v)}" for key, v in comparison.also_differ.items())
        lines.append(f"Mind that losses also differ in {differing}.")
    if len(comparison.codes) > 1:
        codes = "; ".join(f"{count} by {code}" for code, count in comparison.codes.items())
        lines.append(f"Mind that the runs were computed by {len(comparison.codes)} codes: {codes}.")
    if n == 1:
        return lines
    if best.test.n == 1:
        lines.append(
            "With a single seed nothing can be said of how sure this is: run more, as seed=0,1,2."
        )
        return lines
    if comparison.baseline is not None and comparison.baseline is not best and best.to_baseline:
        lines.append(against_baseline(metric, comparison.baseline, best.to_baseline))
    return lines + how_sure(comparison, 1 if up else -1)


def how_sure(comparison: Comparison, sign: int) -> list[str]:
    """Which of the others are behind the best, which may not be, and which are even ahead on test."""
    metric, others = comparison.metric, comparison.settings[1:]
    behind = [s for s in others if s.to_best and s.to_best.separable and sign * s.to_best.mean < 0]
    ahead = [s for s in others if s.to_best and s.to_best.separable and sign * s.to_best.mean > 0]
    unknown = [s for s in others if not s.to_best or s.to_best.n == 1]
    rivals = [s for s in others if s not in (*behind, *ahead, *unknown)]
    doubtful = len(rivals) + len(unknown)
    if ahead:
        verdict = "Do not take it for the best: on the test split others are ahead of it, separably."
    elif doubtful:
        verdict = (
            f"That does not make it the best: {doubtful} of the {len(others)} others may be as good."
        )
    else:
        verdict = "It is the best of these settings, on this data and budget: all others are behind."
    lines = [verdict]
    if behind:
        labels = enumerate_labels([s.label for s in behind])
        lines.append(f"Separably behind it (95% for all of them together): {labels}.")
    if ahead:
        lines.append(
            f"Separably ahead of it on the test split: {enumerate_labels([s.label for s in ahead])}."
        )
    if unknown:
        few = enumerate_labels([s.label for s in unknown])
        lines.append(f"Too few seeds in common with it to say anything: {few}.")
    if rivals:
        lines.append(
            f"Not separable from it with these seeds: {enumerate_labels([s.label for s in rivals])}."
        )
        nearest = min(rivals, key=lambda setting: abs(setting.to_best.mean))
        gap = nearest.to_best
        side = "ahead of" if sign * gap.mean > 0 else "behind"
        apart = f"{number(metric, abs(gap.mean), signed=True).lstrip('+')} {side} it"
        needed = f"about {gap.more_seeds} more seeds each" if gap.more_seeds else "more than 1,000 seeds"
        equal = abs(gap.mean) < 1e-12  # what is left of means that are the same
        lines.append(
            f"The nearest of those on the test split, {nearest.label}, "
            + ("equals it." if equal else f"is {apart}: telling them apart would take {needed}.")
        )
        leading = [s for s in rivals if sign * s.to_best.mean > 0 and s is not nearest]
        if leading:
            lines.append(
                f"Also ahead of it on the test split: {enumerate_labels([s.label for s in leading])}."
            )
    return lines


def against_baseline(metric: str, baseline: Setting, difference: Difference) -> str:
    """How far the best setting is from the baseline."""
    gap = number(metric, difference.mean, signed=True)
    if difference.n == 1:
        return f"Against the baseline {baseline.label}: {gap}, with one seed in common."
    if difference.separable:
        end = "separable"
    elif difference.more_seeds is None:
        end = "not separable with these seeds, nor with a thousand"
    else:
        end = f"not separable with these seeds, about {difference.more_seeds} more would be needed"
    low, high = (number(metric, bound, signed=True) for bound in (difference.low, difference.high))
    return f"Against the baseline {baseline.label}: {gap} ({low} to {high}), {end}."


def enumerate_labels(labels: list[str], most: int = 4) -> str:
    if len(labels) <= most:
        return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
    return f"{', '.join(labels[:most])} and {len(labels) - most} more"


def number(metric: str, value: float, signed: bool = False) -> str:
    """A metric as people read it: shares in percent, angles in degrees; differences with their sign."""
    return METRICS[metric].format(value, signed)


def between(metric: str, mean: Interval) -> str:
    if mean.low is None:
        return ""
    low, high = interval_ends(metric, mean)
    return f" (95% interval {low} to {high})"


def interval_ends(metric: str, mean: Interval) -> tuple[str, str]:
    """The ends of an interval, cut at the metric's bounds, which the t interval does not know."""
    low, high = METRICS[metric].clip(mean.low, mean.high)
    return number(metric, low), number(metric, high)
