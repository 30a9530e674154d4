"""Images changed at random as they are trained on: a whole batch at once, on the device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# What each can be set to (least, most), and by default is not done.
AUGMENTATIONS = {
    "flip": (0, 1),  # the share of images that are mirrored, left to right
    "crop": (0, 64),  # pixels of border, repeated, that a crop of the old size may move into
    "rotate": (0, 180),  # degrees, to both sides
    "shift": (0, 1),  # of the image's sides, in all directions
    "zoom": (0, 0.9),  # larger and smaller by up to this share
    "shear": (0, 45),  # degrees, to both sides
    "erase": (0, 1),  # the share of images that lose a rectangle of 2% to 20% (Zhong et al. 2017)
}


class Augmentation:
    """Changes normalised images (B, channels, height, width), each in its own way. What lies outside
    of an image is its border, repeated; what is erased becomes the mean. All chance is drawn from
    `generator`, on the CPU: the same changes on every device."""

    def __init__(self, generator: torch.Generator, **strengths: float):
        self.generator = generator
        self.strengths = dict.fromkeys(AUGMENTATIONS, 0) | strengths

    def __bool__(self) -> bool:
        return any(self.strengths.values())

    def __call__(self, images: Tensor) -> Tensor:
        if not self:
            return images
        s = self.strengths
        # A row an image: as many numbers whatever is on, so that one setting does not change another's.
        drawn = torch.rand(len(images), 13, generator=self.generator).to(
            images.device, non_blocking=True
        )
        if s["flip"]:
            images = torch.where((drawn[:, 0] < s["flip"])[:, None, None, None], images.flip(3), images)
        if s["crop"]:
            images = cropped(images, s["crop"], drawn[:, 1:3])
        if s["rotate"] or s["shift"] or s["zoom"] or s["shear"]:
            images = moved(images, s, 2 * drawn[:, 3:8] - 1)
        if s["erase"]:
            images = erased(images, s["erase"], drawn[:, 8:])
        return images.contiguous(memory_format=torch.channels_last)


def cropped(images: Tensor, border: int, drawn: Tensor) -> Tensor:
    """Moved by up to `border` pixels each way; `drawn` (B, 2) in 0…1 says how far."""
    height, width = images.shape[2:]
    start = (drawn * (2 * border + 1)).long().clamp(max=2 * border) - border
    y = (torch.arange(height, device=images.device) + start[:, :1]).clamp(0, height - 1)  # (B, height)
    x = (torch.arange(width, device=images.device) + start[:, 1:]).clamp(0, width - 1)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def moved(images: Tensor, strengths: dict[str, float], drawn: Tensor) -> Tensor:
    """Turned, sheared, zoomed and shifted about the middle; `drawn` (B, 5) in −1…1 says how much."""
    height, width = images.shape[2:]
    turn, shear = (
        math.radians(strengths[key]) * drawn[:, i] for i, key in ((0, "rotate"), (1, "shear"))
    )
    zoom = (1 + strengths["zoom"]) ** drawn[:, 2]
    cos, sin, lean = zoom * turn.cos(), zoom * turn.sin(), shear.tan()
    aspect = height / width  # coordinates run over −1…1 on both sides, whatever their lengths
    shift = 2 * strengths["shift"] * drawn[:, 3:]
    matrix = torch.stack(
        [
            torch.stack([cos, (cos * lean - sin) * aspect, shift[:, 0]], 1),
            torch.stack([sin / aspect, sin * lean + cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def erased(images: Tensor, share: float, drawn: Tensor) -> Tensor:
    """A rectangle set to the mean; `drawn` (B, 5) in 0…1: whether, area, shape, where."""
    height, width = images.shape[2:]
    area = 0.02 + 0.18 * drawn[:, 1]
    ratio = torch.exp(math.log(3.3) * (2 * drawn[:, 2] - 1))
    tall, wide = ((area * ratio).sqrt() * height, (area / ratio).sqrt() * width)
    top, left = drawn[:, 3] * (height - tall), drawn[:, 4] * (width - wide)
    y = torch.arange(height, device=images.device) + 0.5
    x = torch.arange(width, device=images.device) + 0.5
    within_y = (y >= top[:, None]) & (y < (top + tall)[:, None])
    within_x = (x >= left[:, None]) & (x < (left + wide)[:, None])
    gone = within_y[:, :, None] & within_x[:, None, :] & (drawn[:, 0] < share)[:, None, None]
    return images.masked_fill(gone[:, None], 0.0)
