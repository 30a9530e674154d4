"""`.bin` files from strangers: nothing of a pickle is run or built but lists, bytes and numbers."""

import io
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import load, pairs
from src.datasets.harmless_pickle import load_harmless
from tests.conftest import ROOT

CPU = torch.device("cpu")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def image_bytes(size=(10, 12)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, 7).save(out, "png")
    return out.getvalue()


class Call:
    """Pickled as a call of a function with arguments, and a state for what it returns."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


RECONSTRUCT = np.zeros(0).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
FROMBUFFER = np.zeros(3).__reduce_ex__(5)[0]
POINTERS = struct.pack("<16Q", *range(0x4141414141, 0x4141414151))
OBJECTS = np.dtype("O")
HIDDEN = np.dtype([("a", "u1"), ("b", "O")])
NESTED = np.dtype((np.dtype([("x", "O")]), 2))

ORDER = (3, "O", None, None, None, -1, -1, 63)
FIELDS = (3, "|", None, ("a",), {"a": (OBJECTS, 0)}, 8, 1, 27)


def array(*state) -> Call:
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, *state))


FORGED = {
    "ndarray of pointers": Call(np.ndarray, (16,), OBJECTS, POINTERS),
    "ndarray of bytes": Call(np.ndarray, (16,), np.dtype("u1"), POINTERS),
    "ndarray of any size": Call(np.ndarray, (2**40,)),
    "state of pointers": array((16,), OBJECTS, False, POINTERS),
    "state of objects": array((2,), OBJECTS, False, [b"a", b"b"]),
    "structured pointers": array((1,), HIDDEN, False, POINTERS),
    "nested pointers": array((1,), NESTED, False, POINTERS),
    "structured, no objects": array((1,), np.dtype([("a", "u8")]), False, POINTERS[:8]),
    "buffer of pointers": Call(FROMBUFFER, POINTERS, OBJECTS, (16,), "C"),
    "scalar pointer": Call(SCALAR, OBJECTS, POINTERS[:8]),
    "scalar of a structure": Call(SCALAR, HIDDEN, POINTERS[:9]),
    "text": array((1,), np.dtype("U4"), False, bytes(16)),
    "more than is there": array((2**40,), np.dtype("u1"), False, b"abc"),
    "less than nothing": array((-3,), np.dtype("u1"), False, b"abc"),
    "overflowing": array((2**62, 4), np.dtype("u8"), False, b""),
    "no shape": array(None, np.dtype("u1"), False, b"abc"),
    "no dtype": array((3,), "u1", False, b"abc"),
    "no state": Call(RECONSTRUCT, np.ndarray, (0,), b"b"),
    "dtype of a new order": array((3,), Call(np.dtype, "u8", state=ORDER), False, POINTERS[:24]),
    "dtype with fields": array((1,), Call(np.dtype, "V8", state=FIELDS), False, POINTERS[:8]),
    "memory map": Call(np.memmap, "/etc/passwd"),
    "system": Call(os.system, "true"),
    "eval": Call(eval, "1"),
    "getattr": Call(getattr, b"", "decode"),
    "bytes of any size": Call(bytes, 2**40),
    "a set": frozenset([1]),
    "a dictionary": {1: 2},
}


def test_forged_pickles_of_any_protocol_neither_crash_nor_build_nor_run(tmp_path):
    """All of them in a process of its own, which they might end."""
    count = 0
    for name, forged in FORGED.items():
        for place, content in (("image", ([forged] * 2, [True])), ("flags", ([b"", b""], forged))):
            for protocol in PROTOCOLS:
                path = tmp_path / f"{name}, {place}, {protocol}.bin"
                path.write_bytes(pickle.dumps(content, protocol))
                count += 1
    code = """
import resource, sys
from pathlib import Path
from src.datasets.pair_files import read_bin
resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, "read", read_bin(path))
    except ValueError as error:
        print(path.name, "refused", error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == count
    assert [line for line in lines if " refused " not in line] == []


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def nested(count: int) -> bytes:
    """A tuple of two of the same, of two of the same, …"""
    return b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(count))


