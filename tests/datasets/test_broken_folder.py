"""A user's images that are not right: what is wrong is named, and nothing is touched or guessed."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from src.datasets import image_folder, load

CPU = torch.device("cpu")


def broken(root: Path) -> None:
    (root / "p02" / "torn.png").write_bytes((root / "p02" / "p02_0001.png").read_bytes()[:60])


def no_image(root: Path) -> None:
    (root / "p02" / "notes.jpg").write_text("not an image")


def empty(root: Path) -> None:
    (root / "p99").mkdir()


def one_image(root: Path) -> None:
    for image in sorted((root / "p03").iterdir())[1:]:
        image.unlink()


def another_size(root: Path) -> None:
    Image.new("L", (33, 44)).save(root / "p05" / "z.png")


def stray(root: Path) -> None:
    Image.new("L", (10, 12)).save(root / "stray.png")


def archive(root: Path) -> None:
    (root / "p01" / "more.zip").write_bytes(b"PK")


def no_folders(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def splits_without_training(root: Path) -> None:
    for name in ("val", "test"):
        (root / name).mkdir()
    for folder in sorted(root.glob("p*")):
        folder.rename(root / "test" / folder.name)


def two_validations(root: Path) -> None:
    splits_without_training(root)
    for name in ("train", "Validation"):
        (root / name).mkdir()


def beside_eval(root: Path) -> None:
    for name in ("train", "eval"):
        shutil.copytree(root, root.parent / "copy" / name)
    shutil.rmtree(root)
    (root.parent / "copy").rename(root)


def query_and_gallery(root: Path) -> None:
    beside_eval(root)
    (root / "train").rename(root / "Query")
    (root / "eval").rename(root / "gallery")


def few_classes(root: Path) -> None:
    for folder in sorted(root.iterdir())[3:]:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def splits_of_another_name(root: Path) -> None:
    for name in ("Training", "Testing"):
        (root / name).mkdir()
    for folder in sorted(root.glob("p*")):
        folder.rename(root / "Training" / folder.name)
    shutil.copytree(root / "Training" / "p01", root / "Testing" / "p01")


def unsupported(root: Path) -> None:
    (root / "p04" / "x.HEIC").write_bytes(b"x")


def not_text(root: Path) -> None:
    try:
        (root / "p01").rename(os.fsdecode(os.fsencode(root) + b"/p\xe9"))
    except OSError:  # as of a Mac
        pytest.skip("this file system has no names that are not UTF-8")


def validated_and_tested(root: Path) -> None:
    for name in ("train", "val", "test"):
        (root / name).mkdir()
    for folder in sorted(root.glob("p*")):
        folder.rename(root / ("test" if folder.name < "p03" else "train") / folder.name)
    shutil.copytree(root / "test" / "p01", root / "val" / "p01")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (broken, r"p02/torn.png: not an image that can be read.*skip_broken=true"),
        (no_image, r"p02/notes.jpg: not an image that can be read.*cannot identify.*skip_broken"),
        (empty, r"p99: no images in it, where each folder is a class; skip_broken=true"),
        (one_image, r"class p03 has a single sample \(p03/p03_0001.png\).*min_images=2"),
        (another_size, r"^size=None: .*p00_0001.png is 12×10, .*z.png 44×33.*\[112,112\]"),
        (stray, r"stray.png: an image beside the class folders"),
        (archive, r"p01/more.zip: an archive among the images"),
        (no_folders, r"no folders in it; expected one folder per class"),
        (
            splits_without_training,
            r"has test/, val/, which look like splits; expected train/ \(optionally val/, test/\)",
        ),
        (beside_eval, r"^root=.*: has eval/, train/, which look like splits; expected train/ \("),
        (query_and_gallery, r"has Query/, gallery/, which look like splits; expected train/"),
        (two_validations, r"has .*train/.*, and beside them Validation/: which is it\?"),
        (few_classes, r"^test_fraction=0.2: leaves fewer than 2 of the 3 classes in .* to train on"),
        (splits_of_another_name, r"class p01 is in both the training and the test part"),
        (unsupported, r"p04/x.HEIC: (an unsupported image format|not an image)"),
        (not_text, r"p\\udce9': a name that is not UTF-8"),
        (validated_and_tested, r"class p01 is in both the validation and the test part"),
    ],
)
def test_what_is_wrong_is_named_in_one_line_and_nothing_is_touched(folder_of, damage, said):
    root = folder_of("faces")
    damage(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=said) as caught:
        load(image_folder, root, CPU)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_large_images_want_a_size(folder_of):
    root = folder_of("large", people=5, images=2, size=(300, 260))
    with pytest.raises(ValueError, match=r"^size=None: images of 300×260 are more than"):
        load(image_folder, root, CPU)


@pytest.mark.parametrize("name", ["nowhere", "a_file"])
def test_a_root_that_is_no_folder_is_named(tmp_path, name):
    (tmp_path / "a_file").write_text("x")
    with pytest.raises(ValueError, match=rf"^root={tmp_path / name}: no such folder"):
        load(image_folder, tmp_path / name, CPU)


@contextlib.contextmanager
def as_nobody():
    """Root reads everything: give that up for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("what", ["p01", "p01/x.png", "."])
def test_what_may_not_be_read_is_named(folder_of, what):
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        root = Path(open_to_all) / "faces"
        folder_of("faces", people=6, images=2).rename(root)
        Image.new("L", (10, 12)).save(root / "p01" / "x.png")
        (root / what).chmod(0)
        try:
            with as_nobody(), pytest.raises(ValueError, match=rf"{root / what}.*[Pp]ermission denied"):
                load(image_folder, root, CPU)
        finally:
            (root / what).chmod(0o755)


def test_skip_broken_leaves_out_counts_and_lists(folder_of):
    root = folder_of("faces")
    for damage in (broken, no_image, empty):
        damage(root)
    data = load(image_folder, root, CPU, skip_broken=True)
    assert sorted(data.skipped) == ["p02/notes.jpg", "p02/torn.png", "p99"]
    assert len(data.train) + len(data.test) == 32 and not [c for c in data.train.classes if c == "p99"]


def test_small_classes_are_left_out_or_kept_by_wish(folder_of):
    root = folder_of("faces")
    one_image(root)
    without = load(image_folder, root, CPU, min_images=2)
    assert without.skipped == ("p03",) and "p03" not in without.train.classes + without.test.classes
    kept = load(image_folder, root, CPU, min_images=1)
    assert "p03" in kept.train.classes + kept.test.classes and kept.skipped == ()
