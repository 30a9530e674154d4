"""Backbones of this project and of libraries: any image, the right stem, learned weights kept."""

import socket

import pytest
import torch
from torch import nn

from src.models import (
    Pixels,
    build_backbone,
    check_neck,
    convnet,
    iresnet,
    mlp,
    mobilefacenet,
    small_cnn,
    timm_body,
    torchvision_body,
)
from src.models.library import IMAGENET

SHAPES = [(1, 28, 28), (3, 112, 112)]
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3)}


BODIES = [convnet, small_cnn, mlp, iresnet, mobilefacenet]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48)])
def test_backbones_take_any_image_and_train(body, shape):
    options = {"depths": DEPTHS[18], "width": 16} if body is iresnet else {}
    backbone = build_backbone(body(shape, **options), shape, 5)
    out = backbone(torch.randn(2, *shape))
    assert out.shape == (2, 5) and backbone.normalisation is None
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 15)])
def test_pooling_before_relu_changes_no_bit_of_the_small_cnn(size):
    torch.manual_seed(0)
    body = small_cnn((1, *size), width=4)
    usual = nn.Sequential(*(body[i] for i in (0, 1, 3, 2, 4, 5, 7, 6, 8, 9, 11, 10, 12)))
    assert [type(usual[i]) for i in (2, 3)] == [nn.ReLU, nn.MaxPool2d]
    x, found = torch.randn(16, 1, *size), []
    for each in (body, usual):
        body.zero_grad()
        features = each(x)
        features.square().sum().backward()
        found.append([features, *(parameter.grad.clone() for parameter in body.parameters())])
    assert all(map(torch.equal, *found))


def test_convnet_is_the_original_demos_at_its_size():
    sizes, x = [], torch.randn(1, 1, 28, 28)
    for layer in convnet((1, 28, 28)):
        x = layer(x)
        if isinstance(layer, nn.BatchNorm2d):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(32, 26, 26), (64, 24, 24), (128, 24, 24), (256, 10, 10), (512, 8, 8)]


# Parameters of the networks that ArcFace's reference code trains, 512 dimensions for 112×112, as
# published: 24.0, 34.1 and 43.6 million.
@pytest.mark.parametrize(
    ("layers", "millions", "convolutions"), [(18, 24.0, 21), (34, 34.1, 37), (50, 43.6, 53)]
)
def test_iresnets_are_as_large_as_published(layers, millions, convolutions):
    shape = (3, 112, 112)
    backbone = build_backbone(iresnet(shape, depths=DEPTHS[layers]), shape, 512, norm=True)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.06)
    assert sum(isinstance(module, nn.Conv2d) for module in backbone.modules()) == convolutions
    neck = backbone[-1]
    assert (
        isinstance(neck, nn.BatchNorm1d) and not neck.weight.requires_grad and (neck.weight == 1).all()
    )


def test_mobilefacenet_is_as_large_as_published():
    """0.99 million parameters; feature maps as in its table."""
    shape, sizes = (3, 112, 112), []
    body = mobilefacenet(shape)
    backbone = build_backbone(body, shape, 128, norm=True)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count / 1e6 == pytest.approx(0.99, abs=0.02)
    x = torch.randn(2, *shape)
    for layer in body:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    kept = dict.fromkeys(sizes)
    expected = [(64, 56, 56), (64, 28, 28), (128, 14, 14), (128, 7, 7), (512, 7, 7), (512, 1, 1), (512,)]
    assert list(kept) == expected and len(sizes) == 2 + 15 + 3


def test_widths_that_crash_the_cpus_convolutions_are_refused():
    with pytest.raises(ValueError, match=r"^width=4: expected a multiple of 8"):
        iresnet((1, 28, 28), depths=DEPTHS[18], width=4)


def test_the_neck_is_as_asked_for():
    backbone = build_backbone(mlp((1, 8, 8)), (1, 8, 8), 5, norm=True, dropout=0.4)
    _, dropout, linear, norm = backbone
    assert dropout.p == 0.4 and linear.bias is None and linear.out_features == 5
    assert isinstance(norm, nn.BatchNorm1d)
    assert build_backbone(mlp((1, 8, 8)), (1, 8, 8), 5)[-1].bias is not None


def test_somebody_elses_body_gets_a_neck_and_keeps_its_normalisation():
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
    body.normalisation = ([1.0], [2.0])
    backbone = build_backbone(body, (3, 2, 2), 4)
    assert backbone(torch.zeros(2, 3, 2, 2)).shape == (2, 4) and backbone[-1].in_features == 7
    assert backbone.normalisation == ([1.0], [2.0]) and body.training


