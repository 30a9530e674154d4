"""The most useful next step, by its cause, with a command to paste."""

import os
from collections import Counter
from dataclasses import dataclass

from ..commands import command
from ..evaluation import metric_named
from ..losses import sufficient_scale
from ..run.causes import Cause, causes, changed, gentler, has_fixed_scale
from ..run.folder import RunFolder
from ..words import counted
from .effects import neutral_margin
from .read import RunRecord
from .settings import Setting
from .typed import overrides_of, sweep_overrides

SCALE_TOO_LARGE = 2  # times what the number of classes needs
FAR_BELOW = 0.1  # of softmax's result
MOST_SEEDS = 12  # worth a proposal
EDGES = {"optimizer.lr": "learning rate", "scale.value": "scale", "margin.value": "margin"}


@dataclass
class Advice:
    """A next step: the name of its cause, what was seen, and a command to paste."""

    cause: str
    because: str
    command: str | None = None


def advise(comparison) -> list[Advice]:
    """Return the next steps, the most useful first."""
    found = [
        *collapsed(comparison),
        *far_below_softmax(comparison),
        *of_the_runs(comparison),
        *at_an_edge(comparison),
        *saturated(comparison),
        *few_repeats(comparison),
    ]
    order = ("collapsed", "far_below_softmax", "still_improving", "edge", "few_steps", "saturated")
    return sorted(found, key=lambda a: order.index(a.cause) if a.cause in order else len(order))


def again(setting: Setting, changes: dict[str, str], folder: str | None = None) -> str:
    """Return the command that trains a setting with other values and the seeds that it had, as a sweep
    in `folder` if one is given."""
    given = [o for o in overrides_of(setting.runs[0]) if not o.startswith(("hydra.", "dataset.fold="))]
    overrides = changed(given, {"seed": ",".join(map(str, setting.seeds))} | changes)
    sweep = folder or setting.folds or any("," in each for each in overrides)
    if folder:
        overrides.append(f"hydra.sweep.dir={folder}")
    if sweep and any(each.startswith("experiment=") for each in given):
        overrides.append("hydra.sweeper.grids=[]")  # those of the experiment lack these values
    return command("train", *["-m"] * bool(sweep), *overrides)


def collapsed(comparison) -> list[Advice]:
    """Advise on the setting of which most runs collapsed."""
    lost = [setting for setting in comparison.candidates if setting.collapsed]
    if not lost:
        return []
    runs = sum(len(setting.runs) for setting in comparison.candidates)
    count = sum(len(setting.collapsed) for setting in lost)
    worst = max(lost, key=lambda setting: len(setting.collapsed))
    by_loss = Counter(run.config.name("loss") for setting in lost for run in setting.collapsed)
    which = ", ".join(f"{loss} {n}" for loss, n in by_loss.items())
    because = f"{count} of {counted(runs, 'run')} collapsed ({which})"
    return [Advice("collapsed", because, again(worst, gentler(worst.runs[0].config)))]


def far_below_softmax(comparison) -> list[Advice]:
    """Advise on a loss that is far below softmax at a scale far above what its classes need."""
    which = comparison.facts.which_loss
    if not which or "softmax" not in comparison.by_loss:
        return []
    results = {result.loss: result.mean for result in which.losses}
    sign, base = comparison.sign, results["softmax"]
    found = []
    for loss, own in comparison.by_loss.items():
        behind = sign * (base - results[loss])
        if loss == "softmax" or behind <= FAR_BELOW * abs(base) or own[0].collapsed:
            continue
        run = own[0].runs[0]
        config, classes = run.config, len(run.summary.trained_classes)
        if not (has_fixed_scale(config) and classes > 2):
            continue
        if config.scale.value and config.scale.value > SCALE_TOO_LARGE * sufficient_scale(classes):
            gap = metric_named(comparison.metric).format(behind, True).lstrip("+")
            scale = f"scale {config.scale.value:g} is large for {classes} classes"
            because = f"{loss} is {gap} below softmax: {scale}"
            found.append(Advice("far_below_softmax", because, again(own[0], {"scale": "adacos"})))
    return found[:1]


