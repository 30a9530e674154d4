"""The commands a user types, in processes of their own, and what they leave on disk."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from src.config import Config
from src.errors import Diverged, UserError
from src.run.build import build_run
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.training import embed, load_checkpoint
from tests import faults
from tests.conftest import FAST, config_of, summary_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short ArcFace run: (configuration, folder)."""
    folder, config = tmp_path_factory.mktemp("run"), config_of(*FAST, "epochs=3")
    return config, folder, train_run(config, folder)


def test_a_finished_run_leaves_its_folder_as_promised(finished):
    _, folder, objective = finished
    found = summary_of(folder)
    assert found["state"] == "finished" and found["validation"]["accuracy"] == objective
    assert {"identity", "setting", "config", "code", "versions", "device", "threads", "seconds"} <= set(
        found
    )
    assert "recall" in found
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["accuracy"]) == objective
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    kept = np.load(folder / "embeddings.npz")
    assert kept["embeddings"].shape == (360, 3) and kept["embeddings"].dtype == np.float32
    assert kept["labels"].shape == (360,) and kept["prototypes"].shape == (10, 3)
    # The accuracy that was written is the one that the written embeddings give.
    x, w = (kept[k] / np.linalg.norm(kept[k], axis=1)[:, None] for k in ("embeddings", "prototypes"))
    tested = found["metrics"]["accuracy"]
    assert ((x @ w.T).argmax(1) == kept["labels"]).mean() == pytest.approx(tested)
    pictures = {path.name for path in (folder / "plots").iterdir()}
    assert pictures == {"embedding.png", "angles.png", "curves.png", "confusion.png"}
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.figures
def test_a_figure_that_cannot_be_drawn_costs_itself_alone(
    finished, composed, tmp_path, monkeypatch, caplog
):
    def broken(*_):
        raise ValueError("no font\nhas it")

    def unreadable(*_):
        raise PermissionError(13, "Permission denied", "/fonts/a.ttf")

    monkeypatch.setattr("src.plots.evaluation.plot_confusion", broken)
    monkeypatch.setattr("src.plots.evaluation.plot_angles", unreadable)
    monkeypatch.setattr("src.plots.animate", broken)
    train_run(composed(*FAST, "epochs=3", "plots.animate=true"), tmp_path)
    assert summary_of(tmp_path)["metrics"] == summary_of(finished[1])["metrics"]
    assert {path.name for path in (tmp_path / "plots").iterdir()} == ({"embedding.png", "curves.png"})
    assert "/fonts/a.ttf" in next(line for line in caplog.messages if "plots/angles.png" in line)
    assert [line for line in caplog.messages if "no font" in line] == [
        f"plots/{name} could not be drawn and is left out (ValueError: no font has it)"
        for name in ("confusion.png", "training.gif")
    ]


def test_whatever_is_wrong_with_figures_a_run_is_finished_and_draws_them_when_started_again(
    composed, tmp_path, monkeypatch, caplog
):
    config = composed(*FAST, "epochs=1")

    def interrupted(folder):
        assert summary_of(folder.path)["state"] == "finished"
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("src.run.lifecycle.draw_wanted", lambda folder: 1 / 0)
        objective = train_run(config, tmp_path / "broken")
        line = "the run is finished, but some figures could not be drawn (ZeroDivisionError: "
        assert any(said.startswith(line) for said in caplog.messages)
        patched.setattr("src.run.lifecycle.draw_wanted", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path / "ended")
        again = "interrupted while it drew; to draw again: python -m src.draw "
        assert any(said.startswith(again) for said in caplog.messages)
    for folder in ("broken", "ended"):
        found = summary_of(tmp_path / folder)
        assert found["state"] == "finished" and found["validation"]["accuracy"] == objective
        assert found["files"] == ["metrics.csv", "checkpoint.pt", "embeddings.npz"]
        assert "figures" not in found
        assert train_run(config, tmp_path / folder) == objective
        assert len(summary_of(tmp_path / folder)["figures"]) == 4
        (tmp_path / folder / "plots" / "curves.png").unlink()
        assert train_run(config, tmp_path / folder) == objective
        assert (tmp_path / folder / "plots" / "curves.png").exists()


