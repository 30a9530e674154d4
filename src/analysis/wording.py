"""The answer in sentences: which setting, how good, against the baselines, and how sure that is."""

from ..evaluation import METRICS
from ..words import counted
from .certainty import against_baselines, how_sure
from .notes import notes
from .phrases import between, enumerate_labels, number, repeats
from .ranking import Comparison
from .statistics import CONFIDENCE, FEWEST_PAIRS, POWER
from .verdict import SAME, Other
from .winner import next_steps

FEWEST_TRIED = 3  # settings of a loss that its best is worth a line


def answer_sentences(comparison: Comparison) -> list[str]:
    """The answer, a sentence or two each: what collapsed; what each loss reaches where all had equal
    budgets; which setting ranks first, or why none does; against the baselines; how sure that is; what
    else a reader must know; and how to use the model."""
    lines = [*collapsed_settings(comparison), *best_of_each_loss(comparison)]
    lines += [headline(comparison), *against_baselines(comparison)]
    if comparison.undecided:
        lines += what_to_do(comparison)
    elif len(comparison.candidates) > 1:
        lines += how_sure(comparison)
    return [*lines, *notes(comparison), *next_steps(comparison)]


def best_of_each_loss(comparison: Comparison) -> list[str]:
    """What each loss reaches, if each had as many settings to choose from, three at least: then none
    leads because it was tried more often. Otherwise nothing."""
    by_loss = comparison.by_loss
    tried = {len(settings) for settings in by_loss.values()}
    if len(by_loss) < 2 or len(tried) > 1 or min(tried) < FEWEST_TRIED or comparison.undecided:
        return []
    metric, sign = comparison.metric, 1 if comparison.higher_is_better else -1
    firsts = sorted((own[0] for own in by_loss.values()), key=lambda first: -sign * first.chosen.mean)
    reached = [
        f"{first.label} {number(metric, first.test.mean)}{between(metric, first.test)}"
        for first in firsts
    ]
    chosen = f"chosen on the {comparison.chosen_on}"
    return [f"Best of {tried.pop()} settings of each loss, {chosen}, by {metric}: {'; '.join(reached)}."]


def headline(comparison: Comparison) -> str:
    best, metric, n = comparison.best, comparison.metric, len(comparison.candidates)
    lower = "" if comparison.higher_is_better else " (lower is better)"
    flatters = ", which flatters it" if comparison.chosen_on_test else ""
    if comparison.undecided:
        return why_undecided(comparison)
    ends = f"{number(metric, best.test.mean)} on the test split{between(metric, best.test)}, "
    ends += f"{repeats(best)}."
    name = best.label
    if best.collapsed:
        name += f" ({len(best.collapsed)} of {counted(len(best.runs), 'run')} collapsed)"
    if n == 1:
        besides = enumerate_labels([setting.label for setting in comparison.baselines])
        only = f"the only setting besides {besides}" if besides else "the only setting"
        return f"{name}, {only}: {metric}{lower} {ends}"
    level = [setting.label for setting in comparison.equals]
    first = f"shares the first rank with {enumerate_labels(level)}" if level else "ranks first"
    where = f"by {metric}{lower} on the {comparison.chosen_on}{flatters}"
    return f"{name} {first} of {n} settings {where}: {ends}"


def why_undecided(comparison: Comparison) -> str:
    """That nobody ranks first, and why."""
    found, metric, n = comparison.undecided, METRICS[comparison.metric], len(comparison.candidates)
    first = f"No setting ranks first of {n}: "
    if found.why == "collapsed":
        return f"{first}all of their runs collapsed."
    low, high = number(metric.name, found.low), number(metric.name, found.high)
    at = low if low == high else f"{low} to {high}"
    one = one_sample(comparison, found.split)
    if found.why == "saturated":
        limit = number(metric.name, metric.best)
        within = f", all within {one} of {limit}" if found.resolution else f" at {limit}"
        said = f"{first}{metric.name} is saturated on the {found.split} split{within}"
    else:
        said = f"{first}all of them tie by {metric.name} on the {found.split} split"
        said += f", less apart than {one}" if found.high - found.low > SAME else ""
    said += f" ({at})"
    if found.split == "validation":
        tests = [setting.test.mean for setting in comparison.candidates]
        low, high = (number(metric.name, end) for end in (min(tests), max(tests)))
        said += f"; on the test split they have {low if low == high else f'{low} to {high}'}"
    return f"{said}, {repeats(comparison.best)}."


