"""The residual network of face recognition, made for 112×112 (Duta et al., arXiv 2004.04989, as in
ArcFace's reference code)."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor, nn

from ..losses import BadArgument


class Block(nn.Module):
    """BatchNorm, 3×3, BatchNorm, PReLU, 3×3 by `stride`, BatchNorm, and a shortcut around them."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(n_in),
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.PReLU(n_out),
            nn.Conv2d(n_out, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.around = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.around = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, images: Tensor) -> Tensor:
        return self.residual(images) + self.around(images)


def _depths(value: Sequence[int]) -> Sequence[int]:
    if not value or min(value) < 1:
        raise ValueError("expected the blocks of each stage, 1 or more, as in [2,2,2,2]")
    return value


def _width(value: int) -> int:
    # With fewer channels, oneDNN's strided 1×1 convolutions crash in torch 2.13.
    if value < 8 or value % 8:
        raise ValueError("expected a multiple of 8")
    return value


def iresnet(
    image_shape: tuple[int, int, int],
    *,
    depths: Annotated[Sequence[int], AfterValidator(_depths)],
    width: Annotated[int, AfterValidator(_width)] = 64,
) -> nn.Module:
    """Stages of `depths` blocks and of `width`, 2·, 4· and 8· channels, each of which halves the image.
    All that remains is features (B, F). The stem keeps the size, so that small images work too: 112×112
    become 7×7, 28×28 become 2×2. Raises BadArgument for an illegal width, which could crash the process.
    """
    try:
        _width(width)
    except ValueError as error:
        raise BadArgument("width", width, str(error)) from None
    layers = [
        nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.PReLU(width),
    ]
    n_in = width
    for stage, depth in enumerate(depths):
        n_out = width * 2**stage
        layers += [Block(n_in if i == 0 else n_out, n_out, 2 if i == 0 else 1) for i in range(depth)]
        n_in = n_out
    net = nn.Sequential(*layers, nn.BatchNorm2d(n_in), nn.Flatten())
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.1)
    return net


# insightface's names of what a block, and the network around the blocks, consists of, and ours.
IN_A_BLOCK = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
OF_A_BLOCK = {name: f"residual.{place}" for place, name in enumerate(IN_A_BLOCK)}
OF_A_BLOCK["downsample"] = "around"
STEM = {"conv1": "0.0", "bn1": "0.1", "prelu": "0.2"}


def weights_of_insightface(
    weights: Mapping[str, Tensor], neck: int, norm: bool
) -> dict[str, Tensor] | None:
    """Return the weights of an iresnet from insightface's arcface_torch by the names that an `iresnet`
    with a neck has for them, whose linear layer is the module `neck` of the backbone; None for weights
    of anything else. The linear layer has a bias there; here the running mean of BatchNorm takes it over
    or, without `norm`, the linear layer takes all of that."""
    weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
    if not {"conv1.weight", "layer1.0.bn3.weight", "fc.bias", "features.running_mean"} <= weights.keys():
        return None
    if weights["fc.bias"].shape != weights["features.running_mean"].shape:
        return None
    blocks = {name.rpartition(".bn3.")[0] for name in weights if name.endswith(".bn3.weight")}
    ordered = sorted(blocks, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    place = {name: f"0.{3 + number}" for number, name in enumerate(ordered)}
    outer = STEM | {"bn2": f"0.{3 + len(ordered)}", "fc": str(neck), "features": str(neck + 1)}
    found = {}
    for name, weight in weights.items():
        parts = name.split(".")
        if parts[0] in outer:
            found[".".join([outer[parts[0]], *parts[1:]])] = weight
        elif (block := ".".join(parts[:2])) in place:
            found[".".join([place[block], OF_A_BLOCK.get(parts[2], parts[2]), *parts[3:]])] = weight
    linear, last = f"{neck}.", f"{neck + 1}."
    if norm:
        found[last + "running_mean"] = found[last + "running_mean"] - found.pop(linear + "bias")
        return found
    kept = {name: found.pop(last + name) for name in ("weight", "bias", "running_mean", "running_var")}
    slope = kept["weight"] / (kept["running_var"] + nn.BatchNorm1d(1).eps).sqrt()
    found[linear + "weight"] = slope[:, None] * found[linear + "weight"]
    found[linear + "bias"] = slope * (found[linear + "bias"] - kept["running_mean"]) + kept["bias"]
    return found
