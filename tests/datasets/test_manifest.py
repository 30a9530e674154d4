"""Images that a table lists: every kind of table, and what is wrong in one named with its line."""

import json
import os
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import load, manifest
from src.errors import UserError
from src.run.lifecycle import train_run
from src.run.load import load_trained
from tests.conftest import FAST, ROOT, summary_of

CPU = torch.device("cpu")


@pytest.fixture
def listed(folder_of):
    """listed(suffix, columns=…) writes labels<suffix> beside the images of eight people, four each, and
    returns it; `change(rows)` may change its rows before."""
    root = folder_of("faces")
    rows = [
        {"path": str(p.relative_to(root)), "label": p.parent.name} for p in sorted(root.rglob("*.png"))
    ]

    def write(suffix: str = ".csv", change=lambda rows: rows):
        table = root / f"labels{suffix}"
        found = change([dict(row) for row in rows])
        names = list(dict.fromkeys(name for row in found for name in row))
        if suffix == ".jsonl":
            table.write_text("\n".join(map(json.dumps, found)))
        elif suffix == ".parquet":
            pa = pytest.importorskip("pyarrow")
            import pyarrow.parquet

            pyarrow.parquet.write_table(pa.Table.from_pylist(found), table)
        else:
            mark = {".tsv": "\t", ".csv": ","}[suffix]
            lines = [mark.join(names), *(mark.join(str(row.get(n, "")) for n in names) for row in found)]
            table.write_text("\n".join(lines) + "\n")
        return table

    return write


def read(table, **options):
    return load(manifest, table.parent, CPU, file=table.name, **options)


def names_of(data) -> dict[str, list]:
    parts = {"train": data.train, "val": data.val, "test": data.test}
    return {part: split.names.tolist() for part, split in parts.items() if split is not None}


def test_from_the_one_command_to_a_finished_run(listed, composed, tmp_path, caplog):
    def with_age(rows):
        return [row | {"age": 7} for row in rows]

    table = listed(".csv", with_age)
    caplog.set_level("INFO")
    config = composed(*FAST, "dataset=manifest", f"dataset.file={table}", "batch_size=8")
    train_run(config, tmp_path / "run")
    summary = summary_of(tmp_path / "run")
    assert summary["state"] == "finished" and summary["counts"]["test"]["classes"] == 2
    assert f"{table}: columns that are not used: age" in caplog.text
    trained, other = load_trained(tmp_path / "run"), table.with_name("other.csv")
    other.write_text("\n".join(table.read_text().splitlines()[:17]))
    assert trained.owns(config)
    assert not trained.owns(config.replace(dataset={"file": str(other)}))
    kept = np.load(tmp_path / "run" / "embeddings.npz")
    assert all(name.split("/")[0] == kept["classes"][label]
               for name, label in zip(kept["names"], kept["labels"], strict=True))  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_table_gives_the_same_data_set(listed, suffix):
    assert read(listed(suffix)).fingerprint == read(listed()).fingerprint


def test_a_table_draws_as_a_folder_with_the_same_images_does(listed):
    from src.datasets import image_folder

    table = listed()
    for split in ("open_set", "closed_set"):
        of_table = read(table, split=split, val_fraction=0.25)
        of_folder = load(image_folder, table.parent, CPU, split=split, val_fraction=0.25)
        assert names_of(of_table) == names_of(of_folder)
        assert torch.equal(of_table.train.images, of_folder.train.images)


def test_folds_are_dealt_of_a_table_and_lines_are_still_named(listed):
    def parted(rows):
        return [row | {"split": "train" if row["label"] < "p05" else "val"} for row in rows]

    table = listed(".csv", parted)
    tested = [read(table, folds=4, fold=fold, memory=0) for fold in range(4)]
    classes = [name for data in tested for name in data.test.classes]
    assert sorted(classes) == [f"p{k:02d}" for k in range(8)]
    assert all(data.notes == () for data in tested)
    for row, name in enumerate(tested[1].test.names):
        line = next(k for k, text in enumerate(table.read_text().splitlines(), 1) if name in text)
        assert f"line {line}: " in tested[1].test.images.called(row)


