"""Backbones of this project and of libraries: any image, the right stem, learned weights kept."""

import socket

import pytest
import torch
from torch import nn

from src.config import check_model
from src.errors import UserError
from src.models import build_backbone
from src.models.library import IMAGENET, torchvision_body

SHAPES = [(1, 28, 28), (3, 112, 112)]
MODEL = {"embedding_dim": 8, "norm": False, "dropout": 0, "options": {}, "pretrained": False}


# Parameters of the networks that ArcFace's reference code trains, 512 dimensions for 112×112, as
# published: 24.0, 34.1 and 43.6 million.
@pytest.mark.parametrize(
    ("name", "millions"), [("iresnet18", 24.0), ("iresnet34", 34.1), ("iresnet50", 43.6)]
)
def test_iresnets_are_as_large_as_published(name, millions):
    backbone = build_backbone(name, (3, 112, 112), 512, norm=True)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.06)
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == {"iresnet18": 21, "iresnet34": 37, "iresnet50": 53}[name]
    neck = backbone[-1]
    assert (
        isinstance(neck, nn.BatchNorm1d) and not neck.weight.requires_grad and (neck.weight == 1).all()
    )


def test_widths_that_crash_the_cpus_convolutions_are_refused():
    with pytest.raises(ValueError, match="width is a multiple of 8"):
        build_backbone("iresnet18", (1, 28, 28), 8, options={"width": 4})


def test_the_neck_is_as_asked_for():
    backbone = build_backbone("mlp", (1, 8, 8), 5, norm=True, dropout=0.4)
    _, dropout, linear, norm = backbone
    assert dropout.p == 0.4 and linear.bias is None and linear.out_features == 5
    assert isinstance(norm, nn.BatchNorm1d)
    assert build_backbone("mlp", (1, 8, 8), 5)[-1].bias is not None


QUICK = [("torchvision", "mobilenet_v3_small"), ("timm", "mobilenetv4_conv_small")]
LIBRARY = [
    ("torchvision", name) for name in ("densenet121", "googlenet", "efficientnet_b0", "regnet_y_400mf")
]
LIBRARY += [("timm", name) for name in ("resnet10t", "efficientnet_lite0", "ghostnet_050")]


@pytest.mark.parametrize(
    ("library", "name"), QUICK + [pytest.param(*each, marks=pytest.mark.slow) for each in LIBRARY]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_backbones_of_libraries_take_any_image_and_train(library, name, shape):
    backbone = build_backbone(name, shape, 8, library=library)
    y = backbone(torch.randn(3, *shape))
    assert y.shape == (3, 8)
    y.sum().backward()
    first = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == shape[0] and first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_small_images_are_not_halved_in_the_stem(library):
    """What arrives at the first stage: as large as the image where it is small, a quarter elsewhere."""
    sizes = []
    for side in (28, 112):
        body = build_backbone("resnet18", (3, side, side), 8, library=library)[0]
        body.layer1.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[-1]))
        body(torch.zeros(2, 3, side, side))
        first = body.conv1
        assert (first.kernel_size, first.stride) == (
            ((3, 3), (1, 1)) if side == 28 else ((7, 7), (2, 2))
        )
    assert sizes[0] == 28 and sizes[-1] == 28


def test_of_learned_weights_grey_takes_the_sum_and_the_kernel_stays():
    """Not downloaded here: `fetch=False` is how a finished run of a pretrained model is rebuilt."""
    made = {}
    for channels in (1, 3):
        torch.manual_seed(0)
        made[channels] = torchvision_body("resnet18", (channels, 28, 28), pretrained=True, fetch=False)
    colour, grey = made[3].conv1, made[1].conv1
    assert colour.kernel_size == grey.kernel_size == (7, 7) and grey.stride == (1, 1)
    torch.testing.assert_close(grey.weight, colour.weight.sum(1, keepdim=True))
    grey_image = torch.randn(2, 1, 28, 28)
    for net in made.values():
        net.eval()
    made[1].load_state_dict(made[3].state_dict() | {"conv1.weight": grey.weight})
    torch.testing.assert_close(made[1](grey_image), made[3](grey_image.expand(-1, 3, -1, -1)),
                               atol=1e-4, rtol=1e-3)  # fmt: skip
    assert list(made[3].normalisation) == [[255 * value for value in values] for values in IMAGENET]
    middle = [[pytest.approx(255 * sum(values) / 3)] for values in IMAGENET]
    assert list(made[1].normalisation) == middle


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_without_a_network_pretrained_weights_are_one_line(library, monkeypatch):
    def nowhere(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # or it tries for a minute
    with pytest.raises(
        UserError, match=r"model.pretrained=true: the weights of .* could not be had"
    ) as caught:
        build_backbone("resnet34", (3, 64, 64), 8, library=library, pretrained=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"name": "resnet5", "library": "torchvision"},
            r"model.name=resnet5: torchvision has none .*resnet50",
        ),
        (
            {"name": "resnet5", "library": "timm"},
            r"model.name=resnet5: timm has none of this name; .*resnet50",
        ),
        ({"name": "resnet50"}, r"model.name=resnet50: choose one of convnet, small_cnn"),
        ({"name": "mlp", "library": "keras"}, r"model.library=keras: choose one of torchvision, timm"),
        ({"name": "mlp", "dropout": 1}, r"model.dropout=1: a share"),
        ({"name": "mlp", "norm": 2}, r"model.norm=2: true or false"),
        ({"name": "mlp", "pretrained": "yes"}, r"model.pretrained=yes: true or false"),
    ],
)
def test_what_is_no_model_is_named(change, said):
    with pytest.raises(UserError, match=said):
        check_model(MODEL | change)


def test_a_model_without_a_linear_classifier_is_named():
    with pytest.raises(UserError, match=r"model.name=squeezenet1_1: has no linear classifier"):
        build_backbone("squeezenet1_1", (3, 64, 64), 8, library="torchvision")


def test_pixels_are_the_images_themselves():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(build_backbone("pixels", (3, 4, 5), 8)(x), x.flatten(1))
