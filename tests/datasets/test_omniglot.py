"""Omniglot from a tree or a zip, checked by what it holds."""

import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from src import torchvision_compat
from src.datasets import kmnist, load, omniglot

CPU = torch.device("cpu")
# A small Omniglot: two drawings of each character.
CHARACTERS = {"background": 3, "evaluation": 2}
SMALL = [
    (part, f"Alphabet_{part}/character{c:02d}/{c:04d}_{d:02d}.png")
    for part, characters in CHARACTERS.items()
    for c in range(1, characters + 1)
    for d in (1, 2)
]


@pytest.fixture
def small(monkeypatch):
    module = sys.modules["src.datasets.omniglot"]  # its function has taken its name in the package
    monkeypatch.setattr(module, "CHARACTERS", CHARACTERS)
    monkeypatch.setattr(module, "DRAWINGS", 2)


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("1", (105, 105), value % 2).save(out, "png")
    return out.getvalue()


def as_zips(folder, members=SMALL, names=("images_background.zip", "images_evaluation.zip"), more=()):
    folder.mkdir(exist_ok=True)
    for part, name in zip(CHARACTERS, names, strict=True):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for i, (of, path) in enumerate(members):
                if of == part:
                    archive.writestr(f"images_{part}/{path}", png(i))
            for path in more:
                archive.writestr(path, b"x")


def as_tree(folder):
    for i, (part, path) in enumerate(SMALL):
        target = folder / f"images_{part}" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png(i))


def test_the_official_split_is_read_whole_with_no_class_in_both(data_root):
    data = load(omniglot, data_root, CPU, size=[28, 28])
    assert (len(data.train), len(data.test), data.image_shape) == (19_280, 13_180, (1, 28, 28))
    assert (len(data.train.classes), len(data.test.classes)) == (964, 659)
    assert data.train.labels.bincount().tolist() == [20] * 964
    assert not set(data.train.classes) & set(data.test.classes)
    # Ink is dark on light, and a few hundredths of the page.
    assert 0.02 < (data.train.images < 128).float().mean() < 0.15
    pixels = zipfile.ZipFile(data_root / "omniglot-py" / "images_evaluation.zip").read(
        f"images_evaluation/{data.test.names[17]}"
    )
    expected = Image.open(io.BytesIO(pixels)).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.test.images[17, 0], np.asarray(expected))


def test_a_tree_and_zips_of_any_name_give_the_same(tmp_path, small):
    as_tree(tmp_path / "tree" / "omniglot-py")
    as_zips(tmp_path / "zips")
    as_zips(tmp_path / "named", names=("images_one.zip", "images_two.zip"))
    read = [load(omniglot, tmp_path / name, CPU) for name in ("tree", "zips", "named")]
    for other in read[1:]:
        for a, b in ((read[0].train, other.train), (read[0].test, other.test)):
            assert torch.equal(a.images, b.images) and a.classes == b.classes
            assert torch.equal(a.labels, b.labels)
    assert read[0].image_shape == (1, 105, 105) and len(read[0].test) == 4
    assert read[0].train.classes[0] == "Alphabet_background/character01"


@pytest.mark.parametrize(
    ("members", "more", "said"),
    [
        (SMALL[1:], (), r"3 characters, 5 drawings; published are 3 with 2 each .*character01 has 1"),
        (SMALL[2:], (), r"2 characters, 4 drawings; published are 3"),
        (SMALL, ("../../evil.png",), r"holds ../../evil.png, a path out of the folder"),
        (SMALL, ("/etc/evil.png",), r"holds /etc/evil.png, a path out of the folder"),
        (SMALL, ("a/../../x.zip",), r"a path out of the folder"),
        (SMALL, ("images_background/more.zip",), r"holds an archive, images_background/more.zip"),
    ],
)
def test_a_zip_that_is_not_omniglot_is_named_and_left_alone(tmp_path, small, members, more, said):
    as_zips(tmp_path / "root", members, more=more)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"images_background.zip: .*{said}") as caught:
        load(omniglot, tmp_path / "root", CPU)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_torn_zip_is_named(tmp_path, small):
    as_zips(tmp_path)
    archive = tmp_path / "images_background.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"images_background.zip: cannot be read"):
        load(omniglot, tmp_path, CPU)


def test_where_there_is_none_the_places_are_named(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision_compat.datasets, "Omniglot", no_network)
    places = r"omniglot-py/images_background.*images_background.zip"
    with pytest.raises(ValueError, match=rf"^root=.*{places}.*no route to host.*DATA_ROOT"):
        load(omniglot, tmp_path, CPU)


@pytest.mark.parametrize(
    ("reader", "class_name", "folder"),
    [(omniglot, "Omniglot", "omniglot-py"), (kmnist, "KMNIST", "KMNIST/raw")],
    ids=["omniglot", "kmnist"],
)
def test_a_failed_download_leaves_no_folder_behind(reader, class_name, folder, tmp_path, monkeypatch):
    class Offline(getattr(torchvision_compat.datasets, class_name)):
        def __init__(self, root, **_):
            (root / folder).mkdir(parents=True)
            raise RuntimeError("no network")

    monkeypatch.setattr(torchvision_compat.datasets, class_name, Offline)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"could not be downloaded \(no network\)"):
        load(reader, tmp_path, CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