def test_a_split_column_is_obeyed_and_what_it_lacks_is_drawn_and_said(listed):
    def parted(*parts):
        return lambda rows: [row | {"split": parts[int(row["label"][1:]) % len(parts)]} for row in rows]

    data = read(listed(".csv", parted("train", "train", "validation", "test")))
    assert [s.classes for s in (data.val, data.test)] == [("p02", "p06"), ("p03", "p07")]
    assert data.notes == ()
    data = read(listed(".tsv", parted("Train", "train", "val")))
    assert len(data.train.classes) + len(data.test.classes) == 6 and data.val.classes == ("p02", "p05")
    assert "has no test part: 20% of the classes to train on became one" in data.notes[0]
    data = read(listed(".jsonl", parted("train", "test")), val_fraction=0.3)
    assert len(data.val.classes) == 2 and "has no validation part" in data.notes[0]


def test_absolute_paths_and_paths_out_of_the_folder_are_read(listed, tmp_path):
    table = listed()
    lines = table.read_text().splitlines()
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "labels.csv"
    relative = [f"../faces/{line}" for line in lines[1:17]]
    absolute = [f"{table.parent}/{line}" for line in lines[17:]]
    moved.write_text("\n".join([lines[0], *relative, *absolute]))
    assert torch.equal(read(moved).test.images, read(table).test.images)


def replaced(row: int, **values):
    return lambda rows: [*rows[:row], rows[row] | values, *rows[row + 1 :]]


