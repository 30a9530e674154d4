"""The facts in words: the template of the answer, and the filters that it takes."""

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..evaluation import metric_named
from ..words import counted
from .facts import Facts, LossDifference, effects_to_show, widest
from .notes import notes
from .phrases import enumerate_labels, number
from .ranking import Comparison
from .statistics import CONFIDENCE, FEWEST_DEGREES, POWER, Difference
from .winner import next_steps

LITTLE = 0.02  # 2 points of a share: a smaller difference matters to few
TEMPLATES = Path(__file__).with_name("templates")


def answer_sentences(comparison: Comparison) -> list[str]:
    """The answer, a sentence or a command a line, the two that matter most and the next step first; an
    empty line parts them from all else."""
    facts = comparison.facts
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text
    )
    env.filters |= filters(comparison)
    words = env.get_template("answer.txt").render(
        facts=facts,
        title=metric_named(comparison.metric).label,
        best_value=metric_named(comparison.metric).best,
        chosen_on=comparison.chosen_on,
        repeats=repeats(facts),
        sure=facts.which_setting is not None and facts.which_setting.low is not None,
        range=spread_of_losses(facts) if facts.which_loss else None,
        no_difference=no_difference(facts),
        shown_effects=effects_to_show(facts),
    )
    first, _, rest = words.partition("\n\n")
    rest = [line for line in rest.splitlines() if line.strip()]
    return [*first.splitlines(), "", *rest, *notes(comparison), *next_steps(comparison)]


def filters(comparison: Comparison) -> dict[str, Callable]:
    metric, sign = metric_named(comparison.metric), comparison.sign

    def value(number_: float, name: str | None = None) -> str:
        return number(name or comparison.metric, number_)

    def size(difference: float) -> str:
        """Format how large a difference is, whichever side it favours."""
        return metric.format(abs(difference), True).lstrip("+")

    def gap(difference: float) -> str:
        return metric.format(difference, True)

    def ends(low: float | None, high: float | None, form: Callable = gap) -> str:
        if low is None:
            return ""
        low, high = (form(end).split()[0] for end in (low, high))
        return f" ({low} to {high})"

    def change(found: LossDifference | Difference) -> str:
        """Format a difference with its signs: `-0.4 points (-1.2 to +0.4)`."""
        return gap(found.estimate) + ends(*widest(found))

    def lead(found: LossDifference | Difference) -> str:
        """Format an advantage, which is positive whatever the metric: `2.1 points (1.3 to 3.0)`."""
        low, high = widest(found)
        if low is not None:
            low, high = sorted((sign * low, sign * high))
        advantage = metric.format(sign * found.estimate, True).lstrip("+")
        return advantage + ends(low, high, lambda end: metric.format(end, True).lstrip("+"))

    def step(resolution: float | None) -> str:
        if not resolution:
            return "nothing"
        return f"the {size(resolution)} that one {metric.counted_noun} more or less changes"

    def ahead(gaps: list[LossDifference]) -> list[LossDifference]:
        return [found for found in gaps if found.separable and sign * found.estimate < 0]

    def behind(gaps: list[LossDifference]) -> list[LossDifference]:
        return [found for found in gaps if found.separable and sign * found.estimate > 0]

    return {
        "value": value,
        "size": size,
        "gap": gap,
        "change": change,
        "lead": lead,
        "step": step,
        "seeds_only": lambda found: gap(found.estimate) + ends(found.low, found.high),
        "title": lambda name: metric_named(name).label,
        "names": enumerate_labels,
        "nearest": lambda gaps: min(gaps, key=lambda found: sign * found.estimate),
        "ahead": ahead,
        "behind": behind,
        "uneven": lambda gaps: [found for found in gaps if found.uneven],
        "seeds_alone": lambda gaps: [f for f in gaps if f.with_seeds and sign * f.estimate > 0],
        "rivals": lambda gaps: [found for found in gaps if not found.separable],
    }


def repeats(facts: Facts) -> str:
    return counted(facts.repeats, "fold" if facts.folds else "seed")


def spread_of_losses(facts: Facts) -> float:
    """Return how far apart the best and the worst loss are."""
    means = [result.mean for result in facts.which_loss.losses]
    return max(means) - min(means)


def no_difference(facts: Facts) -> bool:
    """Return whether no two losses differ by more than the smallest detectable difference, and that is
    at most LITTLE."""
    which = facts.which_loss
    if not which or which.smallest_detectable is None or any(gap.separable for gap in which.differences):
        return False
    return spread_of_losses(facts) <= which.smallest_detectable <= LITTLE


def method(comparison: Comparison) -> str:
    """How the numbers came about, and what the intervals are about."""
    chosen = (
        f"Every loss chooses its setting anew with each seed, on the {comparison.chosen_on}, and is "
        "judged by that run's result on the test split."
    )
    if comparison.facts.folds:
        how = (
            "Differences between losses are paired by fold, corrected for the number of pairs "
            "(Bonferroni) and for the training images that folds share (Nadeau & Bengio 2003)."
        )
    else:
        how = (
            f"Differences between losses hold together with {CONFIDENCE:.0%}: Tukey's studentized range "
            "with a pooled variance, Games and Howell's test for a loss that is much noisier than the "
            "others, Dunnett's test against the baseline. They say how much training varies; where "
            "classes are unseen, the interval for other classes is from a jackknife over classes."
        )
    return (
        f"{chosen} {how} An interval needs {FEWEST_DEGREES} degrees of freedom. The smallest difference "
        f"that would have been found has a power of {POWER:.0%}. * separable from 0."
    )
