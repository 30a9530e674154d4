"""Classes that were never trained on, from a folder of images to the comparison of a sweep."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from src.analysis import compare_sweeps
from src.analysis.judge import side_of
from src.analysis.judgement import for_other_classes
from src.errors import UserError
from src.evaluation import Search, evaluate, metrics_of, retrieval, sample_pairs
from src.evaluation.results import Results
from src.losses import ArcFace
from src.run.advice import counts_of, sizes_in_words, too_few
from src.run.build import build_run
from src.run.evaluation import evaluate_run, with_overrides
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.load import load_trained
from src.run.pairs import check_kinds
from src.training import load_checkpoint, save_checkpoint
from tests.conftest import FAST, summary_of


@pytest.fixture
def configured(composed, folder_of):
    """configured("loss=cosface", …): a short run on twelve people of six images, two of them tested."""
    root = folder_of("people", people=12, images=6)
    data = ("dataset=image_folder", f"dataset.root={root}", "batch_size=8", "evaluation.pairs=200")
    return lambda *overrides: composed(*FAST, *data, *overrides)


def test_a_fold_of_people_is_tested_on_others_goes_on_and_is_evaluated_as_it_was(
    configured, tmp_path, caplog
):
    caplog.set_level("INFO")
    config = configured("dataset.folds=4", "dataset.fold=1", "epochs=3")
    train_run(config, tmp_path / "run")
    found = summary_of(tmp_path / "run")
    dealt = found["dealt"]
    assert (dealt["fold"], dealt["folds"], dealt["over"], dealt["seed"]) == (1, 4, "classes", 0)
    assert len(found["classes"]) == 3 and "fold 1 of 0 to 3 is tested, dealt over classes" in caplog.text
    assert "dataset.folds=5" not in caplog.text  # advice that was taken
    other = configured("dataset.folds=4", "dataset.fold=2", "epochs=3")
    train_run(other, tmp_path / "other")
    assert not set(summary_of(tmp_path / "other")["classes"]) & set(found["classes"])

    metrics = (tmp_path / "run" / "metrics.csv").read_bytes()
    (tmp_path / "run" / "summary.json").unlink()
    train_run(config, tmp_path / "run")  # from its last checkpoint
    again = summary_of(tmp_path / "run")
    assert again["metrics"] == found["metrics"] and again["dealt"] == dealt
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == metrics

    kept = Results.load(tmp_path / "run" / "embeddings.npz")
    assert {"map_at_r", "recall_at_1", "auc", "eer"} <= set(kept.left_out_of)
    x, y = torch.from_numpy(kept.embeddings), torch.from_numpy(kept.labels)
    alone = retrieval(x, y, Search(left_out=True))  # without each of three people
    column = kept.left_out_of.tolist().index("map_at_r")
    assert kept.left_out[:, column] == pytest.approx(alone.left_out["map_at_r"])

    run = load_trained(tmp_path / "run")
    evaluated = evaluate_run(run, with_overrides(run, []))
    assert list(evaluated.images.classes) == found["classes"]
    assert evaluated.result.metrics["map_at_r"] == pytest.approx(found["metrics"]["map_at_r"])
    with pytest.raises(UserError, match=r"dataset\.fold=2: the run was trained with 1"):
        evaluate_run(run, with_overrides(run, ["dataset.fold=2"]))


def test_all_of_a_folder_of_others_is_tested_whatever_fold_was_trained(configured, tmp_path, folder_of):
    train_run(configured("dataset.folds=4", "dataset.fold=1"), tmp_path / "run")
    run, others = load_trained(tmp_path / "run"), folder_of("others", people=5, images=3, first=20)
    evaluated = evaluate_run(run, with_overrides(run, [f"dataset.root={others}"]))
    assert len(evaluated.images.classes) == 5


def test_a_run_leaves_what_an_open_set_has_to_show(configured, tmp_path, caplog):
    caplog.set_level("INFO")
    config = configured("plots.animate=true")
    objective = train_run(config, tmp_path / "run")
    found = summary_of(tmp_path / "run")
    assert config.objective == "map_at_r" and found["validation"]["map_at_r"] == objective
    assert set(found["metrics"]) < set(metrics_of("open_set"))
    assert "auc" in found["metrics"] and "tar_at_far_1e-1" not in found["metrics"]  # of 36 pairs
    assert found["counts"]["training"] == {
        "images": 48,
        "classes": 8,
        "smallest_class": 6,
        "queries": 48,
    }
    assert found["counts"]["test"] == {
        "images": 12,
        "classes": 2,
        "smallest_class": 6,
        "queries": 12,
        "same_pairs": 30,
        "different_pairs": 36,
        "folded_pairs": 60,
    }
    assert len(found["classes"]) == 2 and "recall" not in found and "skipped" not in found
    parts = "training on 48 images of 8 classes, validation on 12 images of 2 classes, test on 12 images"
    assert f"{parts} of 2 classes; 6 steps an epoch" in caplog.text
    assert "(too few pairs or folds for tar_at_far_1e-1, tar_at_far_1e-2, " in caplog.text
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[-1]["map_at_r"]) == objective
    kept = np.load(tmp_path / "run" / "embeddings.npz")
    assert kept["embeddings"].shape == (12, 128) and "prototypes" not in kept
    assert {name.split("/")[0] for name in kept["names"]} == set(kept["classes"])
    pictures = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
    expected = {f"{name}.png" for name in ("embedding", "neighbours", "pairs", "roc", "curves")}
    assert pictures == expected | {"training.gif"}


def test_few_validation_and_test_images_are_said_to_be_before_training(configured, composed, tmp_path):
    run = build_run(configured(), RunFolder(tmp_path))
    said = too_few(run, counts_of(run))
    assert said == (
        "few validation images to choose settings by, 12 images of 2 classes, where one query is 8.3 "
        "points: a larger dataset.val_fraction holds out more, dataset.folds=5 tests each in turn; the "
        "test split has only 12 images of 2 classes"
    )
    run = build_run(composed(*FAST), RunFolder(tmp_path))  # digits
    assert too_few(run, counts_of(run)) is None


def test_the_log_counts_the_classes_that_there_are_images_of(configured, tmp_path, folder_of):
    folder_of("people", people=3, images=1, first=20)  # trained on, and in neither other part
    more = (
        "evaluation=closed_set",
        "evaluation.pairs=null",
        "dataset.min_images=1",
        "dataset.val_fraction=0.2",
    )
    run = build_run(configured(*more), RunFolder(tmp_path))
    sizes = counts_of(run)
    validation, test = (f"{name} on 12 images of 12 classes" for name in ("validation", "test"))
    said = f"training on 51 images of 15 classes, {validation}, {test}; 6 steps an epoch"
    assert sizes_in_words(run, sizes).startswith(said)
    assert "few validation images to choose settings by, 12 images of 12 c" in too_few(run, sizes)


def test_what_was_left_out_is_counted_in_the_log_and_listed_in_the_summary(configured, tmp_path, caplog):
    config = configured("dataset.skip_broken=true")
    (tmp_path / "people" / "p03" / "torn.png").write_bytes(b"torn")
    train_run(config, tmp_path / "run")
    assert summary_of(tmp_path / "run")["skipped"] == ["p03/torn.png"]
    assert "1 file or class left out: p03/torn.png" in caplog.text


@pytest.mark.figures
def test_a_sweep_of_an_open_set_is_compared_by_its_objective(configured, tmp_path, capsys):
    for loss in ("softmax", "arcface"):
        for seed in (0, 1):
            config = configured(f"loss={loss}", f"seed={seed}", "plots.figures=false")
            train_run(config, tmp_path / "sweep" / f"{loss},{seed}")
    found = compare_sweeps([tmp_path / "sweep"])
    said = capsys.readouterr().out
    assert found.metric == "map_at_r" and {s.loss for s in found.settings} == {"softmax", "arcface"}
    assert "MAP@R" in said and "The test split has only 12 images of 2 classes" in said
    out = tmp_path / "sweep" / "comparison"
    with open(out / "results.csv") as file:
        header = next(csv.reader(file))
    assert "map_at_r" in header and "accuracy" not in header and "validation_auc" in header
    assert Image.open(out / "ranking.png").width == 800
    compare_sweeps([tmp_path / "sweep"], metric="eer", out=tmp_path / "by_eer")
    assert "lower is better" in capsys.readouterr().out


def test_the_command_a_user_types_for_a_folder_of_grey_images(command, folder_of, tmp_path):
    """20 classes of 10 images, 92 wide and 112 high: `dataset=image_folder dataset.root=…` is all."""
    root = folder_of("orl", people=20, images=10, size=(112, 92))
    short = ("epochs=1", "logger=csv", "plots.figures=false")  # what a test has no time for
    done = command("dataset=image_folder", f"dataset.root={root}", *short)
    assert done.returncode == 0, done.stderr
    assert "arcface: test map_at_r " in done.stdout
    assert len(summary_of(tmp_path / "out")["classes"]) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["dataset.split=closed_set", "dataset.val_fraction=0.2"],
            " is in the training set, but open_set tests unseen classes",
        ),
        (["dataset.split=banana"], "dataset.split=banana: expected one of closed_set"),
        (["dataset.root=null"], "dataset.root=null: expected text"),
        (["dataset.test_fraction=2"], "dataset.test_fraction=2: expected a number > 0, ≤ 1"),
        (["batch_size=1"], "batch_size=1: model=mlp normalises over a batch"),
        (["objective=accuracy"], "objective=accuracy: choose one of recall_at_1"),
        (["evaluation.pairs=5"], "evaluation.pairs=5: expected an integer ≥ 10 or null"),
        (["dataset.size=112"], "dataset.size=112: expected height and width, 4 to 4096 pixels each"),
        (["dataset.size=[3,3]"], "dataset.size=[3,3]: expected height and width, 4 to 4096 pixels each"),
        (["dataset.channels=4"], "dataset.channels=4: expected one of 1, 3 or null"),
        (["dataset.test_fraction=1"], "dataset=image_folder: has nothing to train on"),
        (["dataset.skip_broken=2"], "dataset.skip_broken=2: expected true or false"),
        (
            ["+dataset.sizes=3"],
            "dataset.sizes=3: image_folder takes no such argument, did you mean dataset.size?",
        ),
        (["augment.flip=2"], "augment.flip=2: expected a number ≥ 0, ≤ 1"),
        (["augment.crop=1.5"], "augment.crop=1.5: expected an integer ≥ 0, ≤ 64"),
        (["+augment.blur=1"], "augment.blur=1: nothing reads this key"),
        (["objective=tar_at_far_1e-4"], "objective=tar_at_far_1e-4: the validation images hold"),
        (["dataset.val_fraction=0.9"], "dataset.val_fraction=0.9: 10 classes to train on are too few"),
        (["dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (
            ["model=torchvision", "model.architecture=vit_b_32"],
            "model=torchvision: takes no images 1×12×10 (Wrong image height!",
        ),
    ],
)
def test_each_mistake_is_one_line_before_training(configured, arguments, said, tmp_path):
    with pytest.raises(UserError) as caught:
        train_run(configured(*arguments), tmp_path / "run")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.parametrize(("same", "said"), [(True, "different classes"), (False, "one class")])
def test_pairs_of_one_kind_are_refused(same, said, configured):
    pairs = torch.arange(2), torch.arange(2), torch.tensor([same, same]), torch.tensor([-1, -1])
    line = rf"^evaluation=open_set: the test images of dataset=image_folder hold no two of {said}$"
    with pytest.raises(UserError, match=line):
        check_kinds(configured(), "test", pairs)


def test_classes_that_were_trained_on_are_no_open_set(composed, tmp_path):
    config = composed(*FAST, "evaluation=open_set")
    with pytest.raises(
        UserError, match=r"evaluation=open_set: class 0 of dataset=digits is in the training set"
    ):
        train_run(config, tmp_path)


def test_images_without_height_and_a_thousand_classes_can_be_looked_at(composed, tmp_path):
    """Vectors of von Mises–Fisher clusters, in an open and in a large closed set."""
    data = ("dataset=synthetic", "dataset.per_class=4", "dataset.test_per_class=2", "batch_size=8")
    train_run(composed(*FAST, *data, "evaluation=open_set", "epochs=1"), tmp_path / "open")
    many = ("dataset.classes=300", "model.embedding_dim=16", "epochs=1")
    train_run(composed(*FAST, *data, *many, "dataset.val_fraction=0"), tmp_path / "large")
    for run in ("open", "large"):
        assert (tmp_path / run / "plots" / "embedding.png").exists()


def test_a_run_does_not_go_on_with_other_images_but_begins_again(configured, tmp_path, caplog):
    config, folder = configured("epochs=1"), tmp_path / "run"
    before = build_run(config, RunFolder(folder)).data.fingerprint
    for change in ("a class", "an image"):
        folder = tmp_path / "people" / ("p13" if change == "a class" else "p03")
        folder.mkdir(exist_ok=True)
        for i in range(4):
            Image.new("L", (10, 12), 7).save(folder / f"new_{i}.png")
        root = tmp_path / "people"
        root = root.rename(tmp_path / change)  # or what was read is remembered
        other = build_run(config.replace(dataset={"root": str(root)}), RunFolder(tmp_path))
        assert other.data.fingerprint != before
        root.rename(tmp_path / "people")
    train_run(config, folder)
    (folder / "summary.json").unlink()
    saved = load_checkpoint(folder / "checkpoint.pt")
    save_checkpoint(folder / "checkpoint.pt", **saved | {"data": before[::-1]})
    train_run(config, folder)
    said = "images have changed since this run started: starting again"
    assert any(said in line for line in caplog.messages)
    assert "resumed_after_epoch" not in summary_of(folder)
    assert (folder / ".stale" / "other-images" / "checkpoint.pt").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["open_set", "verification"])
def test_a_gpu_measures_what_a_cpu_does(name):
    torch.manual_seed(0)
    labels = torch.arange(6000) % 40
    x = torch.randn(40, 32)[labels] + torch.randn(6000, 32)
    pairs, head = sample_pairs(labels, 50_000), ArcFace(32, 10, margin=0.5, scale=64.0)
    here, there = (
        evaluate(name, head.to(device), x.to(device), labels.to(device), pairs).metrics
        for device in ("cpu", "cuda")
    )
    assert there == pytest.approx(here, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory", [0, 4])
def test_a_gpu_trains_on_resident_and_on_streamed_images(configured, memory, tmp_path):
    config = configured(
        "device=cuda", f"dataset.memory={memory}", "augment.rotate=10", "augment.erase=0.5"
    )
    assert 0 <= train_run(config, tmp_path / "run") <= 1


def test_metrics_of_searches_and_pairs_have_intervals_for_other_classes():
    torch.manual_seed(0)
    y = torch.arange(12).repeat_interleave(6)
    x = torch.randn(12, 8).repeat_interleave(6, 0) + torch.randn(72, 8)
    result = evaluate("open_set", ArcFace(8, 3), x, y, sample_pairs(y, None), Search(left_out=True))
    found = for_other_classes([side_of(result)])
    found = {name: gap for name, gap in found.items() if gap.low is not None}
    assert {"map_at_r", "recall_at_1", "auc", "eer"} <= set(found)
    assert all(gap.low < result.metrics[name] < gap.high for name, gap in found.items())
    assert "intra_angle_mean" not in found