@pytest.mark.figures
@pytest.mark.parametrize("kind", ["closed_set", "open_set", "animated"])
def test_figures_drawn_from_the_folder_again_are_the_same(kind, command, faces, tmp_path, template):
    folder = ("dataset=image_folder", f"dataset.root={faces}", "dataset.test_fraction=0.5")
    opened = (*folder, "batch_size=8")
    typed = {"closed_set": (), "open_set": opened, "animated": ("plots.animate=true",)}[kind]
    done = command(*FAST, *typed, "loss=elasticface_arc")
    assert done.returncode == 0, done.stderr
    plots = tmp_path / "out" / "plots"
    before = {path.name: path.read_bytes() for path in plots.iterdir()}
    for path in plots.iterdir():
        path.unlink()
    again = template.start("src.draw", str(tmp_path / "out")).finished()
    assert again.returncode == 0 and f"{len(before)} figures" in again.stdout, again.stderr
    assert {path.name: path.read_bytes() for path in plots.iterdir()} == before
    assert len(before) >= 4


def test_draw_names_what_it_cannot_draw(composed, tmp_path, template):
    train_run(composed(*FAST, "epochs=1"), tmp_path / "sweep" / "good")
    for name in ("torn", "unfinished"):
        shutil.copytree(tmp_path / "sweep" / "good", tmp_path / "sweep" / name)
    (tmp_path / "sweep" / "torn" / "embeddings.npz").write_bytes(b"PK")
    (tmp_path / "sweep" / "unfinished" / "summary.json").unlink()
    done = template.start("src.draw", str(tmp_path / "sweep")).finished()
    assert done.returncode == 1 and "good: 4 figures" in done.stdout and "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "torn/embeddings.npz: cannot be read as embeddings" in line
    nothing = template.start("src.draw", str(tmp_path)).finished()
    assert nothing.returncode == 1 and "no finished run is here" in nothing.stderr


def test_what_vanishes_while_a_run_draws_is_missed_afterwards(composed, tmp_path, monkeypatch):
    config = composed(*FAST, "epochs=1")

    def lose(folder):
        (folder.path / "embeddings.npz").unlink()
        return []

    monkeypatch.setattr("src.run.lifecycle.draw_wanted", lose)
    train_run(config, tmp_path)
    with pytest.raises(UserError, match=r"finished but embeddings.npz is missing"):
        train_run(config, tmp_path)


def test_without_figures_a_run_is_the_same_and_leaves_none(finished, composed, tmp_path):
    train_run(composed(*FAST, "epochs=3", "plots.figures=false"), tmp_path)
    assert summary_of(tmp_path)["metrics"] == summary_of(finished[1])["metrics"]
    assert not (tmp_path / "plots").exists()
    assert summary_of(tmp_path)["files"] == ["metrics.csv", "checkpoint.pt", "embeddings.npz"]


def test_a_checkpoint_loads_without_pickled_code_and_rebuilds_the_model(finished, composed, tmp_path):
    config, folder, _ = finished
    saved = load_checkpoint(folder / "checkpoint.pt")
    assert saved["epoch"] == 3 and saved["config"] == config.plain()
    again = build_run(Config.model_validate(saved["config"]), RunFolder(tmp_path))
    again.backbone.load_state_dict(saved["backbone"])
    again.head.load_state_dict(saved["head"])
    kept = np.load(folder / "embeddings.npz")["embeddings"]
    np.testing.assert_array_equal(embed(again.backbone, again.data.test, again.device).numpy(), kept)


