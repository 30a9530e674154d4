"""Run folders from strangers, compared: nothing of the reader's own gets into them, and all ends."""

import csv
import json
import os
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest

from src import foreign
from src.analysis import compare_sweeps, rank_runs, read_runs
from src.analysis.figures import read_spheres
from src.durable import harmless
from src.errors import UserError
from src.foreign import MOST_YAML_BYTES, array_shape, read_arrays, read_json, read_yaml
from src.run.folder import RunFolder
from tests.conftest import config_of

from .conftest import edit

SECRET = "${oc.env:SECRET_OF_THE_READER}"


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """unfinished(text) makes a run folder that ended before its summary; `text` is what it says of its
    configuration."""
    monkeypatch.setenv("SECRET_OF_THE_READER", "hunter2")

    def write(text: str | None = None, **changes):
        folder = tmp_path / "sweep" / "stranger"
        (folder / ".hydra").mkdir(parents=True)
        config = config_of("logger=csv").plain() | changes
        text = json.dumps({"identity": "f" * 16, "config": config}) if text is None else text
        (folder / ".hydra" / "run.json").write_text(text, encoding="utf-8")
        return folder

    return write


def test_the_readers_environment_is_no_part_of_a_strangers_run(unfinished, make, tmp_path):
    plain = config_of("logger=csv").plain()
    spoiled = {
        "dataset": plain["dataset"] | {"root": f"{SECRET[:-1]},data}}", "odd": [SECRET, f"x{SECRET}y"]},
        "objective": f"${{oc.decode:{SECRET}}}",
        "choices": plain["choices"] | {"model": "${hydra:runtime.cwd}", "dataset": SECRET},
    }
    folder = unfinished(**spoiled)
    (folder / ".hydra" / "overrides.yaml").write_text(f"- seed={SECRET}\n- '{SECRET}'\n")
    for seed in range(2):
        edit(make("arcface", 0.3, seed, 0.9), lambda s: s["config"].update(dataset=spoiled["dataset"]))
        edit(make("softmax", None, seed, 0.8), lambda s: s["config"].update(dataset=spoiled["dataset"]))
    runs, problems = read_runs([tmp_path / "sweep"])
    stranger = next(run for run in runs if run.name == "stranger")
    assert stranger.state == "unfinished" and stranger.config.dataset.root == spoiled["dataset"]["root"]
    assert stranger.config.name("model") == "${hydra:runtime.cwd}" and not problems
    compare_sweeps([tmp_path / "sweep"], "accuracy")
    written = [path for path in (tmp_path / "sweep" / "comparison").iterdir() if path.is_file()]
    assert {"report.html", "results.csv"} <= {path.name for path in written}
    assert not [path.name for path in written if b"hunter2" in path.read_bytes()]
    assert b"SECRET_OF_THE_READER" in (tmp_path / "sweep" / "comparison" / "report.html").read_bytes()


def test_a_configuration_that_is_none_is_skipped_by_name(unfinished, make, tmp_path):
    make("arcface", 0.3, 0, 0.9)
    plain = config_of("logger=csv").plain()
    other = json.dumps({"identity": "f" * 16, "config": plain | {"device": "cpu"}})
    for text, said in (
        ('{"a":' + "[" * 100_000, "no run has begun in it"),
        ("[1, 2]", "no run has begun in it"),
        ("", "no run has begun in it"),
        ("\0", "no run has begun in it"),
        (json.dumps({"identity": "f" * 16}), "no run has begun in it"),
        (json.dumps({"config": plain}), "no run has begun in it"),
        (json.dumps({"identity": "f" * 16, "config": 5}), "run.json is not that of a run: "),
        (other, "run.json is not that of a run: device: "),
    ):
        folder = unfinished(text)
        runs, problems = read_runs([tmp_path / "sweep"])
        assert len(runs) == 1 and len(problems) == 1, text[:80]
        assert "stranger: skipped" in problems[0] and "\n" not in problems[0], problems
        assert said in problems[0], problems
        shutil.rmtree(folder)


