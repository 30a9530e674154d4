"""The small network of face recognition, made for 112×112 (Chen et al. 2018, arXiv 1804.07573)."""

from torch import Tensor, nn

# Of each group of bottlenecks: how many times wider inside, channels, how many, and the first's stride.
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
STEM, LAST = 64, 512  # channels


def convolution(n_in: int, n_out: int, kernel: int | tuple[int, int], **options) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, bias=False, **options), nn.BatchNorm2d(n_out))


def activated(*arguments, **options) -> nn.Sequential:
    layers = convolution(*arguments, **options)
    return layers.append(nn.PReLU(layers[0].out_channels))


class Bottleneck(nn.Module):
    """1×1 to more channels, 3×3 in each of them by `stride`, and 1×1 back without an activation; with a
    shortcut where the shape stays."""

    def __init__(self, n_in: int, n_out: int, wider: int, stride: int):
        super().__init__()
        inside = wider * n_in
        self.residual = nn.Sequential(
            activated(n_in, inside, 1),
            activated(inside, inside, 3, stride=stride, padding=1, groups=inside),
            convolution(inside, n_out, 1),
        )
        self.shortcut = stride == 1 and n_in == n_out

    def forward(self, images: Tensor) -> Tensor:
        return images + self.residual(images) if self.shortcut else self.residual(images)


def mobilefacenet(image_shape: tuple[int, int, int]) -> nn.Module:
    """Features (B, 512): a weight for each place of each channel in the place of a mean over places. The
    image is halved four times, rounded up: 112×112 become 7×7, 28×28 become 2×2."""
    channels, *sides = image_shape
    layers = [
        activated(channels, STEM, 3, stride=2, padding=1),
        activated(STEM, STEM, 3, padding=1, groups=STEM),
    ]
    n_in = STEM
    for wider, n_out, count, stride in BOTTLENECKS:
        for number in range(count):
            layers.append(Bottleneck(n_in, n_out, wider, stride if number == 0 else 1))
            n_in = n_out
    left = tuple(-(-side // 16) for side in sides)
    layers += [activated(n_in, LAST, 1), convolution(LAST, LAST, left, groups=LAST), nn.Flatten()]
    return nn.Sequential(*layers)
