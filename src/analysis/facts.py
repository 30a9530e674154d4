"""The answer as plain data: which loss, which setting, what matters, and what to do next.

`comparison/facts.json` holds the same for scripts; the templates put it in words."""

import json
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.stats import trim_mean

from ..errors import UserError
from .advice import Advice
from .effects import Effect, effects
from .other_classes import with_other_classes
from .phrases import clipped
from .settings import Setting, contenders, family_of
from .statistics import Difference, Family, Repeat
from .verdict import Undecided, undecided

TYPICAL = 0.25  # share of a loss's settings left out at either end where their spread is averaged
FEW_EFFECTS = 12  # that a reader will read
FEWEST_SETTINGS = 3  # of a loss, for their spread to be known


@dataclass
class LossResult:
    """What a loss reaches, if its setting is chosen anew with every seed."""

    loss: str
    settings: int
    repeats: int
    mean: float
    low: float | None
    high: float | None
    collapsed: int = 0
    runs: int = 0


@dataclass
class LossDifference:
    """The leader's result minus that of another loss, on the test split. `low` and `high` are about
    other seeds; `classes_low` and `classes_high` about other seeds and other classes, where these are
    known. `separable` is a difference that holds for all that is known. An `uneven` loss is behind by
    more than would have been found, but for its own results, which vary too much between seeds."""

    loss: str
    estimate: float
    low: float | None
    high: float | None
    separable: bool
    classes_low: float | None = None
    classes_high: float | None = None
    with_seeds: bool = False  # it holds for other seeds
    uneven: bool = False

    @classmethod
    def of(cls, loss: str, seeds: Difference, classes: Difference | None) -> "LossDifference":
        both = seeds.separable and (classes is None or classes.separable)
        more = (classes.low, classes.high) if classes else (None, None)
        return cls(loss, seeds.estimate, seeds.low, seeds.high, both, *more, seeds.separable)


def widest(found: LossDifference | Difference) -> tuple[float | None, float | None]:
    """Return the interval for other seeds and other classes, if it is known, else for other seeds."""
    if isinstance(found, LossDifference) and found.classes_low is not None:
        return found.classes_low, found.classes_high
    return found.low, found.high


@dataclass
class WhichLoss:
    """Question 1. `differences` are those of the leader from every other loss, and hold together;
    `against_baseline` those of every loss from the baseline."""

    leader: str
    losses: list[LossResult]
    differences: list[LossDifference]
    baseline: str | None
    against_baseline: list[LossDifference]
    smallest_detectable: float | None
    seeds_to_detect: int | None = None  # the difference that was asked for
    seeds_wanted: int | None = None  # to find a difference as large as that from the next loss
    equal_budgets: bool = True


@dataclass
class WhichSetting:
    """Question 2: the setting to use, and those of the same loss that are no worse as far as the runs
    tell; `tried` counts the loss's settings. `next` is the best of the others on the test split, and
    `lead` the difference from it."""

    setting: str
    mean: float
    low: float | None
    high: float | None
    tried: int
    no_worse: list[str]
    worse: list[str]
    next: str | None
    lead: Difference | None
    smallest_detectable: float | None


@dataclass
class Facts:
    """The answer of a comparison; `comparison/facts.json` has the same fields."""

    metric: str
    repeats: int  # seeds, or folds
    folds: bool
    undecided: Undecided | None = None
    which_loss: WhichLoss | None = None  # None with one loss, or where nothing can be decided
    which_setting: WhichSetting | None = None
    what_matters: list[Effect] = field(default_factory=list)
    pixels: float | None = None  # the images themselves, untrained
    beats_pixels: bool | None = None  # of the setting to use, its whole interval
    loses_to_pixels: bool | None = None  # its whole interval
    detect: float | None = None  # the difference that was asked for
    advice: list[Advice] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def effects_to_show(facts: Facts) -> list[Effect]:
    """All effects or, of many, those that are separable from 0 and those of the loss to use."""
    if len(facts.what_matters) <= FEW_EFFECTS or not facts.which_loss:
        return facts.what_matters
    leader = facts.which_loss.leader
    return [effect for effect in facts.what_matters if effect.separable or effect.loss in (leader, None)]


def find_facts(comparison, baseline: str | None = None, detect: float | None = None) -> Facts:
    """The facts of a comparison, but for advice. Raises UserError for an unknown baseline."""
    best, candidates, metric = comparison.settings[0], comparison.candidates, comparison.metric
    folds = bool(best.folds)
    facts = Facts(metric, len(best.folds) if folds else len(best.seeds), folds, detect=detect)
    base = baseline_of(comparison, baseline)
    facts.undecided = undecided(candidates, metric)
    if not facts.undecided:
        chosen = tuned(comparison)
        if len(comparison.by_loss) > 1:
            facts.which_loss = which_loss(comparison, chosen, base, detect)
        leader = facts.which_loss.leader if facts.which_loss else best.loss
        facts.which_setting = which_setting(comparison, comparison.by_loss[leader])
        facts.what_matters = effects(comparison)
    if comparison.pixels:
        facts.pixels = comparison.pixels[0].test.mean
        if facts.which_setting:
            ends = oriented_ends(comparison, facts.which_setting)
            if ends:
                facts.beats_pixels = min(ends) > comparison.sign * facts.pixels
                facts.loses_to_pixels = max(ends) < comparison.sign * facts.pixels
    return facts


