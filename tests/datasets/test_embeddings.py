"""Features of any encoder: three kinds of files, taken as they are, what is wrong named with its row."""

import zipfile

import numpy as np
import pytest
import torch

from src.config.tree import Device
from src.datasets import embeddings, load
from src.errors import UserError
from src.run.build import build_run
from src.run.embedding import embedded, splits_of
from src.run.export import export
from src.run.lifecycle import train_run
from src.run.load import load_trained
from tests.conftest import FAST, summary_of

CPU = torch.device("cpu")
LABELS = np.repeat(np.arange(12), 6)
FEATURES = (
    np.random.default_rng(0).normal(size=(12, 8))[LABELS]
    + 0.3 * np.random.default_rng(1).normal(size=(72, 8))
).astype(np.float32)


def npz(path, **arrays):
    np.savez(path / "x.npz", **({"features": FEATURES, "labels": LABELS} | arrays))
    return path / "x.npz"


def read(path, **options):
    return load(embeddings, path.parent, CPU, file=path.name, **options)


def everything(data) -> dict[str, np.ndarray]:
    """Features by class, of all parts together."""
    splits = [split for split in (data.train, data.val, data.test) if split]
    return {
        name: split.images[split.labels == label].numpy().reshape(-1, 8)
        for split in splits
        for label, name in enumerate(split.classes)
        if (split.labels == label).any()
    }


@pytest.mark.parametrize("model", ["mlp", "linear", "pixels"])
def test_from_the_one_command_to_a_finished_run(model, composed, tmp_path):
    chosen = () if model == "mlp" else (f"model={model}",)
    fast = [option for option in FAST if not option.startswith("model")]
    where = ("dataset=embeddings", f"dataset.file={npz(tmp_path)}", "batch_size=8")
    config = composed(*fast, *where, *chosen)
    assert config.name("model") == model and config.evaluation.protocol == "open_set"
    train_run(config, tmp_path / "run")
    summary = summary_of(tmp_path / "run")
    assert summary["state"] == "finished" and summary["metrics"]["map_at_r"] > 0.8
    kept = np.load(tmp_path / "run" / "embeddings.npz")
    assert "thumbnails" not in kept and kept["embeddings"].shape == (12, 8 if model == "pixels" else 128)


