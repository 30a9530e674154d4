"""How sure the answer is, in sentences: against the baselines, and against the other settings."""

from ..evaluation import METRICS
from ..words import counted
from .phrases import SURE, enumerate_labels, number, repeated_word
from .ranking import Comparison
from .settings import Setting
from .statistics import FEWEST_PAIRS, MOST_SEEDS, NO_SPREAD, Difference
from .verdict import SAME, SPLITS, means_on, resolution

MORE_FOLDS = (5, 10)


def against_baselines(comparison: Comparison) -> list[str]:
    """One line on the first setting against each baseline; empty if there is none."""
    best, base = comparison.best, comparison.baseline
    found, families = [], set()
    for setting in comparison.baselines:  # of each family the best, which comes first
        if setting.loss not in families:
            families.add(setting.loss)
            found.append(setting)
    if base is not None and base is not best and base not in found:
        found.insert(0, base)
    lines = [
        against_baseline(comparison, setting, opposite(setting.to_best))
        if setting.to_best
        else f"No {repeated_word(comparison)} in common with the baseline {setting.label}."
        for setting in found
    ]
    return [" ".join(lines)] if lines else []


def opposite(gap: Difference) -> Difference:
    low, high = (None, None) if gap.low is None else (-gap.high, -gap.low)
    return gap._replace(mean=-gap.mean, low=low, high=high)


def against_baseline(comparison: Comparison, baseline: Setting, gap: Difference) -> str:
    """How far the best setting is from a baseline."""
    metric, sign = comparison.metric, 1 if comparison.higher_is_better else -1
    pixels = baseline.loss == "pixels"
    name = baseline.label + ", the images themselves without any training" * pixels
    against = f"{comparison.best.label} against" if comparison.undecided else "Against"
    said = f"{against} the baseline {name}: {number(metric, gap.mean, signed=True)}"
    verdict = ""
    if gap.separable and sign * gap.mean < 0:
        verdict = f"worse than {baseline.label}"
    elif not gap.separable and sign * gap.mean <= 0:
        verdict = f"no better than {baseline.label}"
    elif not gap.separable and pixels:
        verdict = f"not shown to be better than {baseline.label}"
    word = repeated_word(comparison)
    if gap.n == 1:
        said += f", with one {word} in common"
        if not pixels:
            return f"{said}."
        return f"{said}: {verdict}, as far as that can be told." if sign * gap.mean <= 0 else f"{said}."
    low, high = (number(metric, bound, signed=True) for bound in (gap.low, gap.high))
    said += f" ({low} to {high}), "
    if gap.separable:
        return f"{said}separable{f': {verdict}' if verdict else ''}."
    more = needed(gap, word)
    return f"{said}not separable with these {word}s{f': {verdict}' if verdict else ''}, {more}."


def needed(gap: Difference, word: str) -> str:
    """What it would take to tell two settings apart, as far as that can be said."""
    if gap.more_seeds:
        return f"about {counted(gap.more_seeds, 'more seed')} each would tell"
    if gap.n < FEWEST_PAIRS:
        return f"and {counted(gap.n, word)} are too few to say how many more would tell"
    if gap.high - gap.low < NO_SPREAD:
        return f"the same in every {word}, as counts of samples can be by chance"
    return (
        "and more folds or images would tell"
        if word == "fold"
        else f"and {MOST_SEEDS} seeds would not tell either"
    )


