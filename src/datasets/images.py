"""Image files of any origin: opened within limits, checked, decoded to bytes."""

import importlib.util
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from ..foreign import one_line, regular_file

# What a file is tried as, whatever its name says. Pillow knows more, and would hand PostScript that is
# called .png to Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = {".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png"}
SUFFIXES |= {".pnm", ".ppm", ".tif", ".tiff", ".webp"}
HEIC = {".heic", ".heics", ".heif", ".heifs", ".hif"}
if features.check("avif"):  # which some builds of Pillow lack
    FORMATS += ("AVIF",)
    SUFFIXES |= {".avif", ".avifs"}
if importlib.util.find_spec("pillow_heif"):
    SUFFIXES |= HEIC
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # of which Pillow would only warn
MOST_SCANNED = 2**34  # pixels times scans of a progressive JPEG, each of which goes over all of them
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
DEEP_COLOUR = re.compile(r"(LA|RGB[AaX]?);16[BLN]")  # what Pillow cuts to eight bits as it reads
ORIENTATION = 274  # the EXIF tag
TURN = Image.Transpose
# What turns an image of each orientation upright; from 5 on, height and width change places.
UPRIGHT = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE}
UPRIGHT |= {6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90}

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of junk beside the pixels


class BrokenImage(ValueError):
    """A file turned out not to be an image when it was read, perhaps in the middle of training."""


class Header(NamedTuple):
    """What an image file says of itself: its number of channels, and its size (height, width) once it is
    turned upright."""

    channels: int
    size: tuple[int, int]


@contextmanager
def opened(file: str | Path | bytes, most_pixels: int = MOST_PIXELS) -> Iterator[Image.Image]:
    """An image file, or its content, opened and not yet decoded. Raises whatever Pillow does, and
    ValueError for what would take too long or for ever: no regular file, too many pixels."""
    if not isinstance(file, bytes):
        regular_file(file)
    with (
        io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as source,
        _identified(source) as image,
    ):
        width, height = image.size
        if width * height > most_pixels:
            raise ValueError(f"{height}×{width} pixels, more than {most_pixels:,}: make it smaller")
        if image.info.get("progressive"):
            content = file if isinstance(file, bytes) else Path(file).read_bytes()
            scans = content.count(b"\xff\xda")
            if width * height * scans > MOST_SCANNED:
                raise ValueError(f"a progressive JPEG of {scans} scans: save it anew")
        yield image


def _identified(source: BinaryIO) -> Image.Image:
    """An image by its content. Pillow is given an open file, not a name: by name it maps uncompressed
    TIFF files into memory, and scrambles those that are to be turned."""
    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        if HEIC <= SUFFIXES:
            import pillow_heif  # only now, since it takes a while

            pillow_heif.register_heif_opener()
            with suppress(UnidentifiedImageError):
                return Image.open(source, formats=("HEIF",))
    raise UnidentifiedImageError("cannot identify the format of the image")


def channels_of(image: Image.Image) -> int:
    """1 for a grey image, 3 for any other."""
    return 1 if image.mode in GREY else 3


def upright(image: Image.Image) -> Image.Image:
    """An image that was just `opened`, decoded, turned upright, and the upper eight bits of a deep one,
    where `convert` would clip at 255. Raises ValueError if the value of white is unknown: 10, 12 or 14
    bits are often saved as 16, and would turn out dark or black."""
    bits = 32 if image.mode == "I" else 16
    was_deep = DEEP_COLOUR.search(str([tile[-1] for tile in image.tile]))
    says_white = image.format == "PPM"  # in its header, and Pillow scales by it
    image.load()
    turn = UPRIGHT.get(orientation_of(image))
    image = image.transpose(turn) if turn is not None else image
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white is unknown: save 8 or 16 bits")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        brightest = int(pixels.max())
        if pixels.min() < 0 or brightest > 0xFFFF:
            raise ValueError("32-bit pixels, whose white is unknown: save 8 or 16 bits")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    elif was_deep:
        brightest = max(high for _, high in image.convert("RGB").getextrema()) << 8 | 0xFF
    else:
        return image
    if 0 < brightest < 0x4000 and not says_white:
        raise ValueError(
            f"{bits}-bit pixels that go up to {brightest} of 65535, whose white is unknown: scale them "
            "to 65535, or save 8 bits"
        )
    return image


def orientation_of(image: Image.Image) -> int | None:
    """Return the EXIF orientation, 1 to 8, or None if it is missing or unreadable. It is None for TIFF
    too, which Pillow turns itself; the size it reports is that of the turned image."""
    if image.format == "TIFF":
        return None
    try:
        orientation = image.getexif().get(ORIENTATION)
        return orientation if orientation in UPRIGHT else None
    except Exception:  # whatever its parser stumbles over
        return None


def header_of(image: Image.Image) -> Header:
    sideways = (orientation_of(image) or 1) >= 5
    return Header(channels_of(image), image.size if sideways else image.size[::-1])


def on_white(image: Image.Image) -> Image.Image:
    """The image on white paper: what lies under transparent pixels is often black."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def to_bytes(
    file: str | Path | bytes,
    shape: tuple[int, int, int],
    name: object = None,
    most_pixels: int = MOST_PIXELS,
    part: np.ndarray | None = None,
) -> np.ndarray:
    """An image as bytes (channels, height, width) of `shape`: turned upright, on white, grey or RGB, and
    resized (bilinear over the whole area, so that thin lines survive). Or only that `part` of it to
    which a matrix (2, 3) takes the points (x, y, 1) of the result, where (0, 0) is the middle of its
    first pixel (bilinear, black where there is nothing). Raises ValueError that calls the
    file `name`, or by its path, if it is not an image, or one of more than `most_pixels`."""
    channels, height, width = shape
    try:
        with opened(file, most_pixels) as image:
            image = on_white(upright(image)).convert("L" if channels == 1 else "RGB")
            if part is not None:
                middle = part[:, 2] + 0.5 - part[:, :2].sum(1) / 2  # Pillow's (0, 0) is a corner
                matrix = np.column_stack([part[:, :2], middle]).ravel().tolist()
                how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
                image = image.transform((width, height), *how)
            elif image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except Exception as error:  # given a hostile file, Pillow raises anything
        why = one_line(error)
        raise BrokenImage(f"{name or file}: not an image that can be read: {why}") from None
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
