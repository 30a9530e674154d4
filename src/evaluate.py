"""Evaluate a trained run, on other data or in another way: `python -m src.evaluate <run>
[overrides]`."""

import argparse
import math
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from torch import Tensor
from yaml import YAMLError

from . import pictures, plots
from .config import CONF, check, explain, to_dict
from .datasets import FOLDERS, Split
from .datasets.files import listed
from .errors import UserError
from .evaluation import EVALUATIONS, Evaluated, evaluate, kind_of, sample_pairs, supported
from .runs import versions, write_json
from .trained import Trained, load_trained, same_folder
from .training import embed

VERIFICATION = EVALUATIONS["verification"]
OVERRIDDEN = ("dataset", "evaluation", "objective", "device")  # the rest is what was trained


def with_overrides(run: Trained, overrides: list[str]) -> dict:
    """A run's configuration, with another data set, evaluation or device. A group, as in
    `dataset=pairs`, is composed anew, a value goes into what the run had; the run's own images stay
    split as they were. Raises UserError for anything else."""
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    for override, key in zip(overrides, keys, strict=True):
        if key.partition(".")[0] not in OVERRIDDEN or "=" not in override:
            raise UserError(
                f"{override}: a trained run takes {', '.join(OVERRIDDEN)} only, as in dataset=pairs"
            )
    chosen = [override for override, key in zip(overrides, keys, strict=True) if "." not in key]
    values = [override.lstrip("+~") for override in overrides if override not in chosen]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = to_dict(compose("train", overrides=chosen))
        typed = OmegaConf.to_container(OmegaConf.from_dotlist(values))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from None
    except (ValueError, YAMLError) as error:
        raise UserError(f"{' '.join(overrides)}: {explain(error)}") from None
    groups = set(keys) & set(OVERRIDDEN)
    dataset = run.config["dataset"]
    asked = (composed["dataset"] if "dataset" in groups else dataset) | typed.get("dataset", {})
    own = run.owns(asked)
    if own:  # as it was split; what is asked for beside that, evaluate_run refuses
        composed["dataset"] = dataset | {"root": asked.get("root")}
    elif "dataset" in groups:
        groups.add("evaluation")  # a data set brings the one that suits it
    if "evaluation" in groups:
        groups.add("objective")
    config = run.config | {key: composed[key] for key in groups}
    for value in values:
        group, _, key = value.partition("=")[0].partition(".")
        if group != "dataset" and key not in config[group]:  # a data set's options are checked later
            raise UserError(f"{value}: no such key, {group} has {', '.join(config[group])}")
    config = OmegaConf.to_container(OmegaConf.merge(config, typed))
    dataset, given = config["dataset"], typed.get("dataset", {})
    if "evaluation" in groups and "split" in dataset and "split" not in given:
        dataset["split"] = config["evaluation"]["name"]
    if not own and "test_fraction" in dataset and "test_fraction" not in given:
        dataset["test_fraction"] = 1  # of other images all are new
    channels, *size = run.image_shape
    for key, had in (("channels", channels), ("size", size)):
        if given.get(key) not in (None, had):
            raise UserError(
                f"dataset.{key}={given[key]}: the model was trained with {had}, to which images are "
                "brought: leave it out"
            )
    return config


def pairs_of(
    config: dict, splits: dict[str, Split | None], trained_on: tuple[str, ...]
) -> dict[str, tuple[Tensor, ...]]:
    """The pairs that verification looks at on each split, by name; none in a closed set. `trained_on`
    are classes of the same data set. Raises UserError if the images cannot be evaluated as asked, or do
    not support the objective."""
    name, source = config["evaluation"]["name"], config["dataset"]["name"]
    pairs = {}
    for split, images in splits.items():
        if images is None:
            continue
        if name == "closed_set":
            new = sorted(set(images.classes) - set(trained_on))
            if new:
                raise UserError(
                    f"evaluation=closed_set: class {new[0]} of dataset={source} was not trained on: use "
                    "evaluation=open_set"
                )
            continue
        seen = sorted(set(images.classes) & set(trained_on))
        if seen:
            raise UserError(
                f"evaluation={name}: class {seen[0]} of dataset={source} was trained on, and is to be "
                "tested as one that was not: use evaluation=closed_set, or other classes"
            )
        if images.pairs is not None and name == "open_set":
            raise UserError(
                f"evaluation=open_set: dataset={source} is pairs, use evaluation=verification"
            )
        try:
            pairs[split] = listed_pairs(images) or sample_pairs(
                images.labels, config["evaluation"]["pairs"]
            )
        except ValueError as error:
            raise UserError(f"evaluation.pairs=null: {error}; give a number, as in 1000000") from None
        _, _, same, fold = pairs[split]
        if same.all() or not same.any():
            kinds = "different classes" if same.all() else "one class"
            raise UserError(
                f"evaluation={name}: the {split} images of dataset={source} hold no two of {kinds}"
            )
        there = supported(same, fold)
        if config["objective"] in set(VERIFICATION) - set(there):
            raise UserError(
                f"objective={config['objective']}: the {split} images hold {int((~same).sum())} pairs "
                f"of different classes, too few; use one of {', '.join(there)}"
            )
    return pairs


