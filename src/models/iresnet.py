"""The residual network of face recognition (Duta et al., arXiv 2004.04989, as ArcFace's reference code
trains it): made for 112×112."""

from collections.abc import Callable

from torch import Tensor, nn


class Block(nn.Module):
    """BatchNorm, 3×3, BatchNorm, PReLU, 3×3 by `stride`, BatchNorm, and the way around."""

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


def iresnet(depths: tuple[int, ...]) -> Callable[..., nn.Module]:
    """The body with `depths` blocks in its four stages."""

    def body(image_shape: tuple[int, int, int], width: int = 64) -> nn.Module:
        """Stages of `width`, 2·, 4· and 8· channels, each by steps of 2. The stem keeps the size, so
        that it suits small images too; 112×112 leave 7×7, 28×28 leave 2×2, all of which are
        features."""
        if width % 8:  # of fewer channels, oneDNN's strided 1×1 convolutions crash in torch 2.13
            raise ValueError("width is a multiple of 8")
        channels = image_shape[0]
        layers = [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
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

    return body
