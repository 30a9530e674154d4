"""A user's own images: any size, grey or RGB; what is wrong with them is named, nothing is guessed."""

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import image_folder, load
from src.datasets.files import find_images

CPU = torch.device("cpu")


def files_of(data) -> dict[str, list[str]]:
    return {s: sorted(getattr(data, s).names) for s in ("train", "val", "test") if getattr(data, s)}


def test_forty_classes_of_ten_grey_images_are_an_open_set_by_class(folder_of):
    root = folder_of("orl", people=40, images=10, size=(112, 92))
    data = load(image_folder, root, CPU, val_fraction=0.1)
    assert data.image_shape == (1, 112, 92)
    classes = [set(split.classes) for split in (data.train, data.val, data.test)]
    assert [len(names) for names in classes] == [29, 3, 8] and len(set.union(*classes)) == 40
    assert [len(split) for split in (data.train, data.val, data.test)] == [290, 30, 80]
    for split in (data.train, data.val, data.test):
        of_name = [name.split("/")[0] for name in split.names]
        assert [split.classes[label] for label in split.labels] == of_name
        pixels = np.asarray(Image.open(root / split.names[7]))
        np.testing.assert_array_equal(split.images[7, 0], pixels)


def test_a_closed_set_tests_a_share_of_each_classs_images(folder_of):
    root = folder_of("faces", people=5, images=10)
    data = load(image_folder, root, CPU, split="closed_set", test_fraction=0.3)
    assert data.train.classes == data.test.classes and len(data.train.classes) == 5
    assert data.train.labels.bincount().tolist() == [7] * 5
    assert data.test.labels.bincount().tolist() == [3] * 5
    files = files_of(data)
    assert not set(files["train"]) & set(files["test"])


@pytest.mark.parametrize("split", ["open_set", "closed_set"])
def test_the_split_is_drawn_by_its_own_seed(folder_of, split):
    root = folder_of("faces", people=12, images=6)

    def drawn(seed: int):
        return files_of(load(image_folder, root, CPU, split=split, split_seed=seed))

    assert drawn(1) == drawn(1) and drawn(1) != drawn(2)


def test_train_and_test_folders_are_taken_as_they_are(folder_of):
    folder_of("both/train", people=5, images=4)
    root = folder_of("both/test", people=3, images=2, first=5).parent
    data = load(image_folder, root, CPU)
    assert (data.train.classes[0], data.test.classes) == ("p00", ("p05", "p06", "p07"))
    assert (len(data.train), len(data.test)) == (20, 6)
    with pytest.raises(
        ValueError, match=r"^split=closed_set: class p05 is in the test part .*and not in"
    ):
        load(image_folder, root, CPU, split="closed_set")
    folder_of("both/test", people=1, images=2, first=2)
    root = root.rename(root.with_name("renamed"))  # or it would be taken for the one that was read
    with pytest.raises(
        ValueError, match=r"^split=open_set: class p02 is in both the training and the test part"
    ):
        load(image_folder, root, CPU)
    (root / "more").mkdir()
    with pytest.raises(ValueError, match=r"has test/ and train/, and beside them more/"):
        load(image_folder, root, CPU)


def test_in_a_closed_set_test_labels_count_the_training_classes(folder_of):
    folder_of("both/train", people=5, images=4)
    root = folder_of("both/test", people=2, images=3, first=3).parent
    data = load(image_folder, root, CPU, split="closed_set")
    assert data.test.classes == data.train.classes and data.test.labels.tolist() == [3] * 3 + [4] * 3


def test_a_validation_folder_is_used_as_it_is(folder_of):
    folder_of("parts/train", people=5, images=4)
    folder_of("parts/val", people=2, images=3, first=5)
    root = folder_of("parts/test", people=2, images=3, first=7).parent
    data = load(image_folder, root, CPU, val_fraction=0.5)
    assert data.val.classes == ("p05", "p06") and len(data.train) == 20
    folder_of("parts/val", people=1, images=3)
    with pytest.raises(
        ValueError, match=r"^split=open_set: class p00 is in both the training and the validation part"
    ):
        load(image_folder, root.rename(root.with_name("renamed")), CPU, val_fraction=0.5)


