"""A trained run on other data, or measured in another way."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from ..config import BadKey, Config, checked, read
from ..config.compose import compose_choices, explain
from ..config.fields import spelled
from ..config.identity import is_published
from ..datasets import Split
from ..durable import sync_folder
from ..errors import UserError
from ..evaluation import Evaluated, evaluate
from ..evaluation.results import Results
from ..foreign import printable
from .epochs import current_values
from .figures import curves, run_title
from .folder import RunFolder, write_json
from .load import Trained, same_place
from .pairs import evaluation_pairs, search_of, templates_of
from .summary import versions

OVERRIDDEN = ("dataset", "evaluation", "objective", "device")  # the rest is what was trained
# Which images are tested follows from these; a run's own images stay split as they were.
SPLITTING = ("split", "split_seed", "test_fraction", "folds", "fold", "min_images", "skip_broken")


class Evaluation(NamedTuple):
    """Results on a data set's test images, their embeddings (N, D), the images, files left out, and
    whether the run was trained with this very data set."""

    result: Evaluated
    embeddings: Tensor
    images: Split
    skipped: tuple[str, ...]
    own: bool


def with_overrides(run: Trained, overrides: list[str], config_dir: Path | None = None) -> Config:
    """A run's configuration, with another data set, evaluation or device. A group, as in
    `dataset=pairs`, is composed anew (also from the user's own `config_dir`), a value goes into what the
    run had; the run's own images stay split as they were. Raises UserError for anything else."""
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        group, _, rest = key.partition(".")
        known = group in OVERRIDDEN and not (group == "objective" and rest)
        if not known or "=" not in override or override.startswith("~"):
            raise UserError(
                f"{override}: a trained run takes {', '.join(OVERRIDDEN)} only, as in dataset=pairs"
            )
    chosen = [override for override, key in zip(overrides, keys, strict=True) if "." not in key]
    values = [override.lstrip("+~") for override in overrides if override not in chosen]
    composed, typed = compose_anew(chosen, values, config_dir)
    groups, had, given = set(keys) & set(OVERRIDDEN), run.config.plain(), typed.get("dataset", {})
    data = (composed if "dataset" in groups else had)["dataset"] | given
    asked = checked(had | {"dataset": data})
    own = run.owns(asked)
    if own:  # as it was split; check_untrained refuses any other change
        composed["dataset"] = had["dataset"] | {"root": asked.dataset.root}
    elif "dataset" in groups:
        groups.add("evaluation")  # a data set brings the one that suits it
    if "evaluation" in groups:
        groups.add("objective")
    now = had | {key: composed[key] for key in groups}
    if "dataset" in groups:
        now["choices"] = had["choices"] | {"dataset": composed["choices"].get("dataset", "")}
    config = checked(OmegaConf.to_container(OmegaConf.merge(now, typed)))
    check_shape(run, given)
    return with_tested_images(config, own, "evaluation" in groups, given)


def compose_anew(chosen: list[str], values: list[str], config_dir: Path | None) -> tuple[dict, dict]:
    """A configuration with these groups, and the values that were typed, as plain data."""
    if config_dir and not config_dir.is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    search = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    reads = any(choice.startswith("dataset=") for choice in chosen)
    needed = [value for value in values if reads and value.startswith("dataset.file=")]
    try:
        composed = compose_choices([*chosen, *needed, *search])
        plain = read(composed, chosen).plain()
        return plain, OmegaConf.to_container(OmegaConf.from_dotlist(values))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, [*chosen, *values])) from None
    except (ValueError, YAMLError) as error:
        raise UserError(f"{' '.join([*chosen, *values])}: {explain(error)}") from None


def with_tested_images(config: Config, own: bool, evaluated_anew: bool, typed: dict) -> Config:
    """Decide which images of a data set are tested where that was not typed: all, if they are not the
    run's own."""
    dataset: dict[str, object] = {}
    if evaluated_anew and "split" in config.dataset.arguments:
        dataset["split"] = config.evaluation.protocol
    if not own and "test_fraction" in config.dataset.arguments:
        dataset["test_fraction"] = 1.0  # of other images all are new
    if not own and "folds" not in typed:
        dataset |= {"folds": None, "fold": None}
    return config.replace(dataset={key: value for key, value in dataset.items() if key not in typed})


