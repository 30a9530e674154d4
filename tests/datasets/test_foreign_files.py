"""Image folders and archives from strangers: within limits, in one line, nothing run or waited for."""

import io
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import unicodedata
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from src.datasets import cifar10, image_folder, load, mnist, omniglot, pairs
from src.datasets.files import SUFFIXES, examine, find_images, to_bytes
from tests.conftest import ROOT

CPU = torch.device("cpu")
NFC, NFD = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """A grey PNG that says it is of any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def why(path) -> str:
    """What is said of one file."""
    _, broken = examine([path], whole=True)
    said = broken.get(path, "")
    assert "\n" not in said
    return said


def test_postscript_under_another_name_never_reaches_ghostscript(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def ran(*_, **__):
        raise AssertionError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ran)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 12\n%%EndComments\nshowpage\n"
    for suffix in sorted(SUFFIXES):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(script)
        assert "cannot identify" in why(path)
        with pytest.raises(ValueError, match="cannot identify"):
            to_bytes(path, (1, 12, 10))


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_named_or_skipped_without_being_opened(kind, folder_of, monkeypatch):
    root = folder_of("faces", people=5, images=3)
    odd = root / "p01" / "x.png"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "socket":
        monkeypatch.chdir(odd.parent)  # its name may have 108 characters only
        socket.socket(socket.AF_UNIX).bind("x.png")
    elif kind == "device":
        odd.symlink_to("/dev/zero")
    else:
        odd.symlink_to(root / "p02")  # followed, as a folder
    if kind == "folder":
        assert len(find_images(root / "p01")) == 6
        return
    with pytest.raises(ValueError, match=r"p01/x.png: .* a folder, pipe, socket or device, not a file"):
        load(image_folder, root, CPU)
    assert load(image_folder, root, CPU, skip_broken=True).skipped == ("p01/x.png",)


def test_folders_that_link_each_other_are_read_once_in_each_class(tmp_path):
    """Every path through twelve of them that crosses none twice would be a billion."""
    names = [f"c{i:02d}" for i in range(12)]
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / f"{name}.png")
        for other in set(names) - {name}:
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    images = find_images(tmp_path)
    assert len(images) == 12 * 12
    of_one = [image for image in images if image.is_relative_to(tmp_path / "c03")]
    assert len({image.name for image in of_one}) == len(of_one) == 12


def test_an_image_of_too_many_pixels_is_named_before_it_is_decoded(tmp_path):
    (tmp_path / "x.png").write_bytes(png_of(40_000, 4_000, b""))
    assert why(tmp_path / "x.png").startswith("4000×40000 pixels, more than 89,478,485")
    with pytest.raises(ValueError, match=r"x.png: .*4000×40000 pixels, more than"):
        to_bytes(tmp_path / "x.png", (1, 8, 8))


def test_a_progressive_jpeg_of_thousands_of_scans_is_named_before_it_is_decoded(tmp_path):
    Image.new("L", (4000, 4000), 9).save(tmp_path / "x.jpg", progressive=True)
    assert why(tmp_path / "x.jpg") == ""
    content = (tmp_path / "x.jpg").read_bytes()
    last = content[content.rindex(b"\xff\xda") : -2]
    (tmp_path / "x.jpg").write_bytes(content[:-2] + 2000 * last + b"\xff\xd9")
    assert "a progressive JPEG of 20" in why(tmp_path / "x.jpg")


def test_text_that_a_png_expands_ends_in_one_line(tmp_path):
    about = PngImagePlugin.PngInfo()
    about.add_text("x", "0" * 2**23, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "x.png", pnginfo=about)
    assert why(tmp_path / "x.png")


@pytest.mark.parametrize("top", [255, 1023, 4095, 16383])
@pytest.mark.parametrize("kind", ["grey.png", "grey.tif", "colour.png", "colour.tif"])
def test_sixteen_bits_that_use_part_of_their_range_are_not_blackened_in_silence(top, kind, tmp_path):
    path = tmp_path / kind
    values = (np.linspace(0, 1, 12 * 10).reshape(12, 10) * top).astype(np.uint16)
    save_deep(path, values)
    said = why(path)
    assert "16-bit pixels that go up to" in said and "whose white is unknown" in said
    with pytest.raises(ValueError, match="16-bit pixels"):
        to_bytes(path, (1, 12, 10))
    save_deep(path, values * (65535 // top))
    assert why(path) == "" and to_bytes(path, (1, 12, 10)).max() == 255


def save_deep(path, values: np.ndarray) -> None:
    """16-bit values (height, width) as grey, or as the three colours, which Pillow does not write."""
    if path.stem == "grey":
        Image.fromarray(values).save(path)
        return
    height, width = values.shape
    colours = np.repeat(values[:, :, None], 3, axis=2)
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        return
    pixels, bits_at = colours.astype("<u2").tobytes(), 8 + 2 + 10 * 12 + 4
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
    ]
    tags += [(273, 4, 1, bits_at + 6), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels))]
    tags += [(284, 3, 1, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(
        b"II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<HHH", 16, 16, 16) + pixels
    )


def test_black_is_black_and_where_the_file_says_what_is_white_it_is_believed(tmp_path):
    Image.fromarray(np.zeros((12, 10), np.uint16)).save(tmp_path / "black.png")
    assert why(tmp_path / "black.png") == "" and to_bytes(tmp_path / "black.png", (1, 12, 10)).max() == 0
    values = np.linspace(0, 4095, 120).astype(">u2").tobytes()
    (tmp_path / "x.pgm").write_bytes(b"P5\n10 12\n4095\n" + values)
    assert why(tmp_path / "x.pgm") == "" and to_bytes(tmp_path / "x.pgm", (1, 12, 10)).max() == 255
    (tmp_path / "dark.pgm").write_bytes(b"P5\n10 12\n65535\n" + values)
    assert why(tmp_path / "dark.pgm") == "" and to_bytes(tmp_path / "dark.pgm", (1, 12, 10)).max() == 15


def test_every_kind_of_image_that_pillow_knows_is_read_or_named(tmp_path):
    Image.init()
    no_images = {".bufr", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".pdf"}
    for suffix in sorted((set(Image.EXTENSION) | {".heic", ".avif", ".svg", ".cr2"}) - no_images):
        (tmp_path / "p").mkdir()
        path = tmp_path / "p" / f"x{suffix.upper()}"
        path.write_bytes(b"x")
        try:
            assert find_images(tmp_path / "p") == [path]
        except ValueError as error:
            assert str(error).startswith(f"{path}: an unsupported image format")
        shutil.rmtree(tmp_path / "p")
    for kind, suffix in (("JPEG", ".jpe"), ("PNG", ".apng"), ("PPM", ".pbm")):
        Image.new("1", (10, 12), 1).save(tmp_path / f"x{suffix}", kind)
        assert (to_bytes(tmp_path / f"x{suffix}", (1, 12, 10)) > 250).all()
    assert len(find_images(tmp_path)) == 3


def test_what_other_programs_leave_beside_images_is_no_image_and_no_class(folder_of):
    root = folder_of("faces")
    expected = find_images(root)
    for folder in (
        "@eaDir",
        ".AppleDouble",
        "__MACOSX",
        "$RECYCLE.BIN",
        "#recycle",
        ".ipynb_checkpoints",
    ):
        for parent in (root, root / "p01"):
            (parent / folder / "x.png").mkdir(parents=True)
            shutil.copy(
                root / "p01" / "p01_0001.png", parent / folder / "x.png" / "SYNOPHOTO_THUMB_M.jpg"
            )
            shutil.copy(root / "p01" / "p01_0001.png", parent / folder / "thumb.png")
    for name in ("._p01_0001.png", ".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "notes.txt"):
        (root / "p01" / name).write_bytes(b"x")
    assert find_images(root) == expected
    data = load(image_folder, root, CPU, split="closed_set")
    assert data.train.classes == tuple(f"p{i:02d}" for i in range(8)) and data.skipped == ()


def test_a_name_that_is_composed_and_one_that_is_not_are_one_class(folder_of):
    folder_of("both/train", people=3, images=4)
    root = folder_of("both/test", people=3, images=2).parent
    (root / "train" / "p01").rename(root / "train" / NFC)
    (root / "test" / "p01").rename(root / "test" / NFD)
    with pytest.raises(ValueError, match=r"class Zo. is in both|class p00 is in both"):
        load(image_folder, root, CPU)
    data = load(image_folder, root, CPU, split="closed_set")
    assert data.train.classes == ("Zoé", "p00", "p02") == data.test.classes
    shutil.copytree(root / "train" / "p02", root / "train" / NFD)  # beside it, as two folders
    data = load(image_folder, root.rename(root.with_name("renamed")), CPU, split="closed_set")
    assert data.train.labels.bincount().tolist() == [8, 4, 4]


def test_images_are_the_same_however_a_system_spells_their_names(folder_of):
    root = folder_of("faces", people=6)
    for person, name in (("p01", NFC), ("p02", "Zof")):  # NFD sorts before the second, NFC after it
        (root / person).rename(root / name)
    before = load(image_folder, root, CPU)
    moved = shutil.copytree(root, root.with_name("mac"))
    (moved / NFC).rename(moved / NFD)
    after = load(image_folder, moved, CPU)
    assert after.fingerprint == before.fingerprint and after.test.classes == before.test.classes


def test_lfws_pairs_find_people_however_their_names_are_spelt(faces):
    (faces / "p01").rename(faces / NFD)
    for path in sorted((faces / NFD).iterdir()):
        path.rename(path.with_name(path.name.replace("p01", NFD)))
    text = (faces / "pairs.txt").read_text().replace("p01", NFC)
    (faces / "pairs.txt").write_text(text, encoding="utf-8")
    data = load(pairs, faces, CPU)
    assert data.test.pairs.same.tolist() == [True, True, False, False] * 2
    assert "Zoé" not in data.train.classes


@pytest.mark.parametrize("name", ["a\nb.png", "\x1b[2Jx.png"])
def test_names_with_control_characters_are_named_without_them(folder_of, name):
    root = folder_of("faces")
    shutil.copy(root / "p01" / "p01_0001.png", root / "p01" / name)
    with pytest.raises(ValueError, match="a name with control characters: rename it") as caught:
        load(image_folder, root, CPU)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("what", ["expands", "declares less", "bzip2", "large drawing", "many"])
def test_an_omniglot_zip_that_expands_is_named(what, tmp_path, monkeypatch):
    module = sys.modules["src.datasets.omniglot"]
    counts = {"background": 1, "evaluation": 1}
    monkeypatch.setattr(module, "CHARACTERS", counts)
    monkeypatch.setattr(module, "DRAWINGS", 1)
    kind = zipfile.ZIP_BZIP2 if what == "bzip2" else zipfile.ZIP_DEFLATED
    content = io.BytesIO()
    Image.new("L", (300 if what == "large drawing" else 105, 300)).save(content, "png")
    content = bytes(2**22) if what in ("expands", "declares less") else content.getvalue()
    path = tmp_path / "images_background.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        for i in range(3 if what == "many" else 1):
            archive.writestr(f"images_background/a/b/{i}.png", content)
    if what == "declares less":  # both where it stands, and in the directory
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", 2**22), struct.pack("<I", 1000)))
    monkeypatch.setattr(module, "MOST_BYTES", 2**20)
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("downloads"))
    with pytest.raises(ValueError) as caught:
        module._labelled(module._find("background", tmp_path), (1, 28, 28))
    said = str(caught.value)
    expected = {
        "expands": "would expand to 4,194,304 bytes",
        "declares less": "Bad CRC-32",
        "bzip2": "compressed in an unusual way",
        "large drawing": "300×300 pixels, more than 65,536",
        "many": "1 characters, 3 drawings",
    }
    assert expected[what] in said and "\n" not in said


def test_an_omniglot_zip_that_is_a_pipe_is_named(tmp_path):
    os.mkfifo(tmp_path / "images_background.zip")
    with pytest.raises(ValueError, match=r"images_background.zip: a folder, pipe, socket or device"):
        load(omniglot, tmp_path, CPU)


def test_a_decoder_that_fails_in_any_way_is_one_line(tmp_path, monkeypatch):
    def raises(*_, **__):
        raise struct.error("unpack\nrequires \x1b a buffer")

    Image.new("L", (10, 12)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "open", raises)
    assert why(tmp_path / "x.png") == "unpack requires a buffer"
    with pytest.raises(ValueError, match=r"x.png: .*: unpack requires a buffer$"):
        to_bytes(tmp_path / "x.png", (1, 12, 10))


@pytest.mark.slow
def test_no_warning_of_pillow_reaches_the_terminal(tmp_path):
    (tmp_path / "x.png").write_bytes(png_of(10_000, 10_000, b""))
    code = "import sys; from pathlib import Path; from src.datasets.files import examine; "
    code += f"print(examine([Path({str(tmp_path / 'x.png')!r})], False)[1])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "10000×10000 pixels" in ended.stdout and ended.stderr == ""


def idx(path, shape: tuple[int, ...], content: bytes = b"", kind: int = 8) -> None:
    """A file of MNIST's format that says it has this shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, kind, len(shape)]) + np.array(shape, ">u4").tobytes() + content)


