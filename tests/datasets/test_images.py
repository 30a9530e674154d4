"""Images as people have them: AVIF and HEIC, EXIF data that are junk, decoded once."""

import numpy as np
import pytest
import torch
from PIL import Image, features

from src.datasets import files, image_folder, images, load
from src.datasets.files import examine, find_images, to_bytes

CPU = torch.device("cpu")
JUNK = (
    b"Exif\0\0junk",
    b"Exif\0\0MM\0*\xff\xff\xff\xff",
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(30),
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff\0\0\0\0",
    b"",
)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_exif_is_no_reason_to_refuse_sound_pixels(kind, junk, tmp_path):
    plain, odd = tmp_path / f"plain.{kind}", tmp_path / f"odd.{kind}"
    picture = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10))
    picture.save(plain)
    try:
        picture.save(odd, exif=junk)
    except (OSError, SyntaxError, ValueError):
        pytest.skip("Pillow does not write this")
    for whole in (True, False):
        headers, broken = examine([plain, odd], whole)
        assert not broken and headers[0] == headers[1]
    np.testing.assert_array_equal(to_bytes(odd, (1, 12, 10)), to_bytes(plain, (1, 12, 10)))


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_counts_in_headers_and_pixels_alike(kind, orientation, tmp_path):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    lying = np.zeros((12, 20), np.uint8)
    lying[:6, :10] = 255
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(lying).save(tmp_path / f"x.{kind}", exif=exif)
    upright = {1: lying, 3: lying[::-1, ::-1], 6: np.rot90(lying, -1), 8: np.rot90(lying)}[orientation]
    for whole in (True, False):
        headers, _ = examine([tmp_path / f"x.{kind}"], whole)
        assert headers[0].size == upright.shape
    pixels = to_bytes(tmp_path / f"x.{kind}", (1, *upright.shape))[0]
    assert np.abs(pixels.astype(int) - upright).mean() < 20


def test_avif_is_read_as_any_other_and_heic_with_its_extra(folder_of, tmp_path):
    root = folder_of("faces", mode="RGB", size=(16, 16))
    kinds = ["avif"] * features.check("avif") + ["heic"] * (".heic" in images.SUFFIXES)
    if "heic" in kinds:
        pytest.importorskip("pillow_heif").register_heif_opener()  # to write it
    for kind in kinds:
        Image.new("RGB", (16, 16), (200, 30, 40)).save(root / "p01" / f"x.{kind}")
        assert root / "p01" / f"x.{kind}" in find_images(root)
        pixels = to_bytes(root / "p01" / f"x.{kind}", (3, 16, 16))
        assert np.abs(pixels[:, 8, 8].astype(int) - [200, 30, 40]).max() < 12
    data = load(image_folder, root, CPU)
    assert len(data.train) + len(data.test) == 32 + len(kinds)


def test_without_the_extra_heic_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SUFFIXES", files.SUFFIXES - images.HEIC)
    files.unsupported.cache_clear()
    (tmp_path / "x.HEIC").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"x.HEIC: an unsupported .*: pip install -e '.\[heic\]' reads"):
        find_images(tmp_path)
    files.unsupported.cache_clear()


@pytest.mark.parametrize("memory", [4, 0])
def test_images_are_decoded_once_before_training(folder_of, monkeypatch, memory):
    root, decoded = folder_of("faces"), []
    upright = images.upright
    monkeypatch.setattr(images, "upright", lambda image: decoded.append(1) or upright(image))
    monkeypatch.setattr(files, "upright", images.upright)
    load(image_folder, root, CPU, memory=memory)
    assert len(decoded) == 32 if memory else len(decoded) <= 3 * 32  # and for mean and fingerprint
