"""Verification files: LFW's pairs and `.bin`, read without running what they hold."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import load, pairs

CPU = torch.device("cpu")


def image_bytes(value: int, size=(10, 12), mode="RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(out, "png")
    return out.getvalue()


def test_lfws_format_is_read_and_training_uses_people_in_no_pair(faces):
    data = load(pairs, faces, CPU)
    first, second, same, fold = data.test.pairs
    assert same.tolist() == [True, True, False, False] * 2 and fold.tolist() == [0] * 4 + [1] * 4
    named = [(data.test.names[a], data.test.names[b]) for a, b in zip(first, second, strict=True)]
    assert named[0] == ("p00/p00_0001.png", "p00/p00_0002.png")
    assert named[3] == ("p01/p01_0001.png", "p02/p02_0003.png")
    assert named[7] == ("p03/p03_0001.png", "p00/p00_0004.png")
    assert data.train.classes == ("p04", "p05", "p06", "p07") and len(data.train) == 16
    assert len(set(data.test.names)) == len(data.test)  # each image once
    pixels = np.asarray(Image.open(faces / "p01" / "p01_0001.png"))
    row = list(data.test.names).index("p01/p01_0001.png")
    np.testing.assert_array_equal(data.test.images[row, 0], pixels)


def test_names_of_several_words_stand_between_tabs_and_one_number_heads_a_single_fold(folder_of):
    root = folder_of("lfw", people=6, images=2)
    (root / "p00").rename(root / "Ann B")
    for i in (1, 2):
        (root / "Ann B" / f"p00_000{i}.png").rename(root / "Ann B" / f"Ann B_000{i}.png")
    (root / "dev.txt").write_text("1\nAnn B\t1\t2\nAnn B\t2\tp01\t1\n")
    listed = load(pairs, root, CPU, pairs="dev.txt").test.pairs
    assert listed.same.tolist() == [True, False] and listed.fold.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"pairs.txt: line 1 is not LFW's"),
        ("0\n", r"pairs.txt: line 1 is not LFW's"),
        ("ten 300\n", r"pairs.txt: line 1 is not LFW's"),
        ("1\t2\np00\t1\t2\n", r"1 pairs; its first line says 1 × 2 × 2 = 4"),
        ("1\np00\t1\np00\t1\tp01\t1\n", r"line 2 is neither `name i j`"),
        ("1\np00\t1\t2\np00\t1\tp01\t9\n", r"line 3 wants .*p01/p01_0009.jpg, which is not there"),
        ("1\n../p00\t1\t2\np00\t1\tp01\t1\n", r"line 2 names no image: '../p00'"),
        ("1\np00\t1\tx\np00\t1\tp01\t1\n", r"line 2 names no image: 'p00' 'x'"),
    ],
)
def test_a_wrong_line_of_a_pairs_file_is_named(faces, text, said):
    (faces / "pairs.txt").write_text(text)
    with pytest.raises(ValueError, match=said) as caught:
        load(pairs, faces, CPU)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_the_pairs_file_itself_is_answered_with_what_reads_it(faces):
    file = faces / "pairs.txt"
    with pytest.raises(
        ValueError, match=rf"^root={file}: a file; expected its folder, {faces}, with pairs=pairs.txt"
    ):
        load(pairs, file, CPU)


def test_another_number_of_pairs_than_was_published_is_refused(faces):
    assert len(load(pairs, faces, CPU, count=8).test.pairs.same) == 8
    with pytest.raises(ValueError, match=r"^count=6000: .*pairs.txt has 8 pairs"):
        load(pairs, faces, CPU, count=6000)


def test_people_in_a_pair_may_not_be_trained_on(faces):
    with pytest.raises(ValueError, match=r"^train=.: p00 is in it and in .*pairs.txt"):
        load(pairs, faces, CPU, train=".")


def test_a_broken_image_of_a_pair_is_not_skipped(faces):
    (faces / "p01" / "p01_0001.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"p01_0001.png: named in .*pairs.txt, not an image"):
        load(pairs, faces, CPU, skip_broken=True)


def test_a_missing_pairs_file_is_named(faces):
    with pytest.raises(ValueError, match=r"^pairs=other.txt: not in .*faces; expected"):
        load(pairs, faces, CPU, pairs="other.txt")


VALUES, SAME = [10, 10, 20, 200, 90, 90, 7, 77], [True, False, True, False]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("encoding", [bytes, "array"])
@pytest.mark.parametrize("flags", [list, np.array])
def test_a_bin_file_of_any_pickle_protocol_and_array_type_is_read(tmp_path, protocol, encoding, flags):
    images = [image_bytes(value) for value in VALUES]
    if encoding == "array":
        images = [np.frombuffer(image, np.uint8) for image in images]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, flags(SAME)), protocol=protocol))
    data = load(pairs, tmp_path, CPU, pairs="lfw.bin")
    assert data.train is None and data.image_shape == (3, 12, 10)
    assert data.test.images[:, 0, 0, 0].tolist() == VALUES
    assert data.test.pairs.same.tolist() == SAME
    assert data.test.pairs.first.tolist() == [0, 2, 4, 6]
    assert data.test.pairs.second.tolist() == [1, 3, 5, 7]


def test_a_bin_file_of_python_2_is_read(tmp_path):
    # `str` of Python 2, which Python 3 no longer writes: opcode U (SHORT_BINSTRING) takes 255 bytes.
    image = image_bytes(5, (2, 2), "L")
    assert len(image) < 256
    one = b"U" + bytes([len(image)]) + image
    (tmp_path / "old.bin").write_bytes(b"\x80\x02](" + one + one + b"e](\x88e\x86.")
    data = load(pairs, tmp_path, CPU, pairs="old.bin")
    assert data.test.images.flatten().tolist() == [5] * 8 and data.test.pairs.same.tolist() == [True]


def test_ten_folds_of_a_bin_file_lie_one_after_the_other(tmp_path):
    images, same = [image_bytes(1, (4, 4))] * 80, [True, False] * 20
    (tmp_path / "x.bin").write_bytes(pickle.dumps((images, same)))
    assert (
        load(pairs, tmp_path, CPU, pairs="x.bin").test.pairs.fold.tolist()
        == np.repeat(range(10), 4).tolist()
    )


class Harmful:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return exec, (f"open({self.path!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_code_in_a_bin_file_is_refused_and_not_run(tmp_path, protocol):
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Harmful(tmp_path / "ran"), protocol))
    with pytest.raises(ValueError, match=r"evil.bin: not a verification .bin .*builtin.*exec"):
        load(pairs, tmp_path, CPU, pairs="evil.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a pickle", r"bad.bin: not a verification .bin"),
        (pickle.dumps([1, 2, 3]), r"bad.bin: not a verification .bin"),
        (pickle.dumps(([image_bytes(1)] * 3, [True])), r"bad.bin: 3 images for 1 pairs"),
        (pickle.dumps(([], [])), r"bad.bin: 0 images for 0 pairs"),
        (pickle.dumps(([b"x", b"y"], [True])), r"bad.bin: its first image cannot be read"),
        (pickle.dumps(([image_bytes(1), b"y"], [True])), r"bad.bin: not an image that can be read"),
    ],
)
def test_a_bin_file_that_is_none_is_named(tmp_path, content, said):
    (tmp_path / "bad.bin").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load(pairs, tmp_path, CPU, pairs="bad.bin")
    assert "\n" not in str(caught.value)


def test_a_bin_file_beside_a_folder_to_train_on(folder_of):
    root = folder_of("people/train", people=5, images=3, mode="RGB").parent
    images = [image_bytes(value, (30, 30)) for value in VALUES]
    (root / "lfw.bin").write_bytes(pickle.dumps((images, SAME)))
    data = load(pairs, root, CPU, pairs="lfw.bin", train="train", size=[8, 8])
    away = (root / "train").rename(root.parent / "away")
    elsewhere = load(pairs, root, CPU, pairs="lfw.bin", train=str(away), size=[8, 8])
    assert len(elsewhere.train) == 15 and elsewhere.train.names[0].startswith("../away/p00/")
    assert len(data.train) == 15 and data.image_shape == (3, 8, 8) and len(data.test) == 8