def how_sure(comparison: Comparison) -> list[str]:
    """Which of the others are behind the best, which may not be, and which are even ahead on test."""
    metric, others, word = comparison.metric, comparison.candidates[1:], repeated_word(comparison)
    if comparison.best.test.n == 1:
        more = "run more, as seed=0,1,2" if word == "seed" else "run the others"
        return [f"With 1 {word} nothing can be said of how sure this is: {more}."]
    sign = 1 if comparison.higher_is_better else -1
    behind = [s for s in others if s.to_best and s.to_best.separable and sign * s.to_best.mean < 0]
    ahead = [s for s in others if s.to_best and s.to_best.separable and sign * s.to_best.mean > 0]
    unknown = [s for s in others if not s.to_best or s.to_best.n == 1]
    rivals = [s for s in others if s not in (*behind, *ahead, *unknown)]
    lines = [verdict(len(rivals) + len(unknown), len(others), bool(ahead))]
    if behind:
        labels = enumerate_labels([s.label for s in behind])
        lines.append(f"Separably behind it ({SURE} for all of them together): {labels}.")
    if ahead:
        lines.append(
            f"Separably ahead of it on the test split: {enumerate_labels([s.label for s in ahead])}."
        )
    if unknown:
        few = enumerate_labels([s.label for s in unknown])
        lines.append(f"Too few {word}s in common with it to say anything: {few}.")
    if rivals:
        labels = enumerate_labels([s.label for s in rivals], 6)
        lines += [
            f"Not separable from it with these {word}s: {labels}.",
            *nearest_rival(metric, rivals, sign, word),
            *resolutions(comparison),
            *more_folds(comparison),
        ]
    return lines


def resolutions(comparison: Comparison) -> list[str]:
    """How far apart the settings are, beside what a single sample changes."""
    metric, said = METRICS[comparison.metric], []
    for split in ("test",) if comparison.chosen_on_test else SPLITS:
        means = means_on(split, comparison.candidates, metric.name)
        step = resolution(comparison.candidates, metric, split)
        if means and step:
            apart, one = (
                metric.format(value, True).lstrip("+") for value in (max(means) - min(means), step)
            )
            said.append(f"{apart} apart on the {split} split, where one {metric.counted_noun} is {one}")
    return [f"The {len(comparison.candidates)} settings are {', and '.join(said)}."] if said else []


def more_folds(comparison: Comparison) -> list[str]:
    """What would tell settings apart in a cross-validation: more folds train on more images each, and
    give more results to compare."""
    folds = comparison.best.runs[0].config.dataset.folds
    if not comparison.best.folds or not folds:
        return []
    more = next((each for each in MORE_FOLDS if each > folds), None)
    ways = ["images of more classes" if is_open(comparison) else "more images of each class"]
    if more:
        ways.insert(0, f"more folds (dataset.folds={more}, if the classes are enough)")
    return [f"What would tell them apart: {', or '.join(ways)}."]


def is_open(comparison: Comparison) -> bool:
    return comparison.best.runs[0].config.evaluation.protocol != "closed_set"


def verdict(doubtful: int, others: int, ahead: bool) -> str:
    if ahead:
        return "Do not take it for the best: on the test split some others are separably ahead of it."
    if not doubtful:
        return "It is the best of these settings, on this data and budget: all others are behind."
    who = "the other" if others == 1 else f"{doubtful} of the {others} others"
    if doubtful == others > 1:
        who = f"all {others} others"
    return f"That does not make it the best: {who} may be as good."


def nearest_rival(metric: str, rivals: list[Setting], sign: int, word: str) -> list[str]:
    """How far the nearest is, what it would take to tell it apart, and who else is ahead on test."""
    nearest = min(rivals, key=lambda setting: abs(setting.to_best.mean))
    gap = nearest.to_best
    side = "ahead of" if sign * gap.mean > 0 else "behind"
    apart = f"{number(metric, abs(gap.mean), signed=True).lstrip('+')} {side} it"
    if abs(gap.mean) < SAME:
        end = "equals it."
    elif gap.more_seeds:
        needs = f"about {counted(gap.more_seeds, 'more seed')} each"
        end = f"is {apart}: telling them apart would take {needs}."
    elif gap.n >= FEWEST_PAIRS and word == "seed" and gap.high - gap.low >= NO_SPREAD:
        end = f"is {apart}: telling them apart would take more than {MOST_SEEDS} seeds."
    else:
        end = f"is {apart}, {needed(gap, word)}."
    lines = [f"The nearest of those on the test split, {nearest.label}, {end}"]
    leading = [s for s in rivals if sign * s.to_best.mean > 0 and s is not nearest]
    if leading:
        lines.append(
            f"Also ahead of it on the test split: {enumerate_labels([s.label for s in leading])}."
        )
    return lines
