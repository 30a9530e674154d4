"""What every comparison should be against: softmax, and the images themselves without any training."""

import json
from collections.abc import Iterable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..arguments import parameters
from ..errors import UserError
from ..run.command_line import explain, values_of
from ..run.identity import VALUE_ONLY, flattened
from ..run.options import PIXELS, SOFTMAX
from ..run.targets import locate
from .compose import Composer
from .plan import Planned, runs_of

LOSS = ("loss", "margin", "scale")
# What is said about a backbone, or about more epochs than pixels have, and the value that says nothing.
NO_BACKBONE = {
    "model.norm": False,
    "model.dropout": 0,
    "init.from": None,
    "init.freeze": None,
    "ema.decay": None,
    "optimizer.backbone_lr": None,
    "optimizer.layer_decay": 1,
    "early_stopping.patience": None,
    "schedule.options.warmup": 0,
}


def baselines_of(composer: Composer, runs: list[Planned]) -> tuple[list[Planned], dict[str, str]]:
    """The runs of the baselines that are not among a sweep's `runs` already, and, by name, why a
    baseline cannot run with what was typed."""
    trained = [run for run in runs if run.values["model"]["name"] != PIXELS]
    found, refused = {}, {}
    for name, jobs in ((SOFTMAX, softmax(composer, trained)), (PIXELS, pixels(composer, trained))):
        for overrides in dict.fromkeys(map(tuple, jobs)):
            try:
                for run in fitted(composer, list(overrides), name):
                    found.setdefault(run.identity, run)
            except (UserError, HydraException, OmegaConfBaseException) as error:
                refused.setdefault(name, explain(error, list(overrides)).splitlines()[0])
    own = {run.identity for run in runs}
    return [run for identity, run in found.items() if identity not in own], refused


def softmax(composer: Composer, runs: Iterable[Planned]) -> list[list[str]]:
    """Softmax with everything else that is swept: the same learning rates, seeds and folds."""
    return [[*without(composer, run.overrides, LOSS), f"loss={SOFTMAX}"] for run in runs]


def pixels(composer: Composer, runs: Iterable[Planned]) -> list[list[str]]:
    """Pixels once for each data set, its folds among them, at the middle one of several learning rates.
    In a closed set class weights are trained on them, with each seed; otherwise nothing of what is
    measured is trained, and one epoch will do."""
    groups: dict[str, list[Planned]] = {}
    for run in runs:
        groups.setdefault(repr((run.values["dataset"], run.values["evaluation"]["name"])), []).append(
            run
        )
    jobs = []
    for group in groups.values():
        seeds = dict.fromkeys(run.values["seed"] for run in group)
        closed = group[0].values["evaluation"]["name"] == "closed_set"
        for seed in list(seeds) if closed else list(seeds)[:1]:
            own = [run for run in group if run.values["seed"] == seed]
            run = sorted(own, key=lambda run: run.values["optimizer"]["lr"])[len(own) // 2]
            left_out = [*LOSS, "model", *([] if closed else ["epochs"])]
            overrides = [
                *without(composer, run.overrides, left_out),
                f"model={PIXELS}",
                f"loss={SOFTMAX}",
            ]
            jobs.append(overrides if closed else [*overrides, "epochs=1"])
    return jobs


def without(composer: Composer, overrides: list[str], groups: Iterable[str]) -> list[str]:
    """Overrides but for those of whole groups, or of keys in them."""
    places = {override: composer.parse(override).key_or_group for override in overrides}
    return [o for o, place in places.items() if place.split(".")[0].split("@")[0] not in groups]


def fitted(composer: Composer, overrides: list[str], name: str) -> list[Planned]:
    """The runs of a baseline, without what an experiment's file says for other losses or models."""
    values = values_of(composer.compose(overrides), overrides)
    extra = [
        f"~{group}.options.{key}"
        for group in ("loss", "model")
        for key in values[group]["options"]
        if key not in parameters(locate(group, values[group]["_target_"]))
    ]
    for group in ("margin", "scale"):
        extra += [f"{group}=paper"] if values[group]["name"] not in VALUE_ONLY else []
        extra += [f"{group}.value=null"] if values[group]["value"] is not None else []
    if name == PIXELS:
        flat = flattened(values)
        said = {key: none for key, none in NO_BACKBONE.items() if flat.get(key, none) != none}
        extra += [f"{key}={json.dumps(none)}" for key, none in said.items()]
        extra += ["~model.pretrained"] * ("pretrained" in values["model"])
    return runs_of(composer, [*overrides, *extra])
