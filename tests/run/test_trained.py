"""A finished run is used: evaluated on other data, embeds folders, is handed out in other formats."""

import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from src import embed, evaluate, export
from src.analysis import compare_sweeps
from src.analysis.winner import next_steps
from src.config import Config
from src.config.tree import Device
from src.errors import UserError
from src.run import export as exporting
from src.run.figures import draw_run
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.load import load_trained
from tests.conftest import FAST, ROOT, config_of, summary_of

CPU = Device(kind="cpu", threads=1)


def configured(*overrides: str) -> Config:
    return config_of(*FAST, *overrides)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Twelve people of six grey images, each person a pattern of their own; pairs of the first two."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    for person in range(12):
        (root / f"p{person:02d}").mkdir()
        pattern = rng.integers(0, 200, (12, 10))
        for image in range(1, 7):
            pixels = (pattern + rng.integers(0, 50, (12, 10))).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"p{person:02d}" / f"p{person:02d}_{image:04d}.png")
    lines = ["2\t2"]
    for first in (1, 3):
        lines += [f"p00\t{first}\t{first + 1}", f"p01\t{first}\t{first + 1}"]
        lines += [f"p00\t{first}\tp01\t{first}", f"p00\t{first + 1}\tp01\t1"]
    (root / "pairs.txt").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def run_folder(people, tmp_path_factory):
    """A short run on them, an open set by class, with the convolutions of the default model."""
    folder = tmp_path_factory.mktemp("open_set")
    data = ("dataset=image_folder", f"dataset.root={people}", "batch_size=8")
    train_run(configured(*data, "model=small_cnn", "model.width=4", "neck.norm=true"), folder)
    return folder


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    train_run(configured("loss=cosface"), folder)
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """call(embed, "run", …) runs an entry point's main: (what it printed, the line it ended with)."""

    def of(module, *arguments) -> tuple[str, str | None]:
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        ended = None
        try:
            module.main()
        except SystemExit as exit_with:
            ended = exit_with.code
        return capsys.readouterr().out, ended

    return of


def metrics(folder) -> dict:
    return summary_of(folder)["metrics"]


@pytest.mark.parametrize("which", ["run_folder", "digits_run"])
def test_evaluating_a_run_again_gives_its_own_numbers(which, request, call, tmp_path):
    folder = request.getfixturevalue(which)
    out, ended = call(evaluate, folder, "device=cpu", "device.threads=1", "--out", tmp_path / "again")
    assert ended is None and metrics(tmp_path / "again") == metrics(folder)
    assert (tmp_path / "again" / "plots" / "curves.png").exists()
    name = "accuracy" if which == "digits_run" else "map_at_r"
    assert f"{name} " in out and f"{metrics(folder)[name]:.4f}" in out
    assert "other classes" not in out  # of the digits all are trained on, of the others few are tested
    kept, again = (np.load(f / "embeddings.npz") for f in (folder, tmp_path / "again"))
    assert sorted(kept) == sorted(again)
    for key in kept:
        np.testing.assert_array_equal(kept[key], again[key])


def test_a_run_is_rebuilt_from_its_folder_alone(run_folder, people, tmp_path):
    """Moved, without Hydra's files, its data gone: the checkpoint is enough."""
    shutil.copytree(
        run_folder, tmp_path / "moved", ignore=lambda _, names: set(names) - {"checkpoint.pt"}
    )
    run = load_trained(tmp_path / "moved", CPU)
    x = torch.randn(3, 1, 12, 10)
    assert torch.equal(run.backbone(x), load_trained(run_folder, CPU).backbone(x))
    assert not run.backbone.training and not run.head.training and len(run.classes) == 8
    logits = run.head.logits(run.backbone(x))
    assert logits.shape == (3, 8)


