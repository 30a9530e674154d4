"""What data sets may be given: their YAML and their signatures agree, and illegal values are named."""

import re
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_method

from src import datasets
from src.datasets import (
    Augmentation,
    embeddings,
    image_folder,
    load,
    manifest,
    omniglot,
    pairs,
    synthetic,
    webdataset,
)
from tests.signatures import check_signature, parameters, why_not

CONF = Path(__file__).parents[2] / "conf"
CONFIGS = sorted((CONF / "dataset").glob("[!_]*.yaml"))
# Keys of every data set, which no reader is given.
SHARED = {"root", "val_fraction", "memory", "embedding_dim"}
SIZE = "expected height and width, 4 to 4096 pixels each, as in [112,112]"
# Those whose YAML asks for a size.
BENCHMARKS = ("omniglot", "cub", "cars196", "sop", "inshop", "market1501", "gldv2")
# Choices that name a benchmark, and the reader of its files.
READ_BY = dict.fromkeys(("lfw", "cfp_fp", "agedb"), "pairs") | dict.fromkeys(("ijbb", "ijbc"), "ijb")
READ_BY |= {"voxceleb_features": "embeddings"}
READERS = set(datasets.__all__) & {path.stem for path in CONFIGS}
PUBLISHED = {
    "digits",
    "mnist",
    "fashion_mnist",
    "kmnist",
    "cifar10",
    "cifar100",
    "omniglot",
    "synthetic",
}


def content_of(path: Path) -> dict:
    """What a choice's YAML says, and those that it builds on."""
    config = yaml.safe_load(path.read_text())
    bases = [each for each in config.pop("defaults", ()) if isinstance(each, str) and each != "_self_"]
    built_on = [content_of(path.with_name(f"{base}.yaml")) for base in bases]
    return {key: value for each in (*built_on, config) for key, value in each.items()}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_yaml_names_its_reader_and_every_option_that_it_takes(path):
    text, config = path.read_text(), content_of(path)
    reader = get_method(config.pop("_target_"))
    assert reader is getattr(datasets, READ_BY.get(path.stem, path.stem))
    command = "evaluate <run>" if path.stem.startswith("ijb") else "train"
    assert f"python -m src.{command} dataset={path.stem}" in text.splitlines()[0]
    options = {key: value for key, value in config.items() if key not in SHARED}
    own = parameters(reader)
    assert set(options) == set(own) - {"root"}
    required = {key for key, parameter in own.items() if parameter.default is parameter.empty}
    if path.stem not in READ_BY:
        assert {key for key, value in options.items() if value == "???"} == required - {"root"}
    fixed = {key: value for key, value in options.items() if key not in required | {"split"}}
    assert [why_not(reader, *option) for option in fixed.items()] == [None] * len(fixed)
    if path.stem not in (*BENCHMARKS, *READ_BY):
        assert fixed == {key: own[key].default for key in fixed}


def test_every_yaml_has_a_reader_and_published_images_are_known():
    ten_classes = {"digits", "mnist", "fashion_mnist", "kmnist", "cifar10"}
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIGS}
    assert {name for name, config in configs.items() if "embedding_dim" in config} == ten_classes
    assert {n for n in READERS if getattr(getattr(datasets, n), "published", False)} == PUBLISHED
    assert set(configs) == READERS | set(READ_BY)


@pytest.mark.parametrize(
    ("target", "name", "value", "why"),
    [
        (load, "memory", -1, "greater than or equal to 0"),
        (load, "memory", True, "valid number"),
        (load, "val_fraction", 1, "less than 1"),
        (load, "val_fraction", "0.1", "valid number"),
        (load, "folds", 1, "greater than or equal to 2"),
        (load, "fold", -1, "greater than or equal to 0"),
        (image_folder, "size", 112, "valid array"),
        (image_folder, "size", [112, 3], "greater than or equal to 4"),
        (image_folder, "size", [112, 112, 3], "at most 2 items"),
        (omniglot, "size", [28.0, 28], "valid integer"),
        (image_folder, "channels", 2, "1 or 3"),
        (image_folder, "min_images", 0, "greater than or equal to 1"),
        (image_folder, "skip_broken", 1, "valid boolean"),
        (image_folder, "split", "by_class", "'closed_set', 'open_set' or 'verification'"),
        (image_folder, "test_fraction", 0, "greater than 0"),
        (image_folder, "test_fraction", 1.1, "less than or equal to 1"),
        (image_folder, "split_seed", -1, "greater than or equal to 0"),
        (manifest, "file", "", "at least 1 character"),
        (manifest, "path_column", "", "at least 1 character"),
        (embeddings, "labels", 5, "valid string"),
        (pairs, "pairs", 5, "valid string"),
        (pairs, "train", 5, "valid string"),
        (webdataset, "label", "a.b", "expected the ending of the members that hold labels"),
        (synthetic, "split", 3, "'closed_set', 'open_set' or 'verification'"),
        (synthetic, "classes", 1, "greater than or equal to 2"),
        (synthetic, "dimension", 2.0, "valid integer"),
        (synthetic, "concentration", 0, "greater than 0"),
        (synthetic, "concentration", float("inf"), "finite number"),
        (synthetic, "per_class", 0, "greater than or equal to 1"),
        (synthetic, "test_per_class", 0, "greater than or equal to 1"),
        (synthetic, "data_seed", -1, "greater than or equal to 0"),
        (Augmentation, "flip", 1.5, "less than or equal to 1"),
        (Augmentation, "flip", float("nan"), "finite number|less than or equal"),
        (Augmentation, "crop", 0.5, "valid integer"),
        (Augmentation, "crop", 65, "less than or equal to 64"),
        (Augmentation, "rotate", -1, "greater than or equal to 0"),
        (Augmentation, "shift", "much", "valid number"),
        (Augmentation, "zoom", 1, "less than or equal to 0.9"),
        (Augmentation, "shear", 46, "less than or equal to 45"),
        (Augmentation, "erase", True, "valid number"),
    ],
)
def test_an_illegal_value_is_refused_with_what_is_legal(target, name, value, why):
    assert re.search(why, why_not(target, name, value))


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_option_of_every_reader_has_a_type_and_a_legal_default(name):
    check_signature(getattr(datasets, name))


def test_every_option_of_load_and_augmentation_has_a_type_and_a_legal_default():
    check_signature(load, "reader", "device", "root")
    check_signature(Augmentation, "generator")
