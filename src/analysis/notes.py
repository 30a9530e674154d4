"""What a reader must know besides: lost runs, hidden differences, too few images, one learning rate."""

from collections import Counter

from ..evaluation import metric_named
from ..run.advice import HANDFUL, in_words
from ..words import counted
from .ranking import Comparison
from .settings import contenders


def notes(comparison: Comparison) -> list[str]:
    return [
        *lost_runs(comparison),
        *raced(comparison),
        *handful(comparison),
        *duplicates(comparison),
        *one_rate(comparison),
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


def raced(comparison: Comparison) -> list[str]:
    """That some settings have too few seeds to be chosen."""
    left_out = [s for own in comparison.by_loss.values() for s in own if s not in contenders(own)]
    if not left_out:
        return []
    return [
        f"{len(left_out)} of {len(comparison.candidates)} settings have fewer seeds than others of "
        "their loss, as after a race: the answer does not choose among them."
    ]


def handful(comparison: Comparison) -> list[str]:
    """That the test split is too small for its numbers to mean much."""
    counts = comparison.best.runs[0].counts.get("test", {})
    if "classes" not in counts or not 0 < counts.get("images", HANDFUL) < HANDFUL:
        return []
    metric = metric_named(comparison.metric)
    step = metric.resolution(counts)
    moves = f": one {metric.counted_noun} more or less is {metric.format(step, True).lstrip('+')}"
    fold = " of each fold" * bool(comparison.best.folds)
    return [f"The test split{fold} has only {in_words(counts)}{moves if step else ''}."]


def duplicates(comparison: Comparison) -> list[str]:
    """That images are there more than once, or have two labels."""
    summary = comparison.best.runs[0].summary
    return [f"{line}." for line in summary.duplicates]


def one_rate(comparison: Comparison) -> list[str]:
    """That losses share one learning rate, which may suit one of them and not another."""
    trained = [setting for own in comparison.by_loss.values() for setting in own]
    rates = {run.config.optimizer.lr for setting in trained for run in setting.runs}
    if len(comparison.by_loss) < 2 or len(rates) > 1:
        return []
    return [
        f"All losses share one learning rate, optimizer.lr={rates.pop():g}, so this also compares how "
        "it suits them; experiment=fair_comparison lets each choose among several."
    ]


def differences(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.also_differ:
        differing = "; ".join(f"{key}: {', '.join(v)}" for key, v in comparison.also_differ.items())
        lines.append(f"Losses also differ in {differing}.")
    if len(comparison.codes) > 1:
        codes = "; ".join(f"{count} by {code}" for code, count in comparison.codes.items())
        lines.append(f"The runs were computed by {len(comparison.codes)} versions of the code: {codes}.")
    return lines