def test_modes_are_brought_to_one(folder_of):
    root = folder_of("modes", people=4, images=3)
    for name, mode in (("a", "RGB"), ("b", "RGBA"), ("c", "P"), ("d", "1"), ("e", "LA")):
        colour = Image.new("RGB", (10, 12), (200, 30, 40))
        colour.convert(mode).save(root / "p01" / f"{name}.png")
    deep = np.full((12, 10), 0x8000, np.uint16)
    deep[0, 0] = 0xFFFF
    Image.fromarray(deep).save(root / "p01" / "f.png")
    options = {"split": "closed_set", "test_fraction": 0.01}
    data = load(image_folder, root, CPU, **options)
    assert data.image_shape == (3, 12, 10)
    at = {
        name.split("/")[1]: split.images[i]
        for split in (data.train, data.test)
        for i, name in enumerate(split.names)
        if name.startswith("p01/")
    }
    for name in ("a.png", "b.png"):
        assert at[name][:, 3, 3].tolist() == [200, 30, 40]
    assert at["f.png"][:, 5, 5].tolist() == [128] * 3 and at["f.png"][:, 0, 0].tolist() == [255] * 3
    assert load(image_folder, root, CPU, channels=1, **options).image_shape == (1, 12, 10)


def test_all_images_can_be_test_images(folder_of):
    root = folder_of("new", people=3, images=2)
    for split in ("open_set", "closed_set"):
        data = load(image_folder, root, CPU, val_fraction=0.1, split=split, test_fraction=1)
        assert data.train is data.val is None and len(data.test) == 6 and len(data.test.classes) == 3


def test_deep_grey_is_scaled_and_where_white_is_unknown_refused(folder_of):
    root = folder_of("deep", people=4, images=3)
    pixels = np.arange(0, 60_000, 500, dtype=np.uint16).reshape(12, 10)
    (root / "p00" / "a.pgm").write_bytes(b"P5\n10 12\n65535\n" + pixels.astype(">u2").tobytes())
    data = load(image_folder, root, CPU, split="closed_set", test_fraction=0.01)
    parts = (data.train, data.test)
    row = next(s.images[list(s.names).index("p00/a.pgm")] for s in parts if "p00/a.pgm" in s.names)
    np.testing.assert_array_equal(row[0], pixels >> 8)
    Image.fromarray(np.full((12, 10), 0.5, np.float32)).save(root / "p01" / "f.tif")
    with pytest.raises(ValueError, match=r"p01/f.tif: not an image that can be read: floating-point"):
        load(image_folder, root.rename(root.with_name("renamed")), CPU)


def test_what_is_transparent_is_white(folder_of):
    root = folder_of("logos", people=4, images=3)
    for name, mode in (("a", "RGBA"), ("b", "LA"), ("c", "P")):
        ink = Image.new("RGBA", (10, 12), (0, 0, 0, 0))
        ink.paste((0, 0, 0, 255), (2, 2, 5, 5))
        ink.convert(mode).save(root / "p01" / f"{name}.png")
    options = {"split": "closed_set", "test_fraction": 0.01, "channels": 1}
    data = load(image_folder, root, CPU, **options)
    for name in ("a", "b", "c"):
        splits = [s for s in (data.train, data.test) if f"p01/{name}.png" in s.names]
        image = splits[0].images[list(splits[0].names).index(f"p01/{name}.png"), 0]
        assert (image[2:5, 2:5] == 0).all() and (image[6:] == 255).all(), name


def test_of_32_bits_white_is_unknown(folder_of):
    root = folder_of("deep", people=4, images=3)
    Image.fromarray(np.arange(120, dtype=np.int32).reshape(12, 10)).save(root / "p01" / "f.tif")
    with pytest.raises(ValueError, match=r"p01/f.tif: .*32-bit pixels"):
        load(image_folder, root, CPU)


def test_links_to_folders_are_followed_and_one_back_up_ends(folder_of, tmp_path):
    root = folder_of("faces", people=4, images=3)
    (root / "p00").rename(tmp_path / "elsewhere")
    (root / "p00").symlink_to(tmp_path / "elsewhere")
    (root / "p01" / "more").symlink_to(root / "p01")
    assert len(find_images(root)) == 12
    (tmp_path / "both").mkdir()
    for name in ("a", "b"):  # what is linked twice is there twice
        (tmp_path / "both" / name).symlink_to(tmp_path / "elsewhere")
    assert len(find_images(tmp_path / "both")) == 6
    data = load(image_folder, root, CPU, split="closed_set")
    assert len(data.train) + len(data.test) == 12