def test_the_same_seed_gives_the_same_metrics_bit_for_bit_and_another_does_not(finished, tmp_path):
    config, folder, _ = finished
    torch.rand(7)  # whatever ran before
    for name, seed in (("again", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        train_run(config.replace(seed=seed), tmp_path / name)
    text = (folder / "metrics.csv").read_bytes()
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == text
    assert (tmp_path / "other" / "metrics.csv").read_bytes() != text


@pytest.mark.parametrize(
    "loss", ["asoftmax", "adaface", "subcenter_arcface", "kappaface", "elasticface_arc"]
)
def test_evaluation_moves_no_running_statistics(loss, composed, tmp_path):
    run = build_run(composed(*FAST, f"loss={loss}"), RunFolder(tmp_path))
    run.head.train()
    before = {key: value.clone() for key, value in run.head.state_dict().items()}
    first, second = (run.evaluate("test")[0].metrics for _ in range(2))
    assert first == second
    assert all(torch.equal(value, before[key]) for key, value in run.head.state_dict().items())


def files(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_left_as_it_is(finished):
    config, folder, objective = finished
    before = files(folder)
    assert train_run(config, folder) == objective
    with pytest.raises(UserError, match="holds another run"):
        train_run(config.replace(seed=5), folder)
    assert files(folder) == before


def test_settings_are_chosen_by_images_that_are_neither_trained_nor_tested_on(composed, tmp_path):
    run = build_run(composed(*FAST), RunFolder(tmp_path))
    held = build_run(composed(*FAST, "dataset.val_fraction=0"), RunFolder(tmp_path))
    assert run.watched == "validation" and held.watched == "test" and held.data.val is None
    train_run(held.config, tmp_path)
    found = summary_of(tmp_path)
    assert "validation" not in found
    with open(tmp_path / "metrics.csv") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["accuracy"]) == found["metrics"]["accuracy"]


def test_a_margin_warms_up_over_the_epochs(composed, tmp_path):
    config = composed(*FAST, "epochs=4", "margin=warmup", "margin.value=0.4", "margin.epochs=2")
    train_run(config, tmp_path)
    with open(tmp_path / "metrics.csv") as file:
        margins = [float(row["margin"]) for row in csv.DictReader(file)]
    assert 0.15 < margins[0] < 0.2 and margins[2:] == pytest.approx([0.4, 0.4])


def test_divergence_stops_the_run_and_says_why(composed, tmp_path):
    with pytest.raises(Diverged, match=r"epoch 1, step \d+ of 20.*learning rate.*scale"):
        train_run(composed(*FAST, "optimizer.lr=1e5", "scale=learnable"), tmp_path)
    assert summary_of(tmp_path)["state"] == "diverged" and "epoch 1" in summary_of(tmp_path)["error"]


def test_an_error_in_the_code_is_recorded_with_its_traceback(composed, tmp_path, monkeypatch, caplog):
    def broken(optimizer):
        if (tmp_path / "checkpoint.pt").exists():
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(faults, "strike", broken)
    with pytest.raises(ZeroDivisionError), caplog.at_level("DEBUG", logger="src"):
        train_run(composed(*FAST, "optimizer._target_=tests.faults.Adam"), tmp_path)
    assert summary_of(tmp_path)["state"] == "failed" and summary_of(tmp_path)["error"] == "a bug"
    assert "Traceback" in caplog.text
    assert (tmp_path / "checkpoint.pt").exists() and (tmp_path / "metrics.csv").exists()


def test_the_command_trains_and_says_how_well(command, tmp_path):
    done = command("loss=arcface", *FAST)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout and "images/s" in done.stdout
    out = tmp_path / "out"
    assert summary_of(out)["state"] == "finished"
    begun = json.loads((out / ".hydra" / "run.json").read_text())
    assert begun["identity"] == summary_of(out)["identity"]
    assert begun["config"]["choices"]["loss"] == "arcface"
    kept = yaml.safe_load((out / ".hydra" / "config.yaml").read_text())
    assert kept["loss"]["_target_"] == "src.losses.ArcFace"
    assert "epoch 2/2" in (out / "train.log").read_text()

    before = files(out)
    other = command("loss=cosface", *FAST)
    assert other.returncode != 0 and "holds another run" in other.stderr
    again = command("loss=arcface", *FAST)
    assert again.returncode == 0 and "finished already" in again.stdout
    assert files(out) == before

    edit = summary_of(out)
    edit["code"]["sources"] = "0" * 12  # as if a line of a loss had been another one
    (out / "summary.json").write_text(json.dumps(edit))
    before = files(out)
    again = command("loss=arcface", *FAST)
    assert (
        again.returncode == 1 and "holds this run, finished by other code (000000000000" in again.stderr
    )
    assert files(out) == before


def test_files_of_something_else_are_left_alone(command, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("metrics.csv", "summary.json"):
        (tmp_path / "out" / name).write_text('{"mine": 1}')
    before = files(tmp_path / "out")
    done = command(*FAST)
    assert done.returncode == 1 and "holds files that are not a run's" in done.stderr
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["loss=circles"], "loss=circles: did you mean loss=circle?"),
        (["loss=none"], "loss=none: choose one of adaface, adam_softmax, arcface, arcnegface"),
        (["margin=0.3"], "margin=0.3: margin takes a name; for a value use margin.value=0.3"),
        (["epochs=0"], "epochs=0: expected an integer ≥ 1"),
        (["loss=softmax", "margin.value=0.3"], "margin.value=0.3: loss=softmax has no margin"),
        (["nothing=1"], "nothing=1: no such key, there are augment.crop"),
        (["dataset=manifest", "dataset.file=x.csv", "epoch=5"], "epoch=5: no such key, did you mean ep"),
        (["-m", "--cfg", "job"], "--multirun --cfg: give one of them"),
        (["margin=null"], "margin=null: choose one of class_sizes, paper, warmup"),
        (["dataset=image_folder", "dataset.root=~/none"], "dataset.root=/"),
        (["optimizer.weight_decy=0.5"], "no such key, did you mean optimizer.weight_decay?"),
        (["+stopping.patience=3"], "stopping.patience=3: nothing reads this key"),
        (["dataset=mnist", "dataset.root=/dev/null/x"], "/dev/null/x/MNIST/raw/train-images"),
        (["margin.value=[1"], "no viable alternative"),
        (["optimizer.lr=1e5", "scale=learnable", "logger=wandb"], "the loss was not a finite number"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_no_traceback(arguments, line, command):
    done = command(*FAST, *arguments)
    said = [row for row in done.stderr.splitlines() if row]
    assert done.returncode != 0
    assert len(said) == 1 and line in said[0], done.stderr


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir=x: a sweep names its runs by what differs"),
        ("hydra.sweeper.baselines=2", "hydra.sweeper.baselines=2: expected true or false"),
        ("hydra.launcher.workers=0", "hydra.launcher.workers=0: expected auto or an integer ≥ 1"),
    ],
)
def test_a_mistake_about_a_sweep_is_answered_before_its_first_run(argument, line, command):
    done = command("-m", *FAST, argument, "seed=0,1")
    assert done.returncode == 1 and done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_cfg_job_shows_margin_zero(command):
    done = command("--cfg", "job", "loss=cosface", "margin.value=0")
    assert yaml.safe_load(done.stdout)["margin"]["value"] == 0


@pytest.mark.slow
def test_every_digit_is_separated_by_every_loss(command, tmp_path):
    losses = ["softmax", "normface", "cosface", "arcface", "sphereface"]
    done = command("-m", f"loss={','.join(losses)}", "logger=csv", "hydra.sweeper.baselines=false")
    assert done.returncode == 0, done.stderr
    for loss in losses:
        found = summary_of(tmp_path / "out" / f"loss={loss}")
        assert found["metrics"]["worst_recall"] >= 0.8, (loss, found["recall"])


@pytest.mark.slow
def test_arcface_reaches_95_percent_on_digits_in_three_dimensions(command, tmp_path):
    arguments = "loss=arcface", "seed=0,1,2", "logger=csv", "hydra.sweeper.baselines=false"
    assert command("-m", *arguments).returncode == 0
    runs = list((tmp_path / "out").glob("seed=*"))
    assert len(runs) == 3
    assert np.mean([summary_of(path)["metrics"]["accuracy"] for path in runs]) >= 0.95


@pytest.mark.slow
def test_fashion_mnist_reaches_86_percent_in_four_epochs(command, tmp_path, data_root):
    done = command("dataset=fashion_mnist", "loss=arcface", "epochs=4", "logger=csv")
    assert done.returncode == 0, done.stderr
    assert summary_of(tmp_path / "out")["metrics"]["accuracy"] >= 0.86