def test_files_that_would_expand_or_run_are_not_read(tmp_path):
    path = tmp_path / "multirun.yaml"
    for text, said in (
        ("a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(3)), "aliases"),
        ("a: " + "[" * 100_000, "nested more than 64 levels"),
        ("#" * 2 * MOST_YAML_BYTES, "2,097,152 bytes, more than 1,048,576"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_yaml(path)
    (tmp_path / "x.json").write_text("[" + "[]," * 10**6 + "0]")
    with pytest.raises(ValueError, match="more than 1,000,000 lists and mappings"):
        read_json(tmp_path / "x.json")
    (tmp_path / "metrics.csv").write_text("epoch\n" + "1\n" * 10**6)
    with pytest.raises(ValueError, match="more than 1,000,000 rows"):
        RunFolder(tmp_path).rows()
    path.write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        read_yaml(path)
    path.write_text(f"a: {SECRET}")
    assert read_yaml(path) == {"a": SECRET}


CHANGES = [
    {"classes": 5},
    {"classes": [1, None]},
    {"config": None},
    {"config": []},
    {"config": {"margin": 1}},
    {"dealt": {"a": json.loads("[" * 200 + "]" * 200)}},
    {"code": {"commit": True, "dirty": False, "sources": "c"}},
    {"metrics": {"accuracy": 10**400}},
    {"metrics": {"accuracy": True, "odd": []}},
    {"metrics": 5},
    {"validation": 5},
    {"validation": {"accuracy": "high"}},
    {"code": 5},
    {"code": {"sources": [1]}},
    {"seconds": "long"},
    {"error": {"a": 1}, "state": "failed"},
    {"state": 5},
    {"state": "=cmd"},
]


def test_summaries_of_other_kinds_and_rows_that_are_none_do_not_end_the_comparison(make, tmp_path):
    for seed in range(2):
        make("softmax", None, seed, 0.8)
    for number, change in enumerate(CHANGES):
        odd = make("arcface", 0.3, number, 0.9) / "summary.json"
        odd.write_text(json.dumps(json.loads(odd.read_text()) | change))
    rows = ["1,0.5,\0", "1," + "9" * 200_000, "1,nan,inf", "1,0.5,0.5\n1,0.5", "\0\0\0\0", "=1,@2,+3"]
    for number, row in enumerate(rows):
        of = make("cosface", 0.1 * number, 0, 0.9 + number / 100)
        (of / "metrics.csv").write_text(f"epoch,loss,accuracy\n{row}\n")
    comparison = compare_sweeps([tmp_path / "sweep"])
    assert len(comparison.settings) == 1 + len(rows)
    skipped = [line for line in comparison.problems if ": skipped, summary.json" in line]
    assert len(skipped) == len(comparison.problems) == len(CHANGES)
    assert not any("\n" in line for line in skipped)


def test_pipes_in_a_run_folder_are_not_waited_for(make, unfinished, tmp_path):
    make("softmax", None, 0, 0.8)
    for margin, name in ((0.1, "summary.json"), (0.2, "metrics.csv")):
        (make("arcface", margin, 0, 0.9) / name).unlink()
        os.mkfifo(tmp_path / "sweep" / f"loss=arcface,margin={margin},scale=64,seed=0" / name)
    (unfinished() / ".hydra" / "run.json").unlink()
    os.mkfifo(tmp_path / "sweep" / "stranger" / ".hydra" / "run.json")
    comparison = compare_sweeps([tmp_path / "sweep"])
    assert len(comparison.settings) == 2
    assert len([line for line in comparison.problems if "a folder, pipe, socket or device" in line]) == 1
    assert len([line for line in comparison.problems if "no run has begun in it" in line]) == 1


def test_a_summary_nested_a_hundred_thousand_deep_is_skipped(make, tmp_path):
    make("softmax", None, 0, 0.8)
    (make("arcface", 0.3, 0, 0.9) / "summary.json").write_text('{"a":' + "[" * 100_000)
    runs, problems = read_runs([tmp_path / "sweep"])
    assert len(runs) == 1 and "skipped" in problems[0]


def test_a_picture_that_declares_too_many_pixels_and_a_pipe_are_left_out_of_the_page(make, tmp_path):
    make("softmax", None, 0, 0.8)
    plots = make("arcface", 0.3, 0, 0.9) / "plots"
    plots.mkdir()
    header = b"IHDR" + struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (plots / "confusion.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    os.mkfifo(plots / "neighbours.png")
    compare_sweeps([tmp_path / "sweep"])
    page = (tmp_path / "sweep" / "comparison" / "report.html").read_text()
    assert "finds nearest to them" not in page and "takes for which" not in page


def test_a_comparison_that_is_a_link_is_not_written_through(make, tmp_path):
    make("softmax", None, 0, 0.8)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.csv").write_text("precious")
    (tmp_path / "sweep" / "comparison").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match=r"comparison: a link to .*mine; remove it to write here"):
        compare_sweeps([tmp_path / "sweep"])
    (tmp_path / "sweep" / "comparison").unlink()
    os.mkfifo(tmp_path / "sweep" / "comparison")
    with pytest.raises(UserError, match="comparison: not a folder; remove it to write here"):
        compare_sweeps([tmp_path / "sweep"])
    (tmp_path / "sweep" / "comparison").unlink()
    (tmp_path / "sweep" / "comparison").mkdir()
    beside = tmp_path / "sweep" / "comparison" / ".unfinished.results.csv"
    beside.symlink_to(tmp_path / "mine" / "results.csv")
    (tmp_path / "sweep" / "comparison" / "best").mkdir()
    comparison = compare_sweeps([tmp_path / "sweep"])
    assert (tmp_path / "mine" / "results.csv").read_text() == "precious"
    assert any("best: in the place of the link" in line for line in comparison.problems)


def test_a_terminal_gets_no_control_characters_from_names_and_texts(make, tmp_path, capsys):
    bell = "\x1b]0;pwned\x07\x1b[2J\x9b31m"
    make("softmax", None, 0, 0.8)
    make("arcface", 0.3, 0, 0.9, state="failed", error=f"no{bell}")
    edit(make("cosface", 0.3, 0, 0.9), lambda s: s["config"]["choices"].update(loss=f"cos{bell}"))
    make("arcface", 0.3, 1, 0.9, name=f"a{bell}")
    (tmp_path / "sweep" / f"b{bell}").mkdir()
    compare_sweeps([tmp_path / "sweep"])
    said = capsys.readouterr().out
    assert "cos\ufffd]0;pwned\ufffd" in said and said.count("skipped, control characters") == 2
    assert all(character.isprintable() or character == "\n" for character in said)


def npz(path, arrays: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)


def npy(shape, kind: str = "<f4", content: bytes = b"") -> bytes:
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


FORGED = {
    "expands": {"embeddings": npy((2**19, 3), content=bytes(2**23))},
    "declares more": {"embeddings": npy((2**40, 3), content=bytes(120))},
    "objects": {"embeddings": npy((4, 3), "|O", b"\x80\x04N.")},
    "text": {"embeddings": npy((4, 3), "<U1", bytes(48))},
    "no array": {"embeddings": b"x"},
    "odd names": {"other": npy((4, 3), content=bytes(48))},
    "one dimension": {"embeddings": npy((12,), content=bytes(48))},
    "labels of floats": {
        "embeddings": npy((4, 3), content=bytes(48)),
        "labels": npy((4,), content=bytes(16)),
        "prototypes": npy((2, 3), content=bytes(24)),
    },
    "labels out of range": {
        "embeddings": npy((4, 3), content=bytes(48)),
        "prototypes": npy((2, 3), content=bytes(24)),
        "labels": npy((4,), "<i8", struct.pack("<4q", 0, 1, 99, -7)),
    },
    "rows out of range": {
        "embeddings": npy((4, 3), content=bytes(48)),
        "prototypes": npy((2, 3), content=bytes(24)),
        "labels": npy((4,), "<i8", bytes(32)),
        "shown": npy((1,), "<i8", struct.pack("<q", 99)),
        "thumbnails": npy((1, 2, 2, 1), "|u1", bytes(4)),
    },
}


@pytest.mark.parametrize("name", [*FORGED, "torn", "bzip2", "a pipe", "a folder"])
def test_embeddings_that_are_none_or_expand_leave_out_the_sphere_only(name, make, tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "MOST_ARRAY_BYTES", 2**22)
    make("softmax", None, 0, 0.8)
    path = make("arcface", 0.3, 0, 0.9) / "embeddings.npz"
    whole = path.read_bytes()
    path.unlink()
    if name == "a pipe":
        os.mkfifo(path)
    elif name == "a folder":
        path.mkdir()
    elif name == "torn":
        path.write_bytes(whole[:-100])
    elif name == "bzip2":
        npz(path, {"embeddings": npy((4, 3), content=bytes(48))}, zipfile.ZIP_BZIP2)
    else:
        npz(path, FORGED[name])
    problems: list[str] = []
    spheres = read_spheres(rank_runs(*read_runs([tmp_path / "sweep"]), "accuracy").settings, problems)
    assert len(spheres) == 1  # the other's
    expected = [f"{path}: cannot be read, so its sphere is left out"]
    assert problems == ([] if name == "one dimension" else expected)  # which is no sphere


def test_arrays_are_read_as_numpy_writes_them(tmp_path):
    arrays = {"a": np.arange(12.0).reshape(4, 3), "b": np.arange(4), "c": np.array([["x"]])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        assert array_shape(tmp_path / "x.npz", "a") == (4, 3)
        read = read_arrays(tmp_path / "x.npz", "a", "b", "d")
        assert list(read) == ["a", "b"] and (read["a"] == arrays["a"]).all()


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1+1", "=cmd|'/c calc'!A1"]
)
def test_text_that_a_spreadsheet_would_compute_is_text(text):
    assert harmless(text).startswith("'") and harmless(text).replace("'", "") == text.replace("'", "")


def test_nor_does_one_compute_what_follows_a_semicolon_or_a_line():
    assert harmless("a; =1") == "a;' =1" and harmless("a\n=1") == "a\n'=1"


@pytest.mark.parametrize("text", ["arcface m=0.3", "", "multirun/x", "0.5", "a-b", "[1, -2]"])
def test_other_text_stays_as_it_is(text):
    assert harmless(text) == text


def test_no_cell_of_the_tables_is_a_formula(make, tmp_path):
    for seed in range(2):
        make("softmax", None, seed, 0.8)
        make("=HYPERLINK(1)", -0.25, seed, 0.9)
        make("=HYPERLINK(1)", 0.5, seed, 0.7)
    odd = make("arcface", 0.3, 0, 0.9, state="failed", error="-2+3+cmd|' /C calc'!A0")
    edit(odd, lambda s: s["config"]["optimizer"].update({"=key": "@value"}))
    edit(make("arcface", 0.3, 1, 0.9), lambda s: s["config"]["optimizer"].update({"=key": "@value"}))
    make("arcface", 0.3, 2, 0.9)
    compare_sweeps([tmp_path / "sweep"])
    for name in ("results.csv", "summary.csv"):
        with open(tmp_path / "sweep" / "comparison" / name, newline="") as file:
            table = list(csv.reader(file))
        cells = [cell for row in table for cell in row if cell.startswith(tuple("=+@-"))]
        assert {cell for cell in cells if not cell.startswith("-") or not float(cell) < 0} == set()
    assert any("-0.25" in row for row in table)  # a number