def test_a_run_is_evaluated_on_pairs(run_folder, people, call, tmp_path):
    said = ("dataset=pairs", f"dataset.root={people}", "--out", tmp_path / "pairs")
    _, ended = call(evaluate, run_folder, *said)
    assert ended.startswith("evaluation=verification: class p00 of dataset=pairs is in the ")
    first, second = np.load(run_folder / "embeddings.npz")["classes"]
    text = (people / "pairs.txt").read_text().replace("p00", first).replace("p01", second)
    (people / "tested.txt").write_text(text, encoding="utf-8-sig")
    out, ended = call(evaluate, run_folder, *said, "dataset.pairs=tested.txt")
    assert ended is None and "verification on" in out and "too few pairs" in out
    found = metrics(tmp_path / "pairs")
    assert set(found) == {"auc", "eer"}
    kept = np.load(tmp_path / "pairs" / "embeddings.npz")
    at = {name: x / np.linalg.norm(x) for name, x in zip(kept["names"], kept["embeddings"], strict=True)}
    pairs = [line.split("\t") for line in text.splitlines()[1:]]
    cosines = []
    for name, i, *other, j in pairs:
        second = other[0] if other else name
        cosines.append(at[f"{name}/{name}_000{i}.png"] @ at[f"{second}/{second}_000{j}.png"])
    assert found["auc"] == pytest.approx(roc_auc_score([len(pair) == 3 for pair in pairs], cosines))


def test_a_run_is_evaluated_on_a_bin_file_and_by_another_evaluation(run_folder, call, tmp_path):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(40):
        Image.fromarray(rng.integers(0, 255, (30, 30, 3)).astype(np.uint8)).save(tmp_path / "x.jpg")
        held.append((tmp_path / "x.jpg").read_bytes())
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((held, [True, False] * 10)))
    on_bin = ("dataset=pairs", f"dataset.root={tmp_path}", "dataset.pairs=lfw.bin")
    assert call(evaluate, run_folder, *on_bin, "--out", tmp_path / "bin")[1] is None
    assert not (tmp_path / "bin" / "plots" / "curves.png").exists()  # of other images
    assert 0 <= metrics(tmp_path / "bin")["auc"] <= 1
    other = ("evaluation=verification", "evaluation.pairs=100", "--out", tmp_path / "other")
    assert call(evaluate, run_folder, *other)[1] is None
    assert "auc" in metrics(tmp_path / "other") and "recall_at_1" not in metrics(tmp_path / "other")


def test_moved_images_are_tested_as_before(run_folder, people, call, tmp_path):
    shutil.copytree(people, tmp_path / "moved")
    out, ended = call(
        evaluate, run_folder, f"dataset.root={tmp_path / 'moved'}", "--out", tmp_path / "out"
    )
    assert ended is None and metrics(tmp_path / "out") == metrics(run_folder)
    assert "have the name of one that was trained on" not in out


@pytest.fixture(scope="module")
def closed_run(people, tmp_path_factory):
    """A closed set of its own copy of the people."""
    folder = tmp_path_factory.mktemp("closed_set")
    shutil.copytree(people, folder / "data")
    data = ("dataset=image_folder", f"dataset.root={folder / 'data'}", "batch_size=8")
    train_run(configured(*data, "evaluation=closed_set", "dataset.val_fraction=0.25"), folder / "run")
    return folder / "run"


def test_moved_images_stay_split_as_they_were_whatever_is_typed(closed_run, call, tmp_path):
    data = shutil.copytree(closed_run.parent / "data", tmp_path / "moved")
    for number, more in enumerate(([], ["dataset=image_folder"], ["evaluation=closed_set"])):
        out = tmp_path / f"out{number}"
        said, ended = call(evaluate, closed_run, f"dataset.root={data}", *more, "--out", out)
        assert ended is None and metrics(out) == metrics(closed_run) and "not known" not in said
        asked = summary_of(out)["config"]["dataset"]
        assert asked["test_fraction"] == 0.2 and asked["split"] == "closed_set"
    for typed in ("dataset.test_fraction=0.5", "dataset.split_seed=7", "dataset.min_images=2"):
        _, ended = call(evaluate, closed_run, f"dataset.root={data}", typed, "--out", tmp_path / "x")
        assert ended.startswith(f"{typed}: the run was trained with")
    # and so they are embedded
    embedded = ("image_folder", f"dataset.root={data}", "--out", tmp_path / "x.npz")
    assert call(embed, closed_run, *embedded)[1] is None
    own, made = (np.load(path) for path in (closed_run / "embeddings.npz", tmp_path / "x.npz"))
    assert made["names"].tolist() == own["names"].tolist()
    np.testing.assert_allclose(made["embeddings"], own["embeddings"], atol=1e-5)


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_that_changed_does_not_test_what_was_trained_on(closed_run, call, tmp_path, end):
    more = closed_run.parent / "data" / "p03" / "more.png"
    shutil.copy(more.with_name("p03_0001.png"), more)
    try:
        root = f"dataset.root={more.parents[1]}{end}"
        _, ended = call(evaluate, closed_run, root, "--out", tmp_path / "out")
    finally:
        more.unlink()
    assert re.match(r"dataset.root=.*: has changed since the run was trained", ended)


