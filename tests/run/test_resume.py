"""A run that was cut short goes on as if nothing had happened, bit for bit."""

import json
import os
import signal
import time

import pytest
import torch
from PIL import Image

from src.errors import Pruned, UserError
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.lock import claimed
from src.run.summary import Summary
from src.training import load_checkpoint, save_checkpoint
from tests import faults
from tests.conftest import FAST as PLAIN
from tests.conftest import summary_of
from tests.sweeps.conftest import wait_for

FAST = (*PLAIN, "optimizer._target_=tests.faults.Adam")
# Each brings state of its own that a checkpoint has to hold: momenta, moving statistics, random draws,
# a margin on its way, a learned scale, a schedule.
CASES = {
    "arcface": ["augment.rotate=10", "augment.erase=0.3", "neck.dropout=0.2"],
    "elasticface_arc": ["optimizer=sgd", "optimizer._target_=tests.faults.SGD", "schedule=cosine"],
    "adaface": ["margin=warmup", "margin.epochs=4"],
    "curricularface": ["schedule=step", "schedule.every=2"],
    "asoftmax": ["optimizer=adamw", "optimizer._target_=tests.faults.AdamW"],
    "kappaface": [],
    "cosface": ["scale=learnable", "schedule=constant"],
    "normface": ["scale=adacos_dynamic"],
}


def rows(folder) -> int:
    """How many epochs metrics.csv has."""
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def cut_after(epoch: int, folder, monkeypatch) -> None:
    """Let the process "die" in the first step after an epoch, and leave behind what a process can that
    dies between an epoch's row and its checkpoint: a row too many, and half of another."""

    def dying(optimizer):
        if rows(folder) == epoch:
            if epoch:
                with open(folder / "metrics.csv", "a") as file:
                    file.write(f"{epoch + 1},0.1,0.2\n{epoch + 2},0.1")
            raise KeyboardInterrupt

    monkeypatch.setattr(faults, "strike", dying)