def baseline_of(comparison, asked: str | None) -> str | None:
    """The loss that all are compared with."""
    for name in [asked] if asked else ["softmax", "normface"]:
        if name in comparison.by_loss:
            return name
    if asked:
        known = ", ".join(comparison.by_loss)
        raise UserError(f"--baseline {asked}: no such loss here, there are {known}")
    return None


def tuned(comparison) -> dict[str, dict[Repeat, Setting]]:
    """By loss and repeat, the setting that this repeat's validation result chooses: tuning is part of
    what is compared, so it is repeated with every seed. After a race only those are chosen from that
    ran with most seeds; their chance is the same for all losses."""
    sign, found = comparison.sign, {}
    for loss, settings in comparison.by_loss.items():
        own = contenders(settings)
        values = {setting.key: setting.validation(comparison.metric) for setting in own}
        every = set.intersection(*(set(v) for v in values.values())) or set().union(*values.values())
        found[loss] = {
            repeat: max(
                (setting for setting in own if repeat in values[setting.key]),
                key=lambda setting: sign * values[setting.key][repeat],
            )
            for repeat in sorted(every, key=lambda r: (r.seed, r.fold or 0))
        }
    return found


def which_loss(comparison, chosen, baseline: str | None, detect: float | None) -> WhichLoss:
    metric, sign = comparison.metric, comparison.sign
    values = {
        loss: {repeat: setting.values(metric)[repeat] for repeat, setting in own.items()}
        for loss, own in chosen.items()
    }
    test_ratio = max(setting.test_ratio for setting in comparison.candidates)
    family = Family(values, test_ratio, spreads(comparison))
    validation = {
        loss: np.mean([setting.validation(metric)[repeat] for repeat, setting in own.items()])
        for loss, own in chosen.items()
    }
    leader = max(validation, key=lambda loss: sign * validation[loss])  # of equal ones the first
    results = []
    for loss, own in comparison.by_loss.items():
        found = family.interval(loss)
        low, high = clipped(metric, found)
        collapsed = sum(len(setting.collapsed) for setting in own)
        runs = sum(len(setting.runs) for setting in own)
        results.append(LossResult(loss, len(own), found.n, found.mean, low, high, collapsed, runs))
    results.sort(key=lambda result: -sign * validation[result.loss])
    differences = [
        LossDifference.of(
            result.loss,
            family.difference(leader, result.loss),
            with_other_classes(metric, family, chosen, leader, result.loss),
        )
        for result in results
        if result.loss != leader
    ]
    least = family.smallest_detectable()
    for gap in differences:
        known = least and gap.low is not None and not gap.with_seeds
        gap.uneven = bool(known) and sign * gap.estimate > least
    open_ = [abs(gap.estimate) for gap in differences if not (gap.with_seeds or gap.uneven)]
    return WhichLoss(
        leader,
        results,
        differences,
        baseline,
        [
            LossDifference.of(loss, gap, None)
            for loss, gap in (family.against(baseline) if baseline else {}).items()
        ],
        least,
        family.repeats_to_detect(detect) if detect else None,
        family.repeats_to_detect(min(open_)) if open_ else None,
        len({result.settings for result in results}) == 1,
    )


def spreads(comparison) -> dict[str, float] | None:
    """How much the runs of each loss's typical setting differ between seeds; None where a loss has too
    few settings to tell. The middle settings count, so that a few which collapse do not. After a race it
    is not known either: the settings that are left were chosen for their luck, too."""
    found = {}
    for loss, own in comparison.by_loss.items():
        if contenders(own) != own:
            return None
        values = [list(setting.values(comparison.metric).values()) for setting in own]
        if len(own) < FEWEST_SETTINGS or min(map(len, values)) < 2 or own[0].folds:
            return None
        found[loss] = float(np.sqrt(trim_mean([np.var(v, ddof=1) for v in values], TYPICAL)))
    return found if all(found.values()) else None


def which_setting(comparison, own: list[Setting]) -> WhichSetting:
    """`own` are the settings of the loss to use, the best on the validation split first."""
    best, sign, tried = own[0], comparison.sign, len(own)
    own = contenders(own)
    family = family_of(own, comparison.metric)
    gaps = {s.label: family.difference(best.label, s.label) for s in own[1:]}
    worse = [label for label, gap in gaps.items() if gap.separable and sign * gap.estimate > 0]
    no_worse = [label for label in gaps if label not in worse]
    low, high = clipped(comparison.metric, best.test)
    following = min(gaps, key=lambda label: sign * gaps[label].estimate, default=None)
    return WhichSetting(
        best.label,
        best.test.mean,
        low,
        high,
        tried,
        no_worse,
        worse,
        following,
        gaps.get(following),
        family.smallest_detectable(),
    )


def oriented_ends(comparison, chosen: WhichSetting) -> tuple[float, float] | None:
    """The ends of the interval of the setting to use, larger is better; None if it has none."""
    if chosen.low is None:
        return None
    return comparison.sign * chosen.low, comparison.sign * chosen.high
