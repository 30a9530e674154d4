"""What models may be given: their YAML and their signatures agree, and illegal values are named."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from src import models
from src.losses import BadArgument
from src.models import (
    build_backbone,
    iresnet,
    mlp,
    small_cnn,
    timm_body,
    torchvision_body,
)
from src.models.library import model_names
from tests.signatures import check_signature, parameters, why_not

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
BY_THE_CALLER = ("image_shape", "fetch", "body")  # arguments that no configuration gives


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_yaml_names_its_body_and_every_option_that_it_takes(path):
    text = path.read_text()
    config = yaml.safe_load(text)
    options = config.get("model", config)
    target = options.pop("_target_")
    body = get_object(target)
    assert target.startswith("src.models.") and target.split(".")[-1] in models.__all__
    assert f"python -m src.train model={path.stem}" in text
    own = {n for n, p in parameters(body).items() if p.kind is not p.VAR_KEYWORD}
    assert set(options) == own - set(BY_THE_CALLER)
    assert [why_not(body, *option) for option in options.items()] == [None] * len(options)
    body((3, 16, 16), **options)


@pytest.mark.parametrize(
    ("target", "name", "value", "why"),
    [
        (build_backbone, "embedding_dim", 1, "greater than or equal to 2"),
        (build_backbone, "norm", 2, "valid boolean"),
        (build_backbone, "dropout", 1, "less than 1"),
        (build_backbone, "dropout", True, "valid number"),
        (torchvision_body, "pretrained", "yes", "valid boolean"),
        (timm_body, "pretrained", 1, "valid boolean"),
        (small_cnn, "width", 0, "greater than or equal to 1"),
        (mlp, "hidden", -1, "greater than or equal to 1"),
        (iresnet, "width", 12, "expected a multiple of 8"),
        (iresnet, "width", 0, "expected a multiple of 8"),
        (iresnet, "depths", [2, 0], r"expected the blocks of each stage, 1 or more, as in \[2,2,2,2\]"),
        (iresnet, "depths", [], "expected the blocks of each stage"),
        (iresnet, "depths", 18, "valid array"),
    ],
)
def test_an_illegal_value_is_refused_with_what_is_legal(target, name, value, why):
    assert re.search(why, why_not(target, name, value))


@pytest.mark.parametrize(("body", "library"), [(torchvision_body, "torchvision"), (timm_body, "timm")])
def test_an_unknown_architecture_is_answered_with_close_names(body, library):
    said = rf"{library} has no architecture of this name; close names are .*resnet50"
    assert re.search(said, why_not(body, "architecture", "resnet5"))
    assert why_not(body, "architecture", "resnet50") is None
    with pytest.raises(BadArgument, match=rf"^architecture=resnet5: {said}"):
        body((3, 28, 28), architecture="resnet5")


@pytest.mark.parametrize("body", [torchvision_body, timm_body])
def test_an_option_that_a_library_does_not_take_is_named(body):
    with pytest.raises(BadArgument, match=r"^colour=3: resnet18 does not take it \(.*colour"):
        body((3, 28, 28), architecture="resnet18", colour=3)


def test_without_timm_its_names_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    model_names.cache_clear()
    said = r"timm is not installed, pip install -e '.\[timm\]'"
    assert re.search(said, why_not(timm_body, "architecture", "resnet18"))
    with pytest.raises(ValueError, match=said):
        timm_body((3, 28, 28), architecture="resnet18")


@pytest.mark.parametrize("body", [name for name in models.__all__ if name != "check_neck"])
def test_every_option_has_a_type_and_a_legal_default(body):
    check_signature(getattr(models, body), *BY_THE_CALLER)