@pytest.mark.parametrize("loss", CASES)
def test_a_resumed_run_equals_an_undisturbed_one(loss, composed, tmp_path, monkeypatch):
    config = composed(*FAST, *CASES[loss], f"loss={loss}", "epochs=4", "batch_size=256")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_run(config, whole)
    with monkeypatch.context() as patched:
        cut_after(2, cut, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, cut)
    assert summary_of(cut)["state"] == "interrupted"
    train_run(config, cut)
    assert (cut / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert (cut / "embeddings.npz").read_bytes() == (whole / "embeddings.npz").read_bytes()
    ours, theirs = summary_of(cut), summary_of(whole)
    assert ours["resumed_after_epoch"] == 2 and ours["state"] == "finished"
    assert ours["metrics"] == theirs["metrics"] and ours["recall"] == theirs["recall"]


@pytest.mark.figures
def test_an_animation_of_a_resumed_run_has_every_epoch(composed, tmp_path, monkeypatch):
    config = composed(*FAST, "epochs=4", "plots.animate=true")
    with monkeypatch.context() as patched:
        cut_after(2, tmp_path, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    train_run(config, tmp_path)
    with Image.open(tmp_path / "plots" / "training.gif") as shown:
        assert shown.n_frames == 4


def test_a_run_killed_before_its_first_checkpoint_begins_again(composed, tmp_path, monkeypatch):
    config = composed(*FAST)
    with monkeypatch.context() as patched:
        cut_after(0, tmp_path, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    train_run(config, tmp_path)
    assert [line[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == ["e", "1", "2"]


@pytest.mark.parametrize("what", ["versions", "code"])
def test_a_checkpoint_of_other_versions_or_code_is_begun_again(what, composed, tmp_path, monkeypatch):
    config = composed(*FAST)
    with monkeypatch.context() as patched:
        cut_after(1, tmp_path, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    saved[what] = {"torch": "0.1"} if what == "versions" else saved["code"] | {"sources": "0" * 12}
    save_checkpoint(tmp_path / "checkpoint.pt", **saved)
    train_run(config, tmp_path)
    assert "resumed_after_epoch" not in summary_of(tmp_path)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
    (kept,) = (tmp_path / ".stale").iterdir()  # and the attempt is not lost
    assert {path.name for path in kept.iterdir()} == {"checkpoint.pt", "metrics.csv"}


def test_a_run_finished_by_other_code_is_neither_passed_off_nor_overwritten(composed, tmp_path):
    config = composed(*PLAIN, "epochs=1")
    train_run(config, tmp_path)
    summary = summary_of(tmp_path)
    summary["code"]["sources"] = "0" * 12
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"finished by other code \(0{12}.*name a new folder"):
        train_run(config, tmp_path)
    assert summary_of(tmp_path) == summary


def test_a_torn_checkpoint_is_begun_again_and_one_of_something_else_is_left_alone(composed, tmp_path):
    config = composed(*FAST)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,")
    with pytest.raises(UserError, match="holds files that are not a run's; choose another folder"):
        train_run(config, tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n1,"
    RunFolder(tmp_path).begin(Summary.of(config, code_of(config)))  # a run did begin here
    train_run(config, tmp_path)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_another_runs_checkpoint_is_not_overwritten(composed, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        cut_after(1, tmp_path, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(composed(*FAST), tmp_path)
    with pytest.raises(UserError, match="holds another run"):
        train_run(composed(*FAST, "seed=3"), tmp_path)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(UserError, match="holds another run"):
        train_run(composed(*FAST, "seed=3"), tmp_path)


def test_what_is_other_about_the_run_in_a_folder_is_named_and_how_to_go_on_from_it(composed, tmp_path):
    train_run(composed(*PLAIN, "epochs=1"), tmp_path)
    other = r"\(epochs=1 there, 3 here; optimizer.lr=0.003 there, 0.01 here\)"
    further = rf"name a new folder, in which init\.from={tmp_path} begins with its weights$"
    with pytest.raises(UserError, match=f"holds another run {other}, .*{further}"):
        train_run(composed(*PLAIN, "epochs=3", "optimizer.lr=0.01"), tmp_path)
    other = r"\(loss\._target_=.*seed=0 there, 3 here\)"
    with pytest.raises(UserError, match=f"another run {other}, .* a new folder$"):
        train_run(composed(*PLAIN, "epochs=1", "loss=softmax", "seed=3"), tmp_path)


def test_a_file_named_stop_ends_a_run_after_its_epoch_and_it_can_go_on(composed, tmp_path, monkeypatch):
    config = composed(*FAST)

    def asking(optimizer):  # during the first epoch
        (tmp_path / "stop").touch()

    with monkeypatch.context() as patched:
        patched.setattr(faults, "strike", asking)
        with pytest.raises(Pruned, match="after epoch 1"):
            train_run(config, tmp_path)
    assert summary_of(tmp_path)["state"] == "pruned"
    train_run(config, tmp_path)
    assert summary_of(tmp_path)["state"] == "finished"


def test_two_processes_do_not_train_in_one_folder(composed, tmp_path, monkeypatch):
    monkeypatch.setattr("src.run.lock.LOCK_SECONDS", 0.1)
    with claimed(tmp_path), pytest.raises(UserError, match="another process"):
        train_run(composed(*FAST), tmp_path)
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside_goes_on(how, tmp_path, template):
    arguments = [*FAST, "epochs=3", "plots.figures=false", f"hydra.run.dir={tmp_path}"]
    environment = os.environ | {"FAULTS": "arcface0:hang"}  # after its first epoch
    process = template.start("src.train", *arguments, env=environment)
    wait_for(tmp_path / "hangs")
    os.kill(process.pid, how)
    said = process.communicate(timeout=900)[1]
    if how == signal.SIGKILL:
        assert not (tmp_path / "summary.json").exists()
    else:
        assert process.returncode == 130, said
        assert f"to resume: python -m src.train {FAST[0]}" in said and "Traceback" not in said
        assert summary_of(tmp_path)["state"] == "interrupted"
    done = template.start("src.train", *arguments).finished()
    assert done.returncode == 0 and "resuming after epoch 1" in done.stdout, done.stderr
    found = summary_of(tmp_path)
    assert found["state"] == "finished" and found["resumed_after_epoch"] == 1
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]


def test_ctrl_c_while_a_checkpoint_is_written_is_heard_and_leaves_a_whole_one(tmp_path):
    path, state = tmp_path / "checkpoint.pt", {f"w{i}": torch.ones(2**16) for i in range(40)}
    save_checkpoint(path, epoch=0, **state)
    began = time.perf_counter()
    save_checkpoint(path, epoch=0, **state)
    seconds, heard = time.perf_counter() - began, 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)  # Ctrl-C, at a time
    try:
        for each in range(1, 21):
            signal.setitimer(signal.ITIMER_REAL, seconds * each / 25)
            try:
                save_checkpoint(path, epoch=each, **state)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                heard += 1
            load_checkpoint(path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert heard