LIES = {
    "more than is there": ((2**31 - 1, 28, 28), b"x" * 784, 1),
    "overflowing": ((2**31 - 1, 2**31 - 1, 2**31 - 1), b"", 1),
    "no dimension": ((), b"", 1),
    "numbers of another kind": ((1, 28, 28), b"x" * 784 * 8, 1),
    "more images than labels": ((3, 28, 28), b"x" * 3 * 784, 2),
    "images of another size": ((2, 5, 7), b"x" * 70, 2),
    "labels out of range": ((2, 28, 28), b"x" * 2 * 784, 2),
    "a pipe": None,
    "any length": None,
    "empty": None,
}


@pytest.mark.parametrize("lie", LIES)
def test_files_of_mnists_format_that_lie_are_named(lie, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    for part in ("train", "t10k"):
        idx(raw / f"{part}-images-idx3-ubyte", (2, 28, 28), b"x" * 2 * 784)
        idx(raw / f"{part}-labels-idx1-ubyte", (2,), b"\0\1")
    images = raw / "train-images-idx3-ubyte"
    if LIES[lie]:
        shape, content, labels = LIES[lie]
        idx(images, shape, content, kind=14 if lie == "numbers of another kind" else 8)
        content = b"\0\x63" if lie == "labels out of range" else b"\0\1"
        idx(raw / "train-labels-idx1-ubyte", (labels,), content[:labels])
    elif lie == "a pipe":
        images.unlink()
        os.mkfifo(images)
    elif lie == "any length":
        os.truncate(images, 2**40)
    else:
        images.write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        load(mnist, tmp_path, CPU)
    said = str(caught.value)
    of_content = r"\d+ train images, but|train images are|\d+ of 2 train labels are outside"
    assert "\n" not in said and ("MNIST/raw" in said or re.match(of_content, said))


def test_cifars_files_of_any_length_are_not_read(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with open(tmp_path / "cifar-10-batches-py" / "data_batch_1", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"data_batch_1: 1,099,511,627,776 bytes, more than"):
        load(cifar10, tmp_path, CPU)