LAUGHS = {
    "hashed": (b"\x80\x04}" + nested(60) + b"K\x01s.", "SETITEM|EMPTY_DICT"),
    "a set": (b"\x80\x04\x8f(" + nested(60) + b"\x90.", "EMPTY_SET"),
    "as images": (b"\x80\x04" + nested(60) + b"]\x86.", "tuple where an image belongs"),
    "as flags": (b"\x80\x04]" + nested(60) + b"\x86.", "tuple where true or false belongs"),
    "a memo of 2**32": (b"\x80\x04]" + put(2**32 - 1) + b"]\x86.", "no pickle is written so"),
    "a text memo": (b"]p" + b"9" * 4000 + b"\n].", "no pickle is written so|Exceeds the limit"),
    "bytes of 2**60": (
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"ab.",
        "expected 1152921504606846976",
    ),
    "a frame of 2**60": (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"]].", "frame|truncated"),
    "a long of 2**31": (b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"ab.", "not enough data"),
    "digits": (b"I" + b"9" * 100_000 + b"\n.", "Exceeds the limit"),
    "an extension": (b"\x80\x04\x82\x01.", "EXT1"),
    "a persistent id": (b"\x80\x04K\x01Q.", "BINPERSID"),
    "an old instance": (b"(ios\nsystem\n.", "INST"),
    "a name over several lines": (b"\x80\x04\x8c\x04a\nb\x1b\x8c\x01c\x93.", r"it asks for a b .c"),
    "nothing": (b"", "pickle exhausted"),
    "an empty stack": (b"\x80\x040.", "POP"),
    "a mark alone": (b"\x80\x04(.", "mark|MARK"),
    "bytes that are called": (b"\x80\x04C\x01a)R.", "not callable"),
    "a state for a function": (b"\x80\x04c_codecs\nencode\n(K\x01tb.", "state|attribute|instance"),
}


@pytest.mark.parametrize("name", LAUGHS)
def test_small_pickles_that_would_grow_end_in_one_line(name, tmp_path):
    content, said = LAUGHS[name]
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x.bin: not a verification .bin .*({said})") as caught:
        load(pairs, tmp_path, CPU, pairs="x.bin")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_deep_pickles_end_in_one_line(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\x80\x04]" + b")" + b"\x85" * 100_000 + b"\x86.")
    with pytest.raises(ValueError, match="tuple where true or false belongs"):
        load(pairs, tmp_path, CPU, pairs="x.bin")


def test_one_image_listed_over_and_over_is_not_decoded(tmp_path):
    image = image_bytes((1000, 1000))
    count = 100_000
    listed = b"C" if len(image) < 256 else b"B"
    length = bytes([len(image)]) if len(image) < 256 else struct.pack("<I", len(image))
    first = b"\x80\x04](" + listed + length + image + b"q\x00" + b"h\x00" * (count - 1) + b"e"
    (tmp_path / "x.bin").write_bytes(first + b"](" + b"\x88" * (count // 2) + b"e\x86.")
    with pytest.raises(ValueError, match=r"x.bin: .* bytes of images that would take 100,000,000,000"):
        load(pairs, tmp_path, CPU, pairs="x.bin")


def test_an_image_in_a_bin_of_more_pixels_than_a_face_has_is_named(tmp_path):
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([image_bytes((3000, 3000))] * 2, [True])))
    for size in (None, [8, 8]):
        with pytest.raises(ValueError, match=r"x.bin: .*3000×3000 pixels, more than 4,194,304"):
            load(pairs, tmp_path, CPU, pairs="x.bin", size=size)


def test_a_bin_that_is_larger_than_any_is_not_read(tmp_path):
    with open(tmp_path / "x.bin", "wb") as file:
        file.truncate(2**40)  # of which the disk holds nothing
    with pytest.raises(ValueError, match=r"1,099,511,627,776 bytes, more than 4,294,967,296"):
        load(pairs, tmp_path, CPU, pairs="x.bin")
    (tmp_path / "x.bin").rename(tmp_path / "pairs.txt")
    with pytest.raises(ValueError, match=r"pairs.txt: line 1 is not LFW's.*more than 268,435,456"):
        load(pairs, tmp_path, CPU)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["<i8", ">i8", "u1", "bool", "f4"])
def test_flags_of_any_kind_of_number_are_read(protocol, kind, tmp_path):
    flags = np.array([True, False, True]).astype(kind)
    for same in (flags, list(flags), np.asfortranarray(flags)):
        (tmp_path / "x.bin").write_bytes(pickle.dumps(same, protocol))
        read = load_harmless(tmp_path / "x.bin")
        assert [bool(flag) for flag in getattr(read, "values", read)] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a" * 300, r"line 2 wants .*a, which is not there"),
        ("a\0b", r"line 2 wants .*, which is not there"),
    ],
)
def test_names_that_no_system_has_are_not_there(name, said, faces):
    (faces / "pairs.txt").write_text(f"1\n{name}\t1\t2\np00\t1\tp01\t1\n")
    with pytest.raises(ValueError, match=said.replace("a,", "")) as caught:
        load(pairs, faces, CPU)
    assert len(str(caught.value)) < 600


def test_numbers_of_thousands_of_digits_are_no_image(faces):
    (faces / "pairs.txt").write_text(f"1\np00\t1\t{'9' * 5000}\np00\t1\tp01\t1\n")
    with pytest.raises(ValueError, match="line 2 names no image") as caught:
        load(pairs, faces, CPU)
    assert len(str(caught.value)) < 600


def test_more_steps_than_any_such_file_takes_are_not_taken(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\x80\x04](" + b"N" * 1_100_000 + b"e].")
    with pytest.raises(ValueError, match=r"no pickle is written so \(NONE after 1,000,001 steps\)"):
        load(pairs, tmp_path, CPU, pairs="x.bin")
