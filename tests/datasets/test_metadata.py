"""Hugging Face's image folders: labels in a metadata file, parts in folders of any usual name."""

import json
import shutil

import pytest
import torch

from src.datasets import image_folder, load
from src.run.lifecycle import train_run
from tests.conftest import FAST, summary_of

CPU = torch.device("cpu")


def flat(folder, kind: str = "csv", **more) -> None:
    """Put the images of class folders into one, with a metadata file that says their classes."""
    rows = []
    for path in sorted(folder.rglob("*.png")):
        rows.append({"file_name": path.name, "label": path.parent.name} | more)
        path.rename(folder / path.name)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    if kind == "jsonl":
        text = "\n".join(map(json.dumps, rows))
    else:
        text = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    (folder / f"metadata.{kind}").write_text(text)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_from_the_one_command_to_a_finished_run(kind, folder_of, composed, tmp_path, caplog):
    root = folder_of("faces")
    expected = load(image_folder, root, CPU)
    copied = shutil.copytree(root, tmp_path / "copied")
    flat(copied, kind, text="a face")
    data = load(image_folder, copied, CPU)
    assert data.test.classes == expected.test.classes and data.test.names[0] == "p02_0001.png"
    assert torch.equal(data.test.images, expected.test.images)
    caplog.set_level("INFO")
    config = composed(*FAST, "dataset=image_folder", f"dataset.root={copied}", "batch_size=8")
    train_run(config, tmp_path / "run")
    assert summary_of(tmp_path / "run")["state"] == "finished"
    assert f"metadata.{kind}: columns that are not used: text" in caplog.text


def test_each_part_has_its_own_file_or_one_file_names_the_parts(folder_of, tmp_path):
    folder_of("parts/train", people=5)
    folder_of("parts/validation", people=2, first=5)
    root = folder_of("parts/test", people=2, first=7).parent
    expected = load(image_folder, root, CPU)
    apart, together = (shutil.copytree(root, tmp_path / name) for name in ("apart", "together"))
    for part in ("train", "validation", "test"):
        flat(apart / part)
    lines = [
        f"{path.relative_to(together)},{path.parent.name}" for path in sorted(together.rglob("*.png"))
    ]
    (together / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    for layout in (apart, together):
        data = load(image_folder, layout, CPU)
        assert (data.train.classes, data.val.classes) == (expected.train.classes, expected.val.classes)
        assert torch.equal(data.test.images, expected.test.images) and data.notes == ()
    assert data.test.names[0] == "test/p07/p07_0001.png"
    torn = apart / "validation" / "p05_0002.png"
    torn.write_bytes(b"x")
    renamed = apart.rename(tmp_path / "renamed")
    with pytest.raises(ValueError, match=r"validation/metadata.csv: line 3: .*p05_0002.png: not an im"):
        load(image_folder, renamed, CPU)
    (renamed / "test" / "metadata.csv").unlink()
    with pytest.raises(ValueError, match=r"renamed/test: has no metadata.csv, which the folders besid"):
        load(image_folder, renamed, CPU)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (("train", "val"), "no test part: 20% of the classes"),
        (("Training", "testing"), "no validation part"),
        (("train",), "no test part"),
    ],
)
def test_parts_that_are_not_there_are_split_off_and_said(folder_of, there, missing):
    for number, part in enumerate(there):
        root = folder_of(f"parts/{part}", people=8 - 3 * number, first=10 * number).parent
    data = load(image_folder, root, CPU, val_fraction=0.3)
    classes = [set(split.classes) for split in (data.train, data.val, data.test)]
    assert sum(map(len, classes)) == len(set.union(*classes)) == 8 + 5 * (len(there) - 1)
    assert all(len(names) >= 2 for names in classes) and missing in "; ".join(data.notes)


def test_a_class_may_be_called_train_and_a_table_without_labels_is_said(folder_of):
    root = folder_of("things")
    (root / "p03").rename(root / "train")
    (root / "metadata.csv").write_text("file_name,text\np01/p01_0001.png,a bus\n")
    data = load(image_folder, root, CPU)
    assert "train" in data.train.classes + data.test.classes
    assert "metadata.csv: not used, has no columns file_name and label" in data.notes[0]
    (root / "metadata.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"has metadata.csv and metadata.jsonl: which is it\?"):
        load(image_folder, root.rename(root.with_name("other")), CPU)


def test_images_in_eval_beside_train_are_asked_about_in_tables_too(folder_of):
    folder_of("parts/train", people=5)
    root = folder_of("parts/eval", people=2, first=5).parent
    for part in ("train", "eval"):
        flat(root / part)
    rows = [
        f"{part}/{line}"
        for part in ("train", "eval")
        for line in (root / part / "metadata.csv").read_text().splitlines()[1:]
    ]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    with pytest.raises(
        ValueError, match=r"metadata.csv: eval looks like a split; splits are train, val"
    ):
        load(image_folder, root, CPU)