def with_splits(row: int, split: str):
    return lambda rows: replaced(row, split=split)([r | {"split": "train"} for r in rows])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced(5, path="p09/none.png"), r"line 7: .*faces/p09/none.png: .*: No such file"),
        (replaced(5, path="../../x.png"), r"line 7: .*x.png: .*: No such file"),
        (replaced(5, path="p01"), r"line 7: .*p01: not an image .*a folder, pipe"),
        (replaced(5, path=""), r"line 7 has no path"),
        (replaced(5, label=""), r"line 7 has no label"),
        (replaced(5, path="p00/../p00/p00_0001.png"), r"line 7 names .*, as line 2 does"),
        (replaced(5, label="a\x1b[2J"), r"line 7: label 'a\\x1b\[2J' has characters"),
        (replaced(5, label="only"), r"class only has a single sample \(p01/p01_0002.png\).*min_images"),
        (with_splits(5, "tset"), r"line 7: split 'tset' is none of train, val and test"),
        (with_splits(5, ""), r"line 7 has no split"),
        (lambda rows: [], r"has no rows"),
        (lambda rows: [{"image": r["path"], "label": r["label"]} for r in rows],
         r"^path_column=path: no such column in .*, whose columns are image, label"),
        (lambda rows: [{"path": r["path"], "who": r["label"]} for r in rows],
         r"^label_column=label: no such column in .*, whose columns are path, who"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_named_with_its_line(listed, change, said):
    with pytest.raises(ValueError, match=said) as caught:
        read(listed(".csv", change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"path,label\na.png,b,c\n", r"line 2 has 3 values, the header 2 columns"),
        ("x.csv", b"path,path\na.png,b\n", r"line 1 has twice the column 'path'"),
        ("x.csv", b"path,\na.png,b\n", r"no such column in .*are path, column 2 without a name"),
        (
            "x.csv",
            b"path,label\na.png,b\nc.png,d\n",
            r"line 2: .*a.png: not an .*and 1 more, all there are.: No such file or directory$",
        ),
        (
            "x.csv",
            b"path,label\na\\b.png,b\n",
            r"line 2: a\\b.png is a path of Windows: write / for \\,",
        ),
        (
            "x.csv",
            b"path,label\nD:/b.png,b\n",
            r"line 2: D:/b.png is a path of Windows: write / for \\,",
        ),
        ("x.csv", b"path,label\na\xe9.png,b\n", r"line 2 is not UTF-8"),
        ("x.csv", b'path,label\n"a.png,b\n', r"line \d: unexpected end of data"),
        ("x.csv", b"", r"has no rows"),
        ("x.jsonl", b'{"path": "a.png"}\n{"path"', r"line 2 is not JSON"),
        ("x.jsonl", b'{"path": "a.png"}\n[1]\n', r"line 2 is not a JSON object"),
        ("x.jsonl", b'{"path": ["a"], "label": 1}', r"line 1: path is \"\['a'\]\", expected text"),
        ("x.txt", b"a.png b", r"not a table that is read here; those end in .csv"),
        ("x.parquet", b"PAR1", r"not a Parquet file|pyarrow is missing, pip install"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load(manifest, tmp_path, CPU, file=name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_semicolons_quotes_and_byte_order_marks_of_spreadsheets_are_understood(listed):
    table = listed()
    text = table.read_text().replace(",", ";").replace("p00/p00_0001.png", '"p00/p00_0001.png"')
    (table.parent / "sheet.csv").write_text("\ufeff" + text.replace("\n", "\r\n"))
    assert read(table.parent / "sheet.csv").fingerprint == read(table).fingerprint


@pytest.mark.parametrize("kind", ["index", "commas", "sep"])
def test_columns_without_a_name_and_a_line_that_says_the_delimiter_are_understood(listed, kind):
    table = listed()
    header, *lines = table.read_text().splitlines()
    text, unused = {
        "index": ([f",{header}", *(f"{k},{line}" for k, line in enumerate(lines))], "column 1 without"),
        "commas": ([f"{line},," for line in (header, *lines)], "column 3 without a name, column 4 w"),
        "sep": (["sep=;", *(line.replace(",", ";") for line in (header, *lines))], None),
    }[kind]
    sheet = table.with_name("sheet.csv")
    sheet.write_text("\r\n".join(text))
    data = read(sheet)
    assert data.fingerprint == read(table).fingerprint
    assert f"not used: {unused}" in data.notes[0] if unused else data.notes == ()


def test_a_name_may_have_a_backslash_where_a_file_is_called_so(listed):
    table = listed()
    (table.parent / "p01" / "p01_0001.png").rename(table.parent / "a\\b.png")
    table.write_text(table.read_text().replace("p01/p01_0001.png", "a\\b.png"))
    assert len(read(table).train) == 24


def test_numbers_are_classes_and_need_no_order(listed):
    def numbered(rows):
        return [row | {"label": float(3 * int(row["label"][1:]))} for row in rows]

    data = read(listed(".jsonl", numbered), split="closed_set")
    assert set(data.train.classes) == {str(3 * k) for k in range(8)}


def test_broken_and_missing_images_are_named_or_left_out(listed):
    table = listed(".csv", replaced(5, path="p01/none.png"))
    torn = table.parent / "p02" / "p02_0001.png"
    torn.write_bytes(torn.read_bytes()[:60])
    data = read(table, skip_broken=True)
    assert sorted(data.skipped) == ["p01/none.png", "p02/p02_0001.png"]
    Image.new("L", (10, 12)).save(table.parent / "p01" / "none.png")
    for memory in (4, 0):  # in memory, and read batch by batch: both are looked at before training
        with pytest.raises(ValueError, match=r"line 10: .*p02_0001.png: not an image.*skip_broken=true"):
            read(table, memory=memory)


@pytest.mark.parametrize("typed", ["inside", "beside", "whole"])
def test_a_table_and_its_images_have_one_fingerprint_in_any_place(listed, typed, tmp_path):
    def written(root):
        above = {"inside": "", "beside": "../faces/", "whole": f"{root}/"}[typed]
        table = listed(".csv", lambda rows: [row | {"path": above + row["path"]} for row in rows])
        return read(table).fingerprint

    root = listed().parent
    before = written(root)
    for folder in root.iterdir():  # the same table beside the same images, elsewhere
        (tmp_path / "moved" / "faces").mkdir(parents=True, exist_ok=True)
        folder.rename(tmp_path / "moved" / "faces" / folder.name)
    root.rmdir()
    root.symlink_to(tmp_path / "moved" / "faces")
    table = tmp_path / "moved" / "faces" / "labels.csv"
    if typed == "whole":
        table.write_text(table.read_text().replace(f"{root}/", f"{table.parent}/"))
    assert read(table).fingerprint == before


def test_a_file_that_is_not_given_or_not_there_is_said_at_once(listed, composed, tmp_path):
    with pytest.raises(UserError, match=r"^dataset.file: has no value, give one, as in dataset.file="):
        composed("dataset=manifest")
    table = listed()
    os.rename(table, table.with_suffix(".old"))
    config = composed(*FAST, "dataset=manifest", f"dataset.file={table}")
    with pytest.raises(UserError, match=rf"^dataset.file={table}: no such file"):
        train_run(config, tmp_path / "run")


def test_every_command_of_the_guide_is_one_that_can_be_typed(composed):
    text = (ROOT / "docs" / "your-data.md").read_text()
    commands = re.findall(r"python -m src.train (dataset=[^`#\n]*)", text)
    assert len(commands) >= 12
    for command in commands:
        composed(*shlex.split(command.replace("<folder>", "folder")))