QUICK = [(torchvision_body, "mobilenet_v3_small"), (timm_body, "mobilenetv4_conv_small")]
SLOW = [
    *((torchvision_body, n) for n in ("densenet121", "googlenet", "efficientnet_b0", "regnet_y_400mf")),
    *((timm_body, name) for name in ("resnet10t", "efficientnet_lite0", "ghostnet_050")),
]
LIBRARIES = pytest.mark.parametrize("body", [torchvision_body, timm_body], ids=["torchvision", "timm"])


@pytest.mark.parametrize(
    ("body", "name"), QUICK + [pytest.param(*each, marks=pytest.mark.slow) for each in SLOW]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_backbones_of_libraries_take_any_image_and_train(body, name, shape):
    backbone = build_backbone(body(shape, architecture=name), shape, 8)
    y = backbone(torch.randn(3, *shape))
    assert y.shape == (3, 8)
    y.sum().backward()
    first = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == shape[0] and first.weight.grad.abs().sum() > 0


@LIBRARIES
@pytest.mark.parametrize(("side", "kernel", "stride"), [(28, (3, 3), (1, 1)), (112, (7, 7), (2, 2))])
def test_small_images_are_not_halved_in_the_stem(body, side, kernel, stride):
    """The first stage gets small images in full size, others at a quarter of theirs."""
    sizes = []
    net = body((3, side, side), architecture="resnet18")
    net.layer1.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    net(torch.zeros(2, 3, side, side))
    assert (net.conv1.kernel_size, net.conv1.stride) == (kernel, stride) and sizes == [28]


def test_grey_images_sum_the_learned_weights_of_colours_and_keep_the_kernel():
    """Not downloaded here: `fetch=False` is how a finished run of a pretrained model is rebuilt."""
    nets = {}
    for channels in (1, 3):
        torch.manual_seed(0)
        shape = (channels, 28, 28)
        nets[channels] = torchvision_body(shape, architecture="resnet18", pretrained=True, fetch=False)
    colour, grey = nets[3].conv1, nets[1].conv1
    assert colour.kernel_size == grey.kernel_size == (7, 7) and grey.stride == (1, 1)
    torch.testing.assert_close(grey.weight, colour.weight.sum(1, keepdim=True))
    grey_image = torch.randn(2, 1, 28, 28)
    for net in nets.values():
        net.eval()
    nets[1].load_state_dict(nets[3].state_dict() | {"conv1.weight": grey.weight})
    torch.testing.assert_close(nets[1](grey_image), nets[3](grey_image.expand(-1, 3, -1, -1)),
                               atol=1e-4, rtol=1e-3)  # fmt: skip
    assert list(nets[3].normalisation) == [[255 * value for value in values] for values in IMAGENET]
    middle = [[pytest.approx(255 * sum(values) / 3)] for values in IMAGENET]
    assert list(nets[1].normalisation) == middle


@LIBRARIES
def test_without_a_network_pretrained_weights_are_one_line(body, monkeypatch):
    def nowhere(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # or it tries for a minute
    said = r"^pretrained=True: the weights of \S*resnet34\S* (could not be downloaded|are not here)"
    with pytest.raises(ValueError, match=said) as caught:
        body((3, 64, 64), architecture="resnet34", pretrained=True)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_linear_classifier_is_named():
    with pytest.raises(ValueError, match=r"^architecture=squeezenet1_1: has no linear classifier"):
        torchvision_body((3, 64, 64), architecture="squeezenet1_1")


def test_pixels_are_the_images_themselves_and_have_no_neck():
    x = torch.randn(2, 3, 4, 5)
    backbone = build_backbone(Pixels((3, 4, 5)), (3, 4, 5), 8)
    assert torch.equal(backbone(x), x.flatten(1)) and backbone.normalisation is None
    for option, value in (("norm", True), ("dropout", 0.1)):
        said = rf"^{option}={value}: pixels has no neck, leave it out"
        with pytest.raises(ValueError, match=said):
            build_backbone(Pixels((3, 4, 5)), (3, 4, 5), 8, **{option: value})
        with pytest.raises(ValueError, match=said):  # of the class too, before anything is built
            check_neck(Pixels, **{option: value})
    check_neck(convnet, norm=True, dropout=0.1)
