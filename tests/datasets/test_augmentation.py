"""Images changed at random: by as much as was asked for, each in its own way, the same for one seed."""

import math

import pytest
import torch

from src.datasets import Augmentation
from src.datasets.augmentation import moved
from tests.signatures import parameters

PICTURES = torch.randn(64, 3, 20, 16, generator=torch.Generator().manual_seed(0))
ALL = {
    "flip": 0.5,
    "crop": 4,
    "resized_crop": 0.3,
    "rotate": 20,
    "shift": 0.1,
    "zoom": 0.2,
    "shear": 10,
    "erase": 0.5,
}


def augmented(seed: int = 0, images: torch.Tensor = PICTURES, **strengths) -> torch.Tensor:
    return Augmentation(torch.Generator().manual_seed(seed), **strengths)(images.clone())


def test_nothing_is_changed_by_default():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert Augmentation(generator)(PICTURES) is PICTURES and not Augmentation(generator, crop=0)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("strengths", [{key: value} for key, value in ALL.items()] + [ALL])
def test_shape_stays_chance_is_seeded_and_each_image_has_its_own(strengths):
    images = augmented(**strengths)
    assert images.shape == PICTURES.shape and images.isfinite().all()
    assert {"generator", *ALL} == set(parameters(Augmentation))
    assert torch.equal(images, augmented(**strengths))
    assert not torch.equal(images, augmented(seed=1, **strengths))
    alike = augmented(images=PICTURES[:1].expand(64, -1, -1, -1), **strengths)
    assert len({tuple(image.flatten().tolist()) for image in alike}) > 1


def test_flip_mirrors_its_share_and_leaves_the_rest():
    images = augmented(images=PICTURES[:1].expand(4000, -1, -1, -1), flip=0.25)
    mirrored = (images == PICTURES[0].flip(2)).flatten(1).all(1)
    assert (mirrored | (images == PICTURES[0]).flatten(1).all(1)).all()
    assert mirrored.float().mean() == pytest.approx(0.25, abs=0.03)


def test_crop_moves_by_whole_pixels_within_the_repeated_border():
    border = 3
    images = augmented(images=PICTURES[:1].expand(2000, -1, -1, -1), crop=border)
    padded = torch.nn.functional.pad(PICTURES[:1], (border,) * 4, mode="replicate")[0]
    windows = [padded[:, y : y + 20, x : x + 16] for y in range(7) for x in range(7)]
    counts = torch.tensor([(images == window).flatten(1).all(1).sum() for window in windows])
    assert counts.sum() == 2000 and counts.min() > 15  # all 49, about 41 each


def test_a_resized_crop_is_a_rectangle_of_its_share_and_shape_within_the_image():
    """On ramps from 0 to 1, where pixels say of which place they are."""
    side, least, count = 64, 0.16, 3000
    ramp = (torch.arange(side) + 0.5) / side
    ramps = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])
    images = augmented(images=ramps.expand(count, -1, -1, -1), resized_crop=least)
    x, y = images[:, 0, 0], images[:, 1, :, 0]
    wide, tall = ((own[:, side // 2 + 8] - own[:, side // 2 - 8]) / 16 * side for own in (x, y))
    area, ratio = wide * tall, wide / tall
    assert area.min() > least - 0.01 and area.max() <= 1.001
    torch.testing.assert_close(augmented(images=ramps[None], resized_crop=1), ramps[None])
    assert area.mean() == pytest.approx((1 + least) / 2, abs=0.02)
    whole = (wide < 0.99) & (tall < 0.99)  # whose shape no edge has cut
    assert ratio[whole].min() > 0.74 and ratio[whole].max() < 1.35
    first = x[:, side // 2 - 8] - wide * (side // 2 - 7.5) / side
    assert first.min() > -0.01 and (first + wide).max() < 1.01
    assert first.min() < 0.02 and (first + wide).max() > 0.98


def turned(degrees: float, image: torch.Tensor, **other) -> torch.Tensor:
    return moved(image[None], torch.ones(1, 5), rotate=degrees, **other)[0]


def blob(height: int, width: int, y: float, x: float) -> torch.Tensor:
    """A soft spot, `y` and `x` pixels from the middle."""
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)[None]


def place(image: torch.Tensor) -> tuple[float, float]:
    """Its centre of mass, from the middle."""
    height, width = image.shape[1:]
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    weight = image[0] / image.sum()
    return float((weight.sum(1) * rows).sum()), float((weight.sum(0) * columns).sum())


@pytest.mark.parametrize("shape", [(41, 41), (61, 41), (41, 61)])
@pytest.mark.parametrize("degrees", [30, 90, 180])
def test_a_spot_is_turned_about_the_middle_and_keeps_its_distance(shape, degrees):
    y, x = place(turned(degrees, blob(*shape, 3.0, 10.0)))
    turn = math.radians(degrees)
    turns = [
        (
            3 * math.cos(turn) + sign * 10 * math.sin(turn),
            10 * math.cos(turn) - sign * 3 * math.sin(turn),
        )
        for sign in (1, -1)
    ]
    assert any((y, x) == (pytest.approx(a, abs=0.05), pytest.approx(b, abs=0.05)) for a, b in turns)


def test_shift_zoom_and_shear_move_a_spot_by_as_much_as_they_say():
    y, x = place(turned(0, blob(61, 41, 0, 0), shift=0.1))
    assert (abs(y), abs(x)) == (pytest.approx(6.1, abs=0.05), pytest.approx(4.1, abs=0.05))
    y, x = place(turned(0, blob(61, 61, 10, 6), zoom=0.25))
    assert (y, x) == (pytest.approx(8, abs=0.05), pytest.approx(4.8, abs=0.05))
    y, x = place(turned(0, blob(61, 61, 10, 0), shear=20))
    assert y == pytest.approx(10, abs=0.05)
    assert abs(x) == pytest.approx(10 * math.tan(math.radians(20)), abs=0.05)


def test_erase_sets_a_rectangle_of_2_to_20_percent_to_the_mean():
    images = augmented(images=torch.ones(3000, 1, 50, 50), erase=0.5)
    share = (images == 0).flatten(1).float().mean(1)
    assert (share > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    erased = share[share > 0]
    assert erased.min() > 0.01 and erased.max() < 0.22 and erased.mean() == pytest.approx(0.11, abs=0.01)
    rows, columns = (images == 0).any(3).sum((1, 2)), (images == 0).any(2).sum((1, 2))
    assert torch.equal(rows * columns, (images == 0).sum((1, 2, 3)))  # a rectangle it is


def test_turning_one_on_leaves_what_another_draws():
    assert torch.equal(
        augmented(flip=0.5, erase=0.5) == 0, augmented(erase=0.5, flip=0.5, crop=0, rotate=0) == 0
    )
    flipped, both = augmented(flip=0.5), augmented(flip=0.5, erase=0.5)
    assert torch.equal(both[both != 0], flipped[both != 0])