def listed_pairs(images: Split) -> tuple[Tensor, ...] | None:
    return images.pairs and tuple(torch.from_numpy(np.asarray(part)) for part in images.pairs)


def evaluate_run(run: Trained, config: dict) -> tuple[Evaluated, Tensor, Split, tuple[str, ...]]:
    """Results on the test images of a configuration's data set, their embeddings (N, D), the images,
    and what was left out of them. Raises UserError where what would be tested was trained on."""
    dataset, own = config["dataset"], run.config["dataset"]
    same, closed = run.owns(dataset), config["evaluation"]["name"] == "closed_set"
    for key in ("split", "split_seed", "test_fraction", "min_images", "skip_broken") if same else ():
        asked, had = dataset.get(key), own.get(key)
        if asked != had and (key != "split" or "closed_set" in (asked, had)):
            raise UserError(
                f"dataset.{key}={asked}: the run was trained with {had}, and may have seen what this "
                "would test"
            )
    if same and closed and dataset["name"] in FOLDERS and not run.is_unchanged(dataset["root"]):
        raise UserError(
            f"dataset.root={dataset['root']}: has changed since the run was trained, and what it would "
            "test may have been trained on: evaluate a folder of new images"
        )
    data = run.data(dataset if same else dataset | {"val_fraction": 0})
    test = data.test
    both, here = set(test.classes) & set(run.classes), same or same_folder(dataset, own)
    if closed and not same:
        print(f"whether {dataset['root']} holds images that were trained on is not known here")
    elif both and not here:  # people are often numbers
        print(f"{len(both)} of its classes have names of those that were trained on, as {min(both)}")
    pairs = pairs_of(config, {"test": test}, run.classes if here or closed else ()).get("test")
    if closed:
        place = torch.tensor([run.classes.index(name) for name in test.classes])
        test.labels, test.classes = place.to(test.labels.device)[test.labels], run.classes
    embeddings = embed(run.backbone, test, run.device)
    found = evaluate(config["evaluation"]["name"], run.head, embeddings, test.labels, pairs)
    return found, embeddings, test, data.skipped


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.evaluate", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument(
        "overrides", nargs="*", help="as for src.train: dataset=…, evaluation=…, device=…"
    )
    parser.add_argument(
        "--out", type=Path, help="a new folder; default: <run>/evaluations/<time>-<data set>"
    )
    given, unfinished = parser.parse_intermixed_args(), None
    try:
        run = load_trained(given.run)
        config = with_overrides(run, given.overrides)
        check(config)
        if config["device"] != run.config["device"]:
            run = load_trained(given.run, config["device"])
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{config['dataset']['name']}"
        out = given.out or given.run / "evaluations" / name
        if out.exists():
            raise UserError(
                f"--out {out}: is there already, and would be overwritten; name a new folder"
            )
        if run.unfinished:
            print(run.unfinished)
        found, embeddings, test, skipped = evaluate_run(run, config)
        unfinished = out.with_name(f".unfinished-{out.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        x, prototypes = embeddings.cpu().numpy(), run.head.prototypes.detach().cpu().numpy()
        pictures.save_embeddings(unfinished / "embeddings.npz", x, test, prototypes)
        trained_on, tested_on = (which["dataset"]["name"] for which in (run.config, config))
        title = f"{run.config['loss']['name']} on {tested_on}"
        title += f", trained on {trained_on}" * (trained_on != tested_on)
        for each, made in pictures.figures(found, x, test, prototypes, title).items():
            plots.save(made, unfinished / "plots" / f"{each}.png")
        described = {key: config[key] for key in OVERRIDDEN}
        summary = {
            "run": str(given.run),
            "epoch": run.epoch,
            "config": described,
            "metrics": found.metrics,
            "skipped": list(skipped),
            "versions": versions(),
        }
        write_json(unfinished / "summary.json", summary)
        unfinished.rename(out)
    except (UserError, OSError) as error:
        sys.exit(str(error))
    finally:
        if unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)
    show(config, found, test, out)
    if skipped:
        print(f"{len(skipped)} files and classes left out: {listed(skipped)}")


def show(config: dict, found: Evaluated, test: Split, out: Path) -> None:
    name = config["evaluation"]["name"]
    print(
        f"{name} on {len(test):,} images of {len(test.classes):,} classes, {config['dataset']['name']}"
    )
    table = Table("metric")
    table.add_column("value", justify="right")
    for metric in EVALUATIONS[name]:
        value = found.metrics.get(metric)
        if value is None:
            said = "too few pairs"
        else:
            said = f"{math.degrees(value):.2f}°" if kind_of(metric) == "angle" else f"{value:.4f}"
        table.add_row(metric, said)
    Console(highlight=False).print(table)
    print(f"-> {out}")


if __name__ == "__main__":
    main()
