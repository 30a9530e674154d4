"""Weights from elsewhere: insightface's iresnets compute here what they compute there, and weights that
cannot be had are said at once."""

import logging
import socket

import pytest
import torch
from torch import nn

from src.losses import BadArgument
from src.models import build_backbone, iresnet
from src.models.iresnet import weights_of_insightface
from src.run.init import start_from


class TheirBlock(nn.Module):
    """A block with insightface's names, in the order of its arithmetic."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.prelu = nn.PReLU(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.downsample = None
        if stride != 1 or n_in != n_out:
            conv = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(n_out))

    def forward(self, x):
        y = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return y + (x if self.downsample is None else self.downsample(x))


class TheirNet(nn.Module):
    def __init__(self, depths, width, dimension, side):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
        n_in = width
        for stage, depth in enumerate(depths):
            n_out = width * 2**stage
            blocks = [
                TheirBlock(n_in if i == 0 else n_out, n_out, 2 if i == 0 else 1) for i in range(depth)
            ]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            n_in = n_out
        self.bn2 = nn.BatchNorm2d(n_in)
        self.fc = nn.Linear(n_in * (side // 16) ** 2, dimension)
        self.features = nn.BatchNorm1d(dimension)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


@pytest.fixture
def theirs():
    """A net whose running statistics and biases are not those of a new one."""
    torch.manual_seed(0)
    net = TheirNet((1, 11, 2, 1), 8, 16, 32)  # eleven blocks: 10 sorts after 9
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5), nn.init.normal_(module.bias, 0, 0.1)
    nn.init.ones_(net.features.weight)
    return net.eval()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("dropout", "norm"), [(0.0, True), (0.4, True), (0.0, False)])
def test_an_iresnet_of_insightface_makes_the_same_embeddings(
    prefix, dropout, norm, theirs, tmp_path, caplog
):
    kept = {prefix + name: value for name, value in theirs.state_dict().items()}
    torch.save(kept, tmp_path / "backbone.pth")
    body = iresnet((3, 32, 32), depths=[1, 11, 2, 1], width=8)
    backbone = build_backbone(body, (3, 32, 32), 16, norm=norm, dropout=dropout)
    with caplog.at_level(logging.INFO):
        start_from(str(tmp_path / "backbone.pth"), backbone, nn.Linear(1, 1), ())
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(backbone.eval()(images), theirs(images), rtol=1e-4, atol=1e-5)
    count = len(backbone.state_dict())
    assert f"{count} of {count} tensors" in caplog.text and "pixels from −1 to 1" in caplog.text


def test_weights_of_anything_else_are_not_taken_for_insightfaces(theirs):
    weights = dict(theirs.state_dict())
    odd = weights | {"fc.bias": torch.zeros(3)}
    del weights["features.running_mean"]
    for other in (weights, odd, {"conv1.weight": torch.zeros(1)}):
        assert weights_of_insightface(other, 1, norm=True) is None


def test_learned_weights_that_cannot_be_had_are_said_at_once(monkeypatch):
    from src.models.library import _timm, timm_body

    _timm()

    tried = []

    def unreachable(address, timeout):
        tried.append((address, timeout))
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(BadArgument, match=r"timm/resnet18\S* are not here.*no route.*init\.from=<file>"):
        timm_body((3, 32, 32), architecture="resnet18", pretrained=True)
    assert len(tried) == 1 and tried[0][1] <= 5
    timm_body((3, 32, 32), architecture="resnet18", pretrained=True, fetch=False)
    assert len(tried) == 1