def test_of_another_folder_it_is_said_that_nothing_is_known(closed_run, call, tmp_path):
    data = shutil.copytree(closed_run.parent / "data", tmp_path / "new")
    shutil.copy(data / "p03" / "p03_0001.png", data / "p03" / "more.png")
    (data / "p04" / "torn.png").write_bytes(b"no")
    given = (f"dataset.root={data}", "dataset.skip_broken=true", "--out", tmp_path / "out")
    out, ended = call(evaluate, closed_run, *given)
    assert ended is None and "cannot tell whether" in out
    assert "closed_set on 73 images" in out and "1 file or class left out: p04/torn.png" in out
    assert summary_of(tmp_path / "out")["skipped"] == ["p04/torn.png"]


@pytest.mark.parametrize("module", [embed, evaluate, export])
def test_a_run_that_is_not_finished_says_so(module, digits_run, call, tmp_path):
    run = shutil.copytree(digits_run, tmp_path / "run")
    summary = summary_of(run)
    (run / "summary.json").write_text(json.dumps(summary | {"state": "diverged"}))
    more = ["digits"] if module is embed else ["--format", "torchscript"] if module is export else []
    out, ended = call(module, run, *more, "--out", tmp_path / "out")
    assert ended is None and f"{run} is diverged: this is its model after epoch 2 of 2" in out


@pytest.mark.parametrize("which", ["closed_run", "run_folder"])
def test_the_command_that_a_comparison_prints_measures_what_the_run_does(
    which, request, people, call, tmp_path, monkeypatch
):
    run = shutil.copytree(request.getfixturevalue(which), tmp_path / "run")
    for person in ("p03", "p04"):
        shutil.copytree(people / person, tmp_path / "new" / person)
    monkeypatch.chdir(tmp_path)
    comparison = compare_sweeps([run])
    typed = next(line for line in next_steps(comparison) if " -m src.evaluate " in line)
    words = shlex.split(typed.replace("<folder>", "new"))[3:]
    out, ended = call(evaluate, *words, "--out", "out")
    assert ended is None and set(metrics(tmp_path / "out")) == set(metrics(run)), out


def test_other_classes_are_no_closed_set(digits_run, people, call, tmp_path):
    shape = ("dataset.size=[8,8]", "evaluation=closed_set", "--out", tmp_path / "out")
    _, ended = call(evaluate, digits_run, "dataset=image_folder", f"dataset.root={people}", *shape)
    assert ended.startswith(
        "evaluation=closed_set: class p00 of dataset=image_folder was not trained on"
    )


def test_of_a_new_folder_every_class_is_tested(run_folder, people, call, tmp_path):
    for person in ("p00", "p01", "p02"):
        shutil.copytree(people / person, tmp_path / "new" / person)
    at = (f"dataset.root={tmp_path / 'new'}", "--out", tmp_path / "out")
    out, ended = call(evaluate, run_folder, *at)
    assert ended is None and "open_set on 18 images of 3 classes, image_folder" in out
    assert "of its classes have the name of one that was trained on" in out
    assert set(np.load(tmp_path / "out" / "embeddings.npz")["classes"]) == {"p00", "p01", "p02"}