def test_features_stay_as_they_are_or_are_standardised_by_wish(tmp_path):
    data = read(npz(tmp_path), val_fraction=0.2)
    assert data.image_shape == (1, 1, 8) and not data.pictures
    for label, of_class in everything(data).items():
        np.testing.assert_array_equal(of_class, FEATURES[int(label) == LABELS])
    images, _ = data.train.batch(torch.arange(5))
    assert torch.equal(images, data.train.images[:5]) and images.dtype == torch.float32
    data = read(npz(tmp_path), val_fraction=0.2, standardise=True)
    images, _ = data.train.batch(torch.arange(len(data.train)))
    torch.testing.assert_close(images.mean(0), torch.zeros(1, 1, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std(0, correction=0), torch.ones(1, 1, 8))
    assert not torch.allclose(data.test.batch(torch.arange(12))[0].mean(0), torch.zeros(8), atol=1e-3)


def test_files_of_every_kind_hold_the_same(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    np.save(tmp_path / "x.npy", FEATURES)
    np.save(tmp_path / "y.npy", LABELS)
    table = pa.table({"features": FEATURES.tolist(), "label": LABELS, "other": LABELS})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    expected = everything(read(npz(tmp_path)))
    for name, options in (("x.npy", {"labels": "y.npy"}), ("x.parquet", {})):
        found = everything(read(tmp_path / name, **options))
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_what_src_embed_writes_is_read_and_parts_are_obeyed(tmp_path):
    classes = np.array([f"class {k}" for k in range(12)])
    splits = np.array(["train", "train", "val", "test"])[LABELS % 4]
    names = np.array([f"{row}.png" for row in range(72)])
    path = npz(tmp_path, classes=classes, names=names, splits=splits)
    data = read(path)
    assert data.test.classes == ("class 11", "class 3", "class 7") and len(data.val) == 18
    assert set(data.test.names) == {f"{row}.png" for row in range(72) if LABELS[row] % 4 == 3}


def test_a_trained_model_takes_features_only_and_is_exported(composed, folder_of, tmp_path):
    path, run = npz(tmp_path), tmp_path / "run"
    fast = [option for option in FAST if not option.startswith("model")]
    options = ("batch_size=8", "dataset.standardise=true", "model.embedding_dim=4")
    train_run(composed(*fast, "dataset=embeddings", f"dataset.file={path}", *options), run)
    trained = load_trained(run, Device(kind="cpu", threads=1))

    def embed(source, *overrides):
        splits, _ = splits_of(trained, [str(source), *overrides], "test", False)
        return embedded(trained, splits).embeddings.numpy()

    with pytest.raises(UserError, match=r"faces: images; the model of .* takes features"):
        embed(folder_of("faces"))
    kept = np.load(run / "embeddings.npz")["embeddings"]
    np.testing.assert_allclose(embed("embeddings", f"dataset.file={path}"), kept, atol=1e-6)
    assert export(trained, "torchscript", tmp_path / "m.pt") < 1e-4
    other = ["dataset.dimension=8", "evaluation=open_set", "dataset.split=open_set"]
    with pytest.raises(UserError, match=r"dataset=synthetic: has images, the model of .* wants feat"):
        embed("synthetic", *other)


def test_features_are_not_augmented(composed, tmp_path):
    where = ("dataset=embeddings", f"dataset.file={npz(tmp_path)}", "batch_size=8")
    with pytest.raises(UserError, match=r"^augment.flip=0.5: dataset=embeddings has features, not im"):
        build_run(composed(*FAST, *where, "augment.flip=0.5"), tmp_path)


def with_value(array, row, value):
    array = array.copy()
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"features": with_value(FEATURES, 7, np.nan)}, r"x.npz: row 7: does not hold finite numbers"),
        ({"features": 1e300 * np.ones((72, 8))}, r"row 0: does not hold finite .*, nor do 71 more"),
        ({"features": FEATURES[:, :, None]}, r"features are float32 \(72, 8, 1\), expected numbers"),
        ({"features": FEATURES[:0], "labels": LABELS[:0]}, r"features are float32 \(0, 8\), expected"),
        ({"features": FEATURES.astype(str)}, r"features are <U\d+ \(72, 8\), expected numbers"),
        ({"features": FEATURES.astype(object)}, r"it holds Python objects, which are not loaded"),
        ({"labels": LABELS[:70]}, r"features are \(72, 8\), but labels \(70,\)"),
        ({"labels": LABELS.astype(object)}, r"it holds Python objects, which are not loaded"),
        ({"labels": with_value(LABELS, 3, -1)}, r"row 3: label -1, expected one from 0"),
        ({"labels": with_value(LABELS.astype(float), 3, np.nan)}, r"row 3 has no label"),
        ({"labels": LABELS + 0.5}, r"row 0: label is '0.5', expected text or a whole number"),
        ({"labels": with_value(LABELS, 3, 40)}, r"class 40 has a single sample \(row 4\)"),
        ({"classes": np.array(["a", "b"])}, r"row 12: label 2 is none of its 2 classes"),
        ({"splits": np.full(72, "tests")}, r"row 0: split 'tests' is none of train, val and test"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_arrays_is_named_with_its_row(tmp_path, arrays, said):
    with pytest.raises(ValueError, match=said) as caught:
        read(npz(tmp_path, **arrays))
    assert "\n" not in str(caught.value) and "x.npz" in str(caught.value)


def test_files_that_hold_no_features_are_named(tmp_path):
    path = tmp_path / "x.npz"
    for content in (b"", b"PK\x03\x04 torn", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x.npz: cannot be read as an .npz of arrays \(.*\)$"):
            read(path)
    np.savez(path, x=FEATURES, labels=LABELS)
    with pytest.raises(ValueError, match=r"x.npz: has no array features; its arrays are x, labels"):
        read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as zipped:
        zipped.writestr("features.npy", b"x")
    with pytest.raises(ValueError, match=r"compressed in an unusual way"):
        read(path)
    np.save(tmp_path / "x.npy", FEATURES)
    with pytest.raises(ValueError, match=r"^labels=None: .*x.npy holds features alone"):
        read(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"^labels=y.npy: no such file"):
        read(tmp_path / "x.npy", labels="y.npy")
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^file=x.pt: features are read from .npz, .npy, .parquet"):
        read(tmp_path / "x.pt")


def test_lists_of_a_parquet_file_have_one_length(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    for rows, said in (
        ([[1.0, 2.0], [1.0]], r"row 2 has 1 features, the first 2"),
        ([[1.0, 2.0], None], r"row 2 has 0 features, the first 2"),
        ([1.0, 2.0], r"column features holds double, not lists of numbers"),
    ):
        table = pa.table({"features": rows, "label": ["a", "b"]})
        pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=said):
            read(tmp_path / "x.parquet")
