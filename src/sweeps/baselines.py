"""What every comparison should be against: softmax, and the images themselves without any training."""

from collections.abc import Iterable

import numpy as np
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..config import setting
from ..config.classes import locate, parameters
from ..config.compose import Composer, explain
from ..config.errors import Refused
from ..config.fields import spelled
from ..config.read import FIELDS, read
from ..config.tree import PIXELS, leaves
from ..errors import UserError
from .plan import Planned, runs_of

LOSS, RATE = ("loss", "margin", "scale"), "optimizer.lr"
MOST_RATES = 12  # of softmax
AROUND = 5  # how far below and above the swept rates softmax looks for a better one
# Groups and keys that are about a backbone, or about training it, or about more epochs than pixels have.
BACKBONE = (
    *("neck", "init", "ema", "optimizer.backbone_lr", "optimizer.layer_decay"),
    *("early_stopping", "schedule.warmup"),
)


def baselines_of(composer: Composer, runs: list[Planned]) -> tuple[list[Planned], dict[str, str]]:
    """The runs of the baselines that are not among a sweep's `runs` already, and, by name, why a
    baseline cannot run with what was typed."""
    trained = [run for run in runs if run.config.model.target != PIXELS]
    found, refused = {}, {}
    for name, jobs in (("softmax", softmax(composer, trained)), ("pixels", pixels(composer, trained))):
        for overrides in dict.fromkeys(map(tuple, jobs)):
            try:
                for run in fitted(composer, list(overrides), name):
                    found.setdefault(run.identity, run)
            except (UserError, HydraException, OmegaConfBaseException) as error:
                refused.setdefault(name, explain(error, list(overrides)).splitlines()[0])
    own = {run.identity for run in runs}
    return [run for identity, run in found.items() if identity not in own], refused


def softmax(composer: Composer, runs: Iterable[Planned]) -> list[list[str]]:
    """Softmax with everything else that is swept: the same learning rates, seeds and folds. It has
    neither margin nor scale to choose; where a loss has more settings to choose from, softmax gets as
    many by further learning rates, since the best of more settings looks better by chance alone."""
    groups: dict[tuple, list[Planned]] = {}
    for run in runs:
        rest = without(composer, run.overrides, (*LOSS, RATE, "seed", "dataset.fold"))
        groups.setdefault(tuple(rest), []).append(run)
    jobs = []
    for group in groups.values():
        rates = {run.config.optimizer.lr for run in group}
        settings: dict[str, set[str]] = {}
        for run in group:
            settings.setdefault(run.config.name("loss"), set()).add(setting(run.config))
        more = further_rates(sorted(rates), max(map(len, settings.values())))
        for run in group:
            plain = [*without(composer, run.overrides, LOSS), "loss=softmax"]
            jobs.append(plain)
            rateless = without(composer, plain, (RATE,))
            jobs += [[*rateless, f"{RATE}={rate:g}"] for rate in more]
    return jobs


def further_rates(rates: list[float], wanted: int) -> list[float]:
    """Learning rates besides some, between and around them, until there are as many as wanted."""
    missing = min(wanted, MOST_RATES) - len(rates)
    if missing < 1:
        return []
    # An even number of points has none in the middle, where the one rate of a sweep is.
    around = np.geomspace(rates[0] / AROUND, rates[-1] * AROUND, missing + missing % 2)
    return [rate for each in around if (rate := float(f"{each:.2g}")) not in rates][-missing:]


def pixels(composer: Composer, runs: Iterable[Planned]) -> list[list[str]]:
    """Pixels once for each data set, its folds among them, at the middle one of several learning rates.
    In a closed set class weights are trained on them, with each seed; otherwise nothing of what is
    measured is trained, and one epoch will do."""
    groups: dict[str, list[Planned]] = {}
    for run in runs:
        key = repr((run.config.dataset, run.config.evaluation.protocol))
        groups.setdefault(key, []).append(run)
    jobs = []
    for group in groups.values():
        seeds = dict.fromkeys(run.config.seed for run in group)
        closed = group[0].config.evaluation.protocol == "closed_set"
        for seed in list(seeds) if closed else list(seeds)[:1]:
            own = [run for run in group if run.config.seed == seed]
            run = sorted(own, key=lambda run: run.config.optimizer.lr)[len(own) // 2]
            left_out = [*LOSS, "model", *([] if closed else ["epochs"])]
            overrides = [*without(composer, run.overrides, left_out), "model=pixels", "loss=softmax"]
            jobs.append(overrides if closed else [*overrides, "epochs=1"])
    return jobs


def without(composer: Composer, overrides: list[str], groups: Iterable[str]) -> list[str]:
    """Overrides but for those of whole groups, of keys in them, or of keys by their whole names."""
    places = {override: composer.parse(override).key_or_group for override in overrides}
    return [
        o
        for o, place in places.items()
        if place not in groups and place.split(".")[0].split("@")[0] not in groups
    ]


def fitted(composer: Composer, overrides: list[str], name: str) -> list[Planned]:
    """The runs of a baseline, without what an experiment's file says for other losses or models."""
    try:
        config = read(composer.compose(overrides), overrides)
    except Refused as error:  # perhaps for what is left out now
        if error.rest is None:
            raise
        config = error.rest
    extra = []
    for group in ("loss", "model"):
        section = getattr(config, group)
        known = parameters(locate(group, section.target))
        extra += [f"~{group}.{name}" for name in section.arguments if name not in known]
    ours = [*LOSS[1:], *(BACKBONE if name == "pixels" else ())]
    for leaf in leaves(config):
        of_loss = leaf.key.startswith(("margin.", "scale."))
        if leaf.key.split(".")[0] in ours or leaf.key in ours:
            if leaf.argument:
                extra.append(f"~{leaf.key}")
                continue
            unused = None if of_loss and leaf.key.endswith(".value") else FIELDS[leaf.key].default
            if leaf.value != unused:
                extra.append(f"{leaf.key}={spelled(unused)}")
    return runs_of(composer, [*overrides, *extra])
