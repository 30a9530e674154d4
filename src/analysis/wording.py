"""The facts in words: the template of the answer, and the filters that it takes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..evaluation import METRICS
from ..words import counted
from .facts import Facts, LossDifference
from .notes import notes
from .phrases import enumerate_labels, number
from .ranking import Comparison
from .statistics import CONFIDENCE, FEWEST_DEGREES, POWER
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
        title=METRICS[comparison.metric].label,
        best_value=METRICS[comparison.metric].best,
        chosen_on=comparison.chosen_on,
        repeats=repeats(facts),
        sure=facts.which_setting is not None and facts.which_setting.low is not None,
        range=spread_of_losses(facts),
        no_difference=no_difference(facts),
    )
    first, _, rest = words.partition("\n\n")
    rest = [line for line in rest.splitlines() if line.strip()]
    return [*first.splitlines(), "", *rest, *notes(comparison), *next_steps(comparison)]


def filters(comparison: Comparison) -> dict[str, Callable]:
    metric = METRICS[comparison.metric]
    sign = 1 if comparison.higher_is_better else -1

    def value(number_: float, name: str | None = None) -> str:
        return number(name or comparison.metric, number_)

    def apart(difference: float) -> str:
        """The size of a difference that is an advantage; with its sign where it is none."""
        return metric.format(sign * difference, True).lstrip("+")

    def step(resolution: float | None, split: str) -> str:
        if not resolution:
            return "nothing"
        shown = metric.format(resolution, True).lstrip("+")
        return f"the {shown} that one {metric.counted_noun} more or less changes"

    def pick(differences: list[LossDifference], test: Callable) -> list[LossDifference]:
        return [gap for gap in differences if test(gap)]

    return {
        "value": value,
        "apart": apart,
        "end": lambda difference: metric.format(difference, True).split()[0],
        "gap": lambda difference: metric.format(difference, True),
        "size": lambda difference: apart(difference).split()[0],
        "step": step,
        "title": lambda name: METRICS[name].label,
        "names": lambda labels: enumerate_labels(labels),
        "nearest": lambda gaps: min(gaps, key=lambda gap: sign * gap.estimate),
        "ahead": partial(pick, test=lambda gap: gap.separable and sign * gap.estimate < 0),
        "behind": partial(pick, test=lambda gap: gap.separable and sign * gap.estimate > 0),
        "rivals": partial(pick, test=lambda gap: not gap.separable),
        "of": lambda count, all_: (
            f"{'It' if all_ == 1 else f'{count} of the {all_} others'} {'is' if count == 1 else 'are'}"
            if all_ > 1
            else "The other is"
        ),
    }


def repeats(facts: Facts) -> str:
    return counted(facts.repeats, "fold" if facts.folds else "seed")


def spread_of_losses(facts: Facts) -> float | None:
    """How far apart the best and the worst loss are."""
    if not facts.which_loss:
        return None
    means = [result.mean for result in facts.which_loss.losses]
    sign = 1 if METRICS[facts.metric].higher_is_better else -1
    return sign * (max(means) - min(means))


def no_difference(facts: Facts) -> bool:
    """Whether the losses are closer than what would have been found, and that is little."""
    which = facts.which_loss
    if not which or which.smallest_detectable is None or any(gap.separable for gap in which.differences):
        return False
    return abs(spread_of_losses(facts)) <= which.smallest_detectable <= LITTLE


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
            "classes are unseen, the interval for other classes is from a bootstrap over classes."
        )
    return (
        f"{chosen} {how} An interval needs {FEWEST_DEGREES} degrees of freedom. The smallest difference "
        f"that would have been found has a power of {POWER:.0%}. * separable from 0."
    )