def check_shape(run: Trained, typed: dict) -> None:
    """Raise BadKey for another shape than the model's, which all images are brought to."""
    channels, *size = run.image_shape
    for key, had in (("channels", channels), ("size", size)):
        if typed.get(key) not in (None, had):
            why = (
                f"the model was trained with {spelled(had)}, which images are converted to: leave it out"
            )
            raise BadKey(f"dataset.{key}", typed[key], why)


def evaluate_run(run: Trained, config: Config, say: Callable[[str], None] = print) -> Evaluation:
    """Evaluate a run on the test images of a configuration's data set; `say` hears what is not known
    about them. Raises UserError where what would be tested was trained on."""
    closed, same = config.evaluation.protocol == "closed_set", run.owns(config)
    if same:
        check_untrained(run, config, closed)
    data = run.data(config if same else config.replace(dataset={"val_fraction": 0.0}))
    test = data.test
    both, here = set(test.classes) & set(run.classes), same or same_place(config, run.config)
    if closed and not same:
        say(f"cannot tell whether {config.dataset.root} holds images that were trained on")
    elif both and not here:  # people are often numbers
        one = printable(min(both))
        say(f"{len(both)} of its classes have the name of one that was trained on, for example {one}")
    pairs = evaluation_pairs(config, {"test": test}, run.classes if here or closed else ()).get("test")
    if closed:
        place = torch.tensor([run.classes.index(name) for name in test.classes])
        test.labels, test.classes = place.to(test.labels.device)[test.labels], run.classes
    embeddings = run.embed(test)
    search = search_of(config, test, left_out=True)
    compared = templates_of(test, embeddings)
    result = evaluate(config.evaluation.protocol, run.head, compared, test.labels, pairs, search)
    return Evaluation(result, embeddings, test, data.skipped, same)


def check_untrained(run: Trained, config: Config, closed: bool) -> None:
    """Refuse to split a run's own images anew, or to test a folder that has changed since."""
    asked, had = (
        {"folds": c.dataset.folds, "fold": c.dataset.fold} | c.dataset.arguments
        for c in (config, run.config)
    )
    for key in SPLITTING:
        now, before = asked.get(key), had.get(key)
        if now != before and (key != "split" or "closed_set" in (now, before)):
            why = f"the run was trained with {spelled(before)}, and may have seen what this would test"
            raise BadKey(f"dataset.{key}", now, why)
    if closed and not is_published(config) and not run.is_unchanged(config):
        why = "has changed since the run was trained; it may now test images that were trained on: "
        raise BadKey("dataset.root", config.dataset.root, why + "evaluate a folder of new images")


def write_evaluation(run: Trained, config: Config, evaluation: Evaluation, out: Path) -> None:
    """Embeddings, figures and `summary.json` into a new folder, which is there whole or not at all."""
    from .. import plots

    result, embeddings, images, skipped, own = evaluation
    trained = RunFolder(run.folder).summary()
    unfinished = out.with_name(f".unfinished-{out.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        results = Results.of(result, embeddings.cpu().numpy(), images, run.head)
        results.save(unfinished / "embeddings.npz")
        trained_on, tested_on = (which.name("dataset") for which in (run.config, config))
        title = run_title(run.config, current_values(run.head), tested_on)
        title += f", trained on {trained_on}" * (trained_on != tested_on)
        protocol = config.evaluation.protocol
        figures = plots.evaluation_figures(protocol, results, result.metrics, title)
        if own and trained and trained.done:
            figures["curves.png"] = lambda: curves(trained, RunFolder(run.folder).rows(), title)
        plots.draw(figures, unfinished / "plots")
        summary = {
            "run": str(run.folder),
            "epoch": run.epoch,
            "config": {key: config.plain()[key] for key in OVERRIDDEN},
            "metrics": result.metrics,
            "skipped": list(skipped),
            "versions": versions(),
        }
        write_json(unfinished / "summary.json", summary)
        unfinished.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
