"""Training images changed at random, a whole batch at once, on its device."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

Share = Annotated[float, Field(ge=0, le=1)]


class Augmentation:
    """Changes normalised images (B, channels, height, width), each in its own way.

    By default nothing is changed. `flip` is the share of images that are mirrored left to right; `crop`
    the pixels that they move at most, within their repeated border; `resized_crop` the smallest share of
    the area of which a rectangle becomes the whole image, with sides of 3:4 to 4:3 of the image's
    (Szegedy et al. 2015), 0: all of it stays; `rotate` and `shear` are degrees to both sides; `shift` is
    a share of the sides, in all directions; `zoom` a share, larger and smaller; `erase` the share of
    images that lose a rectangle of 2% to 20% (Zhong et al. 2017).

    Beyond its edge an image continues with its border; an erased rectangle becomes the mean. All random
    numbers come from `generator`, on its device: a CUDA graph can only draw on a GPU."""

    def __init__(
        self,
        generator: torch.Generator,
        *,
        flip: Share = 0.0,
        crop: Annotated[int, Field(ge=0, le=64)] = 0,
        resized_crop: Share = 0.0,
        rotate: Annotated[float, Field(ge=0, le=180)] = 0.0,
        shift: Share = 0.0,
        zoom: Annotated[float, Field(ge=0, le=0.9)] = 0.0,
        shear: Annotated[float, Field(ge=0, le=45)] = 0.0,
        erase: Share = 0.0,
    ):
        self.generator = generator
        self.flip, self.crop, self.resized_crop, self.erase = flip, crop, resized_crop, erase
        self.motion = {"rotate": rotate, "shift": shift, "zoom": zoom, "shear": shear}

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return any((self.flip, self.crop, self.resized_crop, self.erase, *self.motion.values()))

    def __call__(self, images: Tensor) -> Tensor:
        if not self:
            return images
        # As many numbers whatever is on, so that one setting does not change what another draws.
        # A resized crop draws numbers of its own, so that the other changes are the same without it.
        random_device = self.generator.device
        random = torch.rand(len(images), 13, generator=self.generator, device=random_device)
        random = random.to(images.device, non_blocking=True)
        if self.flip:
            flipped = (random[:, 0] < self.flip)[:, None, None, None]
            images = torch.where(flipped, images.flip(3), images)
        if self.crop:
            images = cropped(images, self.crop, random[:, 1:3])
        if self.resized_crop:
            random_crop = torch.rand(len(images), 4, generator=self.generator, device=random_device)
            images = enlarged(images, self.resized_crop, random_crop.to(images.device))
        if any(self.motion.values()):
            images = moved(images, 2 * random[:, 3:8] - 1, **self.motion)
        if self.erase:
            images = erased(images, self.erase, random[:, 8:])
        return images.contiguous(memory_format=torch.channels_last)


def cropped(images: Tensor, border: int, random: Tensor) -> Tensor:
    """Images (B, channels, height, width) moved by up to `border` pixels each way, as `random` (B, 2) in
    0…1 says."""
    height, width = images.shape[2:]
    start = (random * (2 * border + 1)).long().clamp(max=2 * border) - border
    y = (torch.arange(height, device=images.device) + start[:, :1]).clamp(0, height - 1)  # (B, height)
    x = (torch.arange(width, device=images.device) + start[:, 1:]).clamp(0, width - 1)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def enlarged(images: Tensor, least: float, random: Tensor) -> Tensor:
    """Rectangles of images (B, channels, height, width), of a share of `least` to all of the area,
    brought to the whole size; `random` (B, 4) in 0…1 says how large, of which shape, and where."""
    area = least + (1 - least) * random[:, 0]
    most = torch.clamp(1 / area, max=4 / 3).log()  # that fits into the image
    ratio = torch.exp(most * (2 * random[:, 1] - 1))
    wide, tall = (area * ratio).sqrt(), (area / ratio).sqrt()
    right, down = (1 - wide) * (2 * random[:, 2] - 1), (1 - tall) * (2 * random[:, 3] - 1)
    none = torch.zeros_like(wide)
    matrix = torch.stack([torch.stack([wide, none, right], 1), torch.stack([none, tall, down], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def moved(
    images: Tensor,
    random: Tensor,
    *,
    rotate: float = 0,
    shift: float = 0,
    zoom: float = 0,
    shear: float = 0,
) -> Tensor:
    """Images (B, channels, height, width) rotated, sheared, zoomed and shifted about their centre, each
    by as much of the limit as `random` (B, 5) in −1…1 says."""
    height, width = images.shape[2:]
    angle, lean = math.radians(rotate) * random[:, 0], (math.radians(shear) * random[:, 1]).tan()
    factor = (1 + zoom) ** random[:, 2]
    cos, sin = factor * angle.cos(), factor * angle.sin()
    aspect = height / width  # coordinates run over −1…1 on both sides, whatever their lengths
    offset = 2 * shift * random[:, 3:]
    matrix = torch.stack(
        [
            torch.stack([cos, (cos * lean - sin) * aspect, offset[:, 0]], 1),
            torch.stack([sin / aspect, sin * lean + cos, offset[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def erased(images: Tensor, share: float, random: Tensor) -> Tensor:
    """Images (B, channels, height, width), a `share` of them with a rectangle set to the mean; `random`
    (B, 5) in 0…1 says whether, how large, of which shape, and where."""
    height, width = images.shape[2:]
    area = 0.02 + 0.18 * random[:, 1]
    ratio = torch.exp(math.log(3.3) * (2 * random[:, 2] - 1))
    tall, wide = ((area * ratio).sqrt() * height, (area / ratio).sqrt() * width)
    top, left = random[:, 3] * (height - tall), random[:, 4] * (width - wide)
    y = torch.arange(height, device=images.device) + 0.5
    x = torch.arange(width, device=images.device) + 0.5
    within_y = (y >= top[:, None]) & (y < (top + tall)[:, None])
    within_x = (x >= left[:, None]) & (x < (left + wide)[:, None])
    chosen = (random[:, 0] < share)[:, None, None]
    rectangle = within_y[:, :, None] & within_x[:, None, :] & chosen
    return images.masked_fill(rectangle[:, None], 0.0)