def of_the_runs(comparison) -> list[Advice]:
    """Advise on what most runs of the setting to use have wrong, unless their metric is saturated."""
    undecided, best = comparison.facts.undecided, comparison.best
    if undecided and undecided.why == "saturated":
        return []
    seen: dict[str, list[Cause]] = {}
    for run in best.runs:
        for cause in causes_of(run, comparison.metric):
            seen.setdefault(cause.name, []).append(cause)
    return [
        Advice(name, f"{best.label}: {own[0].because}", again(best, own[0].changes))
        for name, own in seen.items()
        if name != "collapsed" and 2 * len(own) > len(best.runs)
    ]


def causes_of(run: RunRecord, metric: str) -> list[Cause]:
    try:
        rows = RunFolder(run.folder).rows()
    except (OSError, ValueError):  # missing, or damaged
        rows = []
    return causes(run.config, rows, run.counts, run.summary.collapse, metric)


def at_an_edge(comparison) -> list[Advice]:
    """Advise to look further where the setting to use has the lowest or highest value tried of a key."""
    best = comparison.best
    if comparison.facts.undecided:
        return []
    found = []
    for key, name in EDGES.items():
        tried = sorted({number_of(setting, key) for setting in comparison.by_loss[best.loss]} - {None})
        own = number_of(best, key)
        if len(tried) < 2 or own not in (tried[0], tried[-1]):
            continue
        lowest = own == tried[0]
        if key == "margin.value" and lowest and own == neutral_margin(best):
            continue
        beyond = next_value(tried, lowest, key == "margin.value")
        if beyond is None:
            continue
        side = "lowest" if lowest else "highest"
        because = f"{best.label} has the {side} {name} that was tried of {best.loss}"
        folder = os.path.relpath(best.runs[0].folder.parent)
        line = again(best, {key: f"{beyond:.3g}"}, folder)
        found.append(Advice("edge", because, line))
    return found[:1]


def number_of(setting: Setting, key: str) -> float | None:
    """The value of a key, if it is one number."""
    value = setting.value(key)
    return None if isinstance(value, list) else value


def next_value(tried: list[float], lowest: bool, linear: bool) -> float | None:
    """One step beyond the lowest or highest of several values, as large as the last step between
    them."""
    end, before = (tried[0], tried[1]) if lowest else (tried[-1], tried[-2])
    if linear:
        beyond = 2 * end - before
        return beyond if beyond >= 0 else None
    return end * end / before if end > 0 and before > 0 else None


def saturated(comparison) -> list[Advice]:
    """Advise on another metric, or folds, where the metric cannot tell the settings apart."""
    facts = comparison.facts
    if not facts.undecided or facts.undecided.why == "collapsed":
        return []
    folder = os.path.relpath(comparison.settings[0].runs[0].folder.parent)
    name = metric_named(comparison.metric).label
    because = f"{name} cannot tell the settings apart"
    if facts.undecided.other:
        other = facts.undecided.other.metric
        return [Advice("saturated", because, command("compare", folder, "--metric", other))]
    if facts.folds:
        return [Advice("saturated", f"{because}; a larger test set could")]
    given = sweep_overrides(comparison.settings[0].runs[0].folder.parent)
    line = command("train", "-m", *changed(given, {"dataset.folds": "5"})) if given else None
    return [Advice("saturated", f"{because}; five folds test every image once", line)]


def few_repeats(comparison) -> list[Advice]:
    """Advise how many seeds could tell the first loss from the next."""
    facts = comparison.facts
    which = facts.which_loss
    if facts.undecided or facts.folds or len(comparison.candidates) < 2:
        return []
    best, seeds = comparison.best, facts.repeats
    if which and which.differences and all(gap.separable for gap in which.differences):
        return []
    detectable = which.smallest_detectable if which else facts.which_setting.smallest_detectable
    if detectable is None:
        if seeds >= 3:
            return []
        wanted = 3
    else:
        wanted = which.seeds_wanted if which else None
        if not wanted or not seeds < wanted <= MOST_SEEDS:
            return []
    folder = best.runs[0].folder.parent
    given = sweep_overrides(folder)
    more, place = {"seed": ",".join(map(str, range(wanted)))}, os.path.relpath(folder)
    line = command("train", "-m", *changed(given, more | {"hydra.sweep.dir": place})) if given else None
    line = line or again(best, more, place)
    few = f"{counted(seeds, 'seed')} {'is' if seeds == 1 else 'are'} too few"
    because = f"{few} to tell the first from the next"
    return [Advice("few_seeds", because, line)]
