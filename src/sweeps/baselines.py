"""What every comparison should be against: softmax, and the images themselves without any training."""

from collections.abc import Iterable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..arguments import parameters
from ..errors import UserError
from ..run.command_line import explain, values_of
from ..run.identity import VALUE_ONLY
from ..run.targets import locate
from .compose import Composer
from .plan import Planned, runs_of

PIXELS = "pixels"  # the model that is none
LOSS = ("loss", "margin", "scale")


def baselines_of(composer: Composer, runs: list[Planned]) -> tuple[list[Planned], dict[str, str]]:
    """The runs of the baselines that are not among a sweep's `runs` already, and, by name, why a
    baseline cannot run with what was typed."""
    trained = [run for run in runs if run.values["model"]["name"] != PIXELS]
    found, refused = {}, {}
    for name, jobs in (("softmax", softmax(composer, trained)), (PIXELS, pixels(composer, trained))):
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
    return [[*without(composer, run.overrides, LOSS), "loss=softmax"] for run in runs]


def pixels(composer: Composer, runs: Iterable[Planned]) -> list[list[str]]:
    """Pixels once for each data set, its folds among them. In a closed set class weights are trained on
    them, with each seed; otherwise nothing of what is measured is trained, and one epoch will do."""
    jobs = {}
    for run in runs:
        values, left_out = run.values, [*LOSS, "model"]
        closed = values["evaluation"]["name"] == "closed_set"
        left_out += [] if closed else ["epochs"]
        overrides = [*without(composer, run.overrides, left_out), f"model={PIXELS}", "loss=softmax"]
        key = repr((values["dataset"], values["evaluation"]["name"], values["seed"] if closed else None))
        jobs.setdefault(key, overrides if closed else [*overrides, "epochs=1"])
    return list(jobs.values())


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
        model = values["model"]
        extra += ["model.norm=false"] * bool(model["norm"]) + ["model.dropout=0"] * bool(
            model["dropout"]
        )
        extra += ["~model.pretrained"] * ("pretrained" in model)
    return runs_of(composer, [*overrides, *extra])