def one_sample(comparison: Comparison, split: str) -> str:
    """`the 3.3 points that one of 30 queries changes`."""
    metric, step = METRICS[comparison.metric], comparison.undecided.resolution
    if not step:
        return ""
    apart = number(metric.name, step, signed=True).lstrip("+")
    return f"the {apart} that one {metric.counted_noun} more or less changes"


def what_to_do(comparison: Comparison) -> list[str]:
    """What would tell settings apart that the metric cannot."""
    found = comparison.undecided
    if found.why == "collapsed":
        return ["To get an answer: a smaller optimizer.lr or scale.value, as each run's log says."]
    ways, config = [], comparison.best.runs[0].config
    if found.other:
        ways.append(other_metric(found.other))
    closed = config.evaluation.protocol == "closed_set"
    what, share = ("images" if closed else "classes"), config.dataset.val_fraction
    if found.split == "validation":
        ways.append(f"more validation {what} (dataset.val_fraction, now {share:g})")
    else:
        ways.append(f"more {found.split} {what}")
    if not comparison.best.folds:
        ways.append("folds, which test each in turn (dataset.folds=5)")
    if found.resolution is None and found.split == "test" and comparison.best.test.n == 1:
        ways.append("more seeds (seed=0,1,2)")
    none = "" if found.other else "No other recorded metric tells them apart. "
    return [f"{none}What would: {'; '.join(ways)}."]


def other_metric(other: Other) -> str:
    shown = [f"{label} {number(other.metric, mean)}" for label, mean in other.means]
    if len(shown) > 4:
        shown = [*shown[:2], "…", shown[-1]]
    if other.separable:
        does = f"on the test split separates {other.separable} of {len(other.means) - 1} from its first"
    else:
        does = "spreads them, though not separably"
    return f"--metric {other.metric}, which {does} (on the {other.split} split {', '.join(shown)})"


def collapsed_settings(comparison: Comparison) -> list[str]:
    """Which settings have runs that collapsed: their numbers count, and mislead where nobody says so."""
    settings = [setting for setting in comparison.settings if setting.collapsed]
    if not settings:
        return []
    counts = [f"{s.label} ({len(s.collapsed)} of {counted(len(s.runs), 'run')})" for s in settings]
    why = settings[0].collapsed[0].error
    return [
        f"Collapsed: {enumerate_labels(counts)}, as in {settings[0].label}: {why}. Their numbers count, "
        "and say nothing about the loss at a learning rate or scale that suits it."
    ]


def method(comparison: Comparison) -> str:
    """How the numbers came about, and what the intervals are about."""
    folds = bool(comparison.best.folds)
    word = "fold" if folds else "seed"
    means = (
        "Student's t over folds, whose seeds are averaged, with the variance corrected for the training "
        "images that folds share (Nadeau & Bengio 2003)"
        if folds
        else "Student's t over seeds"
    )
    about = (
        "they say how much training and the images vary"
        if folds
        else "they say how much training varies, not how much another test set would"
    )
    power = "" if folds else f" Seeds needed are for a power of {POWER:.0%}."
    return (
        f"Ranked by the mean on the {comparison.chosen_on}, reported on the test split. Intervals of a "
        f"mean are {means}, {CONFIDENCE:.0%}: {about}. Differences are paired by seed"
        f"{' and fold' * folds}; their intervals hold for all of a column together (Bonferroni), and "
        f"with fewer than {FEWEST_PAIRS} {word}s, or the same difference in each, nothing is called "
        f"separable.{power}"
    )
