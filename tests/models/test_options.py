"""What models may be given: their YAML and their signatures agree, and illegal values are named."""

import sys
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from src import models
from src.arguments import check_arguments, parameters, takes_any
from src.models import (
    Pixels,
    build_backbone,
    convnet,
    iresnet,
    mlp,
    small_cnn,
    timm_body,
    torchvision_body,
)
from src.models.library import model_names

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
NECK = {"embedding_dim", "norm", "dropout"}
BY_THE_CALLER = ("image_shape", "fetch")  # arguments that no configuration gives


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_yaml_names_its_body_and_every_option_that_it_takes(path):
    text = path.read_text()
    config = yaml.safe_load(text)
    target = config.pop("_target_")
    body, options = get_object(target), config.pop("options")
    assert target.startswith("src.models.") and target.split(".")[-1] in models.__all__
    assert f"python -m src.train model={path.stem}" in text.splitlines()[0]
    neck = {key: config.pop(key) for key in NECK & set(config)}
    check_arguments(build_backbone, neck)
    own = set(parameters(body)) - set(BY_THE_CALLER)
    if takes_any(body):
        assert set(config) == own == {"name", "pretrained"} and options == {}
        options = config
    else:
        assert set(config) == {"name"} and set(options) == own
    check_arguments(body, options, reserved=BY_THE_CALLER)
    body((3, 16, 16), **options)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (build_backbone, {"embedding_dim": 1}, "a whole number from 2"),
        (build_backbone, {"norm": 2}, "true or false"),
        (build_backbone, {"dropout": 1}, "a share from 0 to below 1"),
        (build_backbone, {"dropout": True}, "a share from 0 to below 1"),
        (torchvision_body, {"pretrained": "yes"}, "true or false"),
        (timm_body, {"pretrained": 1}, "true or false"),
        (small_cnn, {"width": 0}, "a whole number from 1"),
        (mlp, {"hidden": -1}, "a whole number from 1"),
        (iresnet, {"width": 12}, "a multiple of 8"),
        (iresnet, {"width": 0}, "a multiple of 8"),
        (iresnet, {"depths": [2, 0]}, "blocks in each stage, 1 or more, as in depths=[2,2,2,2]"),
        (iresnet, {"depths": 18}, "blocks in each stage, 1 or more, as in depths=[2,2,2,2]"),
        (mlp, {"hiden": 3}, "no such option, did you mean hidden?"),
        (convnet, {"width": 3}, "no such option, there are none"),
        (Pixels, {"width": 3}, "no such option, there are none"),
        (torchvision_body, {"fetch": False}, "no such option, there are name, pretrained"),
    ],
)
def test_an_illegal_value_is_named_with_what_is_legal(target, options, said):
    ((name, value),) = options.items()
    with pytest.raises(ValueError) as caught:
        check_arguments(target, options, reserved=BY_THE_CALLER)
    assert str(caught.value) == f"{name}={value}: {said}"


@pytest.mark.parametrize(("body", "library"), [(torchvision_body, "torchvision"), (timm_body, "timm")])
def test_a_name_that_a_library_does_not_have_is_answered_with_those_near_it(body, library):
    said = rf"^name=resnet5: {library} has none of this name; near it are .*resnet50"
    with pytest.raises(ValueError, match=said):
        check_arguments(body, {"name": "resnet5"})
    with pytest.raises(ValueError, match=rf"^name=None: {library} has none of this name"):
        check_arguments(body, {"name": None})
    check_arguments(body, {"name": "resnet50", "an_option_of_the_library": 1})


def test_without_timm_its_names_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    model_names.cache_clear()
    said = r"timm is not installed, pip install -e '.\[timm\]'"
    with pytest.raises(ValueError, match=rf"^name=resnet18: {said}"):
        check_arguments(timm_body, {"name": "resnet18"})
    with pytest.raises(ValueError, match=said):
        timm_body((3, 28, 28), name="resnet18")


def test_every_option_of_every_body_says_what_is_legal():
    for body in (build_backbone, convnet, iresnet, mlp, small_cnn, timm_body, torchvision_body, Pixels):
        for option, parameter in parameters(body).items():
            own = option not in (*BY_THE_CALLER, "body")
            assert not own or parameter.annotation.__metadata__, (body, option)
