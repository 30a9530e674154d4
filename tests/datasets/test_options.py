"""What data sets may be given: their YAML and their signatures agree, and illegal values are named."""

from pathlib import Path

import pytest
import yaml
from hydra.utils import get_method

from src import datasets
from src.arguments import check_arguments, parameters
from src.datasets import Augmentation, image_folder, load, omniglot, pairs, synthetic

CONF = Path(__file__).parents[2] / "conf"
CONFIGS = sorted((CONF / "dataset").glob("*.yaml"))
# Keys of every data set, which no reader is given.
SHARED = {"name", "root", "val_fraction", "memory", "embedding_dim", "published"}
SIZE = "height and width, 4 to 4096 pixels, as in size=[112,112]; null: as they are"
READERS = set(datasets.__all__) & {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_yaml_names_its_reader_and_every_option_that_it_takes(path):
    text = path.read_text()
    config = yaml.safe_load(text)
    config.pop("defaults", None)
    reader = get_method(config.pop("_target_"))
    assert reader is getattr(datasets, path.stem) and config["name"] == path.stem
    assert f"python -m src.train dataset={path.stem}" in text.splitlines()[0]
    options = {key: value for key, value in config.items() if key not in SHARED}
    own = parameters(reader)
    assert set(options) == set(own) - {"root"}
    required = {key for key, parameter in own.items() if parameter.default is parameter.empty}
    assert {key for key, value in options.items() if value == "???"} == required - {"root"}
    fixed = {
        key: value
        for key, value in options.items()
        if value != "${evaluation.name}" and key not in required
    }
    check_arguments(reader, fixed, reserved=("root",))
    if reader is not omniglot:  # whose YAML asks for smaller images than were drawn
        assert fixed == {key: own[key].default for key in fixed}


def test_the_keys_that_every_data_set_has_are_what_load_takes():
    assert {"root", "val_fraction", "memory", "name"} <= set(parameters(load)) & SHARED
    ten_classes = {"digits", "mnist", "fashion_mnist", "kmnist", "cifar10"}
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIGS}
    assert {name for name, config in configs.items() if "embedding_dim" in config} == ten_classes
    assert {name for name, config in configs.items() if not config.get("published")} == {
        "embeddings",
        "huggingface",
        "image_folder",
        "manifest",
        "pairs",
        "recordio",
        "webdataset",
    }
    assert set(configs) == READERS


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (load, {"root": 2024}, "a folder, a number in quotes: 'root=\"2024\"'"),
        (load, {"memory": -1}, "GiB, 0 or more"),
        (load, {"memory": True}, "GiB, 0 or more"),
        (load, {"val_fraction": 1}, "a share of the training images, from 0 to below 1"),
        (load, {"val_fraction": "0.1"}, "a share of the training images, from 0 to below 1"),
        (
            image_folder,
            {"size": 112},
            SIZE,
        ),
        (image_folder, {"size": [112, 3]}, SIZE),
        (image_folder, {"size": [112, 112, 3]}, SIZE),
        (omniglot, {"size": [28.0, 28]}, SIZE),
        (image_folder, {"channels": 2}, "1 grey, 3 RGB, null as the images are"),
        (image_folder, {"channels": True}, "1 grey, 3 RGB, null as the images are"),
        (image_folder, {"min_images": 0}, "a whole number from 1, or null"),
        (image_folder, {"skip_broken": 1}, "true or false"),
        (image_folder, {"split": "by_class"}, "choose one of closed_set, open_set, verification"),
        (image_folder, {"test_fraction": 0}, "a share above 0, 1 to train on none"),
        (image_folder, {"test_fraction": 1.1}, "a share above 0, 1 to train on none"),
        (image_folder, {"split_seed": -1}, "a whole number from 0"),
        (pairs, {"pairs": 5}, "a file below the root"),
        (pairs, {"train": 5}, "a folder, from the root, or null"),
        (synthetic, {"split": 3}, "choose one of closed_set, open_set, verification"),
        (synthetic, {"classes": 1}, "a whole number from 2"),
        (synthetic, {"dimension": 2.0}, "a whole number from 2"),
        (synthetic, {"concentration": 0}, "a number above 0"),
        (synthetic, {"per_class": 0}, "a whole number from 1"),
        (synthetic, {"test_per_class": 0}, "a whole number from 1"),
        (synthetic, {"data_seed": -1}, "a whole number from 0"),
        (Augmentation, {"flip": 1.5}, "a number from 0 to 1"),
        (Augmentation, {"crop": 0.5}, "a whole number from 0 to 64"),
        (Augmentation, {"crop": 65}, "a whole number from 0 to 64"),
        (Augmentation, {"rotate": -1}, "a number from 0 to 180"),
        (Augmentation, {"shift": "much"}, "a number from 0 to 1"),
        (Augmentation, {"zoom": 1}, "a number from 0 to 0.9"),
        (Augmentation, {"shear": 46}, "a number from 0 to 45"),
        (Augmentation, {"erase": True}, "a number from 0 to 1"),
        (Augmentation, {"flop": 1}, "no such option, did you mean flip?"),
        (
            pairs,
            {"colour": 1},
            "no such option, there are channels, min_images, pairs, root, size, skip_broken, train",
        ),
    ],
)
def test_an_illegal_value_is_named_with_what_is_legal(target, options, said):
    ((name, value),) = options.items()
    with pytest.raises(ValueError) as caught:
        check_arguments(target, options)
    assert str(caught.value) == f"{name}={value}: {said}"


def test_every_option_of_every_reader_says_what_is_legal():
    for name in READERS:
        for option, parameter in parameters(getattr(datasets, name)).items():
            assert option == "root" or parameter.annotation.__metadata__, (name, option)