def test_the_images_are_known_again_whatever_normalises_them(folder_of):
    root = folder_of("faces")
    data = load(image_folder, root, CPU)
    before = data.fingerprint
    data.normalise_by([1.0], [2.0])
    assert data.fingerprint == before
    moved = root.rename(root.with_name("moved"))
    assert load(image_folder, moved, CPU).fingerprint == before
    Image.new("L", (10, 12), 255).save(moved / "p00" / "p00_0001.png")
    again = moved.rename(root.with_name("again"))
    assert load(image_folder, again, CPU).fingerprint != before


def test_no_image_to_test_on_is_named(folder_of):
    root = folder_of("singles", people=4, images=1)
    options = {"split": "closed_set", "min_images": 1}
    with pytest.raises(ValueError, match=r"^no images to test on"):
        load(image_folder, root, CPU, **options)


def test_a_photograph_taken_sideways_is_turned_upright(folder_of):
    root = folder_of("turned", people=4, images=3, size=(20, 10))
    lying = np.zeros((10, 20), np.uint8)
    lying[:, -5:] = 255  # its right side is up
    exif = Image.Exif()
    exif[274] = 8  # "rotate 90° anticlockwise to view"
    Image.fromarray(lying).save(root / "p00" / "side.png", exif=exif)
    data = load(image_folder, root, CPU, split="closed_set", test_fraction=0.01)
    splits = (data.train, data.test)
    upright = next(s.images[list(s.names).index("p00/side.png")] for s in splits
                   if "p00/side.png" in s.names)  # fmt: skip
    assert upright.shape == (1, 20, 10)
    assert (upright[0, :5] == 255).all() and (upright[0, 5:] == 0).all()


def test_images_are_resized_to_what_is_asked_for(folder_of):
    root = folder_of("big", people=4, images=3, size=(50, 40), mode="RGB")
    Image.new("RGB", (31, 77), (9, 9, 9)).save(root / "p00" / "other.png")
    data = load(image_folder, root, CPU, split="closed_set", size=[16, 24])
    assert data.image_shape == (3, 16, 24)
    i = list(data.train.names).index("p02/p02_0001.png")
    expected = Image.open(root / "p02" / "p02_0001.png").resize((24, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.train.images[i], np.asarray(expected).transpose(2, 0, 1))


def test_hidden_files_and_other_kinds_are_passed_over(folder_of):
    root = folder_of("faces")
    (root / ".cache").mkdir()
    (root / "p00" / ".DS_Store").write_bytes(b"x")
    (root / "p00" / "Thumbs.db").write_bytes(b"x")
    (root / "__MACOSX").mkdir()
    assert len(load(image_folder, root, CPU).train.classes) == 6


def test_one_class_to_train_on_is_refused_before_training(folder_of):
    folder_of("one/train", people=1, images=4)
    root = folder_of("one/test", people=1, images=2).parent
    with pytest.raises(ValueError, match=r"^one class to train on \(p00\), expected at least two"):
        load(image_folder, root, CPU, split="closed_set")


def test_each_class_of_two_images_or_more_is_validated_on(folder_of):
    folder_of("tail", people=2, images=40)
    folder_of("tail", people=6, images=5, first=2)
    root = folder_of("tail", people=1, images=3, first=8)  # of which one is tested
    data = load(image_folder, root, CPU, split="closed_set", val_fraction=0.1)
    assert data.val.labels.bincount().tolist() == [3, 3, *[1] * 7]
    assert data.train.labels.bincount().tolist() == [29, 29, *[3] * 6, 1]


def test_min_images_counts_a_class_over_its_parts(folder_of):
    folder_of("both/train", people=4, images=6)
    root = folder_of("both/test", people=4, images=6).parent
    for image in sorted((root / "train" / "p03").iterdir())[1:]:
        image.unlink()
    for min_images in (None, 2, 7):
        data = load(image_folder, root, CPU, split="closed_set", min_images=min_images)
        assert data.train.labels.bincount().tolist() == [6, 6, 6, 1] and data.skipped == ()
    data = load(image_folder, root, CPU, split="closed_set", min_images=8)
    assert data.train.classes == data.test.classes == ("p00", "p01", "p02") and data.skipped == ("p03",)
