"""A run that was cut short goes on as if nothing had happened, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from src import train as entry
from src.errors import Pruned, UserError
from src.runs import claimed, read_summary
from src.train import train_run
from src.training import load_checkpoint, save_checkpoint
from tests.conftest import FAST, ROOT
from tests.sweeps.conftest import wait_for

# Each brings state of its own that a checkpoint has to hold: momenta, moving statistics, random draws,
# a margin on its way, a learned scale, a schedule.
CASES = {
    "arcface": ["augment.rotate=10", "augment.erase=0.3", "model.dropout=0.2"],
    "elasticface_arc": ["optimizer=sgd", "schedule=cosine"],
    "adaface": ["margin=warmup", "margin.epochs=4"],
    "curricularface": ["schedule=step", "schedule.options.every=2"],
    "asoftmax": ["optimizer=adamw"],
    "kappaface": [],
    "cosface": ["scale=learnable", "schedule=constant"],
    "normface": ["scale=adacos_dynamic"],
}


def cut_after(epoch: int, monkeypatch) -> None:
    """Let the process "die" when an epoch's row is written and its checkpoint is not."""
    checkpoint = entry.checkpoint

    def dying(run, number):
        if number > epoch:
            with open(run.folder / "metrics.csv", "a") as file:
                file.write("4,0.1")  # half a row
            raise KeyboardInterrupt
        checkpoint(run, number)

    monkeypatch.setattr(entry, "checkpoint", dying)


@pytest.mark.parametrize("loss", CASES)
def test_a_resumed_run_equals_an_undisturbed_one(loss, composed, tmp_path, monkeypatch):
    config = composed(*FAST, *CASES[loss], f"loss={loss}", "epochs=4", "batch_size=256")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_run(config, whole)
    with monkeypatch.context() as patched:
        cut_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, cut)
    assert read_summary(cut)["state"] == "interrupted"
    train_run(config, cut)
    assert (cut / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert (cut / "embeddings.npz").read_bytes() == (whole / "embeddings.npz").read_bytes()
    ours, theirs = read_summary(cut), read_summary(whole)
    assert ours["resumed_after_epoch"] == 2 and ours["state"] == "finished"
    assert ours["metrics"] == theirs["metrics"] and ours["recall"] == theirs["recall"]


def test_an_animation_of_a_resumed_run_has_every_epoch(composed, tmp_path, monkeypatch):
    config = composed(*FAST, "epochs=4", "plots.animate=true")
    with monkeypatch.context() as patched:
        cut_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    train_run(config, tmp_path)
    with Image.open(tmp_path / "plots" / "training.gif") as shown:
        assert shown.n_frames == 4


def test_a_run_killed_before_its_first_checkpoint_begins_again(composed, tmp_path, monkeypatch):
    config = composed(*FAST)
    with monkeypatch.context() as patched:
        cut_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    train_run(config, tmp_path)
    assert [line[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == ["e", "1", "2"]


def test_a_checkpoint_of_other_versions_is_not_gone_on_from(composed, tmp_path, monkeypatch):
    config = composed(*FAST)
    with monkeypatch.context() as patched:
        cut_after(1, patched)
        patched.setattr(entry, "versions", lambda: {"torch": "0.1"})
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    train_run(config, tmp_path)
    assert "resumed_after_epoch" not in read_summary(tmp_path)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_a_torn_checkpoint_is_begun_again(composed, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,")
    train_run(composed(*FAST), tmp_path)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_another_runs_checkpoint_is_not_overwritten(composed, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        cut_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            train_run(composed(*FAST), tmp_path)
    with pytest.raises(UserError, match="holds another run"):
        train_run(composed(*FAST, "seed=3"), tmp_path)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(UserError, match="holds another run"):
        train_run(composed(*FAST, "seed=3"), tmp_path)


def test_a_file_named_stop_ends_a_run_after_its_epoch_and_it_can_go_on(composed, tmp_path, monkeypatch):
    config, checkpoint = composed(*FAST), entry.checkpoint

    def asking(run, number):
        checkpoint(run, number)
        (run.folder / "stop").touch()

    with monkeypatch.context() as patched:
        patched.setattr(entry, "checkpoint", asking)
        with pytest.raises(Pruned, match="after epoch 1"):
            train_run(config, tmp_path)
    assert read_summary(tmp_path)["state"] == "pruned"
    train_run(config, tmp_path)
    assert read_summary(tmp_path)["state"] == "finished"


def test_two_processes_do_not_train_in_one_folder(composed, tmp_path, monkeypatch):
    monkeypatch.setattr("src.runs.LOCK_SECONDS", 0.1)
    with claimed(tmp_path), pytest.raises(UserError, match="another process"):
        train_run(composed(*FAST), tmp_path)
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside_goes_on(how, tmp_path):
    arguments = [*FAST, "epochs=3", f"hydra.run.dir={tmp_path}"]
    hanging = [sys.executable, "-m", "tests.sweeps.faulty", *arguments]  # after its first epoch
    environment = os.environ | {"FAULTS": "arcface0:hang"}
    process = subprocess.Popen(hanging, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "hangs")
    os.kill(process.pid, how)
    said = process.communicate(timeout=60)[1]
    if how == signal.SIGKILL:
        assert not (tmp_path / "summary.json").exists()
    else:
        assert process.returncode == 130, said
        assert f"to go on: python -m src.train {FAST[0]}" in said and "Traceback" not in said
        assert read_summary(tmp_path)["state"] == "interrupted"
    again = [sys.executable, "-m", "src.train", *arguments]
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "going on after epoch 1" in done.stdout, done.stderr
    found = json.loads((tmp_path / "summary.json").read_text())
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