def test_by_default_an_evaluation_lands_in_the_run_and_leaves_the_rest_alone(digits_run, call):
    before = {p: p.read_bytes() for p in digits_run.rglob("*") if p.is_file()}
    assert call(evaluate, digits_run)[1] is None
    after = {p: p.read_bytes() for p in digits_run.rglob("*") if p.is_file()}
    assert {p: after[p] for p in before} == before
    new = {p.relative_to(digits_run).parts[0] for p in set(after) - set(before)}
    assert new == {"evaluations"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss=cosface"], r"loss=cosface: a trained run takes dataset, evaluation, objective, device"),
        (["dataset=nothing"], r"dataset=nothing: choose one of"),
        (["dataset.root=/nowhere"], r"dataset.root=/nowhere: no such folder"),
        (["dataset=digits"], r"dataset=digits: has images 1×8×8, the model of .* wants 1×12×10"),
        (
            ["dataset.split_seed=1"],
            r"dataset.split_seed=1: the run was trained with 0, and may have seen",
        ),
        (["evaluation.protocol=foo"], r"evaluation.protocol=foo: expected one of"),
        (["device.precision=fp16"], r"device.precision=fp16: expected one of fp32, bf16, auto"),
        (["device.threads=abc"], r"device.threads=abc: expected an integer"),
        (["device.tf32=true"], r"device.tf32=true: does nothing on cpu"),
        (["dataset.colour=1"], r"dataset.colour=1: .*takes no such argument"),
        (["objective=accuracy"], r"objective=accuracy: choose one of recall_at_1"),
        (["evaluation=closed_set"], r"dataset.split=closed_set: the run was trained with open_set"),
        (["evaluation.pairs=3"], r"evaluation.pairs=3: expected an integer ≥ 10"),
        (["dataset.size=[64,64]"], r"dataset.size=\[64,64\]: the model was trained with \[12,10\]"),
        (["dataset.channels=3"], r"dataset.channels=3: the model was trained with 1"),
        (["dataset.root=["], r"dataset.root=\[: .*parsing"),
        (["dataset=null"], r"dataset=null: "),
        (["dataset=foo=bar"], r"dataset=foo=bar: .*odd characters go in quotes"),
    ],
)
def test_what_cannot_be_evaluated_is_named_in_one_line(run_folder, call, tmp_path, arguments, said):
    _, ended = call(evaluate, run_folder, *arguments, "--out", tmp_path / "out")
    assert isinstance(ended, str) and re.search(said, ended) and "\n" not in ended
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", [embed, evaluate, export])
def test_a_folder_without_a_run_and_a_broken_checkpoint_are_named(module, call, tmp_path):
    more = ["digits", "--out", tmp_path / "x.npz"] if module is embed else []
    _, ended = call(module, tmp_path, *more)
    assert ended == f"{tmp_path}: no run with a checkpoint.pt is there"
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    _, ended = call(module, tmp_path / "checkpoint.pt", *more)
    assert ended == f"{tmp_path / 'checkpoint.pt'}: a file; give the run's folder"
    _, ended = call(module, tmp_path, *more)
    assert ended.startswith(f"{tmp_path / 'checkpoint.pt'}: cannot be read (") and "\n" not in ended


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"epoch\n1\n", None, b'margin\n"%s"\n' % (b"[" * 99_999)]
)
def test_rows_that_are_none_cost_the_learning_curves_or_are_named(content, digits_run, call, tmp_path):
    folder = shutil.copytree(digits_run, tmp_path / "run")
    if content is None:
        (folder / "metrics.csv").unlink()
    else:
        (folder / "metrics.csv").write_bytes(content)
    said, ended = call(evaluate, folder)
    assert ended is None and "accuracy" in said
    with pytest.raises(UserError, match=str(folder)):
        draw_run(RunFolder(folder))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    torch.save({"config": Harmful()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint.pt: cannot be read"):
        load_trained(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_embedded_with_names_and_labels(run_folder, people, call, tmp_path):
    out, ended = call(embed, run_folder, people, "--out", tmp_path / "a" / "x.npz")
    assert ended is None and out.startswith("72 embeddings of 128 dimensions -> ")
    made = np.load(tmp_path / "a" / "x.npz")
    assert made["embeddings"].shape == (72, 128) and made["embeddings"].dtype == np.float32
    assert [made["classes"][label] for label in made["labels"]] == [n[:3] for n in made["names"]]
    # The same numbers as the run's own, for the images that it was tested on.
    own = np.load(run_folder / "embeddings.npz")
    rows = [list(made["names"]).index(name) for name in own["names"]]
    np.testing.assert_allclose(made["embeddings"][rows], own["embeddings"], atol=1e-5)


def test_a_data_set_is_embedded_by_name(digits_run, call, tmp_path):
    out, ended = call(embed, digits_run, "digits", "--split", "validation", "--out", tmp_path / "x.npz")
    assert ended is None and out.startswith("142 embeddings of 3 dimensions")


@pytest.mark.parametrize(
    ("source", "more", "said"),
    [
        ("nothing", [], r"'nothing': neither an image or a folder nor a data set; those are agedb, "),
        ("", [], r"'': neither an image or a folder nor a data set"),
        (".", [], r"x/broken.png: not an image that can be read.*--skip-broken leaves such files out"),
        (".", ["dataset.size=3"], r"dataset.size=3: this is for a data set, but .* is of images"),
        ("empty", [], r"empty: no image is in it"),
    ],
)
def test_what_cannot_be_embedded_is_named(run_folder, call, tmp_path, source, more, said):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "broken.png").write_bytes(b"no")
    (tmp_path / "empty").mkdir()
    at = tmp_path / source if source in (".", "empty") else source
    _, ended = call(embed, run_folder, at, *more, "--out", tmp_path / "x.npz")
    assert re.search(said, ended) and "\n" not in ended and not (tmp_path / "x.npz").exists()


def test_what_is_broken_is_left_out_by_wish_and_named(run_folder, call, tmp_path):
    for name, mode in (("a", "L"), ("b", "RGB")):
        Image.new(mode, (40, 50)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no")
    out, ended = call(embed, run_folder, tmp_path, "--skip-broken", "--out", tmp_path / "x.npz")
    assert ended is None and "2 embeddings" in out and f"1 left out: {tmp_path / 'c.png'}" in out


@pytest.mark.parametrize("module", [embed, export, evaluate])
def test_nothing_is_written_over(module, digits_run, call, tmp_path):
    (tmp_path / "there").write_text("mine")
    more = ["digits"] if module is embed else []
    _, ended = call(module, digits_run, *more, "--out", tmp_path / "there")
    assert "exists already and would be overwritten" in ended
    assert (tmp_path / "there").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


PIXELS = torch.randint(256, (7, 1, 12, 10), generator=torch.Generator().manual_seed(1)).float()


def expected(run_folder) -> tuple[torch.Tensor, dict]:
    """What the checkpoint's weights make of PIXELS, normalised by hand; the checkpoint."""
    saved = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    mean, std = (torch.tensor(saved["normalisation"][key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return load_trained(run_folder, CPU).backbone((PIXELS - mean) / std), saved


def test_onnx_takes_pixels_and_says_what_it_is(run_folder, call, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    out, ended = call(export, run_folder, "--format", "onnx", "--out", tmp_path / "m.onnx")
    assert ended is None and "embeddings differ from the model's by" in out
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    embeddings, saved = expected(run_folder)
    for count in (1, 7):
        found = session.run(None, {"pixels": PIXELS[:count].numpy()})[0]
        np.testing.assert_allclose(found, embeddings[:count], atol=1e-4)
    about = json.loads(session.get_modelmeta().custom_metadata_map["angular_penalty"])
    assert about["classes"] == list(saved["classes"]) and about["image_shape"] == [1, 12, 10]
    assert about["mean"] == saved["normalisation"]["mean"] and about["embedding_dim"] == 128


def test_torchscript_needs_torch_alone(run_folder, call, tmp_path):
    assert call(export, run_folder, "--format", "torchscript", "--out", tmp_path / "m.pt")[1] is None
    files = {"angular_penalty.json": ""}
    model = torch.jit.load(tmp_path / "m.pt", _extra_files=files)
    torch.testing.assert_close(model(PIXELS), expected(run_folder)[0], atol=1e-5, rtol=0)
    assert json.loads(files["angular_penalty.json"])["classes"][0].startswith("p")


def test_safetensors_holds_the_weights_and_what_to_do_with_them(run_folder, call, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    file = tmp_path / "m.safetensors"
    assert call(export, run_folder, "--format", "safetensors", "--out", file)[1] is None
    with safetensors.safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["angular_penalty"])
        held = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118, it is no dict
    _, saved = expected(run_folder)
    assert set(held) == set(saved["backbone"]) and about["std"] == saved["normalisation"]["std"]
    assert all(torch.equal(held[key], value) for key, value in saved["backbone"].items())


def test_an_export_that_differs_is_refused_and_not_left(digits_run, monkeypatch, tmp_path):
    def writes_another(run, model, batch, path):
        path.write_bytes(b"x")
        return lambda pixels: 1.01 * model(pixels)

    monkeypatch.setitem(exporting.WRITERS, "torchscript", writes_another)
    with pytest.raises(UserError, match=r"--format torchscript: its embeddings differ .* by \d.\de-03"):
        exporting.export(load_trained(digits_run, CPU), "torchscript", tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_documented_example_embeds_a_folder_without_torch(run_folder, people, call, tmp_path):
    pytest.importorskip("onnxruntime")
    assert call(export, run_folder, "--out", tmp_path / "m.onnx")[1] is None
    assert call(embed, run_folder, people, "--out", tmp_path / "ours.npz")[1] is None
    example = ROOT / "docs" / "embed_without_torch.py"
    without = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_path({str(example)!r})"

    def run_it(folder, out) -> subprocess.CompletedProcess:
        arguments = [tmp_path / "m.onnx", folder, out]
        given = [sys.executable, "-c", without, *arguments]
        return subprocess.run(given, capture_output=True, text=True, timeout=900)

    assert run_it(people, tmp_path / "theirs.npz").returncode == 0
    ours, theirs = np.load(tmp_path / "ours.npz"), np.load(tmp_path / "theirs.npz")
    assert ours["names"].tolist() == theirs["names"].tolist()
    np.testing.assert_allclose(ours["embeddings"], theirs["embeddings"], atol=1e-4)
    (tmp_path / "grey").mkdir()
    for name in ("a.pgm", "b.PGM", "c.webp", ".hidden.png"):
        Image.new("L", (10, 12), 90).save(tmp_path / "grey" / name)
    assert call(embed, run_folder, tmp_path / "grey", "--out", tmp_path / "grey.npz")[1] is None
    assert run_it(tmp_path / "grey", tmp_path / "theirs2.npz").returncode == 0
    ours, theirs = np.load(tmp_path / "grey.npz"), np.load(tmp_path / "theirs2.npz")
    assert ours["names"].tolist() == theirs["names"].tolist() == ["a.pgm", "b.PGM", "c.webp"]
    np.testing.assert_allclose(ours["embeddings"], theirs["embeddings"], atol=1e-4)
    (tmp_path / "none").mkdir()
    for name, content, said in (
        ("notes.txt", b"x", "holds no image"),
        ("torn.png", b"x", "torn.png: cannot be read as the model's images were"),
        ("x.heic", b"x", "x.heic: save it as PNG"),
    ):
        (tmp_path / "none" / name).write_bytes(content)
        ended = run_it(tmp_path / "none", tmp_path / "no.npz")
        assert ended.returncode == 1 and said in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "no.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torchscript", "safetensors"])
@pytest.mark.parametrize(
    "model",
    [
        "small_cnn",
        "convnet",
        "mlp",
        "iresnet18",
        "iresnet50",
        "mobilefacenet",
        "resnet18",
        "torchvision",
        "timm",
    ],
)
def test_every_model_is_exported(model, kind, people, tmp_path):
    options = ("model.width=8",) if model.startswith("iresnet") else ()
    data = ("dataset=image_folder", f"dataset.root={people}", "dataset.size=[32,32]", "batch_size=8")
    train_run(configured(*data, "epochs=1", f"model={model}", "device.threads=2", *options), tmp_path)
    assert exporting.export(load_trained(tmp_path, CPU), kind, tmp_path / f"m.{kind}") <= 1e-4
