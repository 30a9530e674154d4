"""Runs in W&B online: the real client, against a stub of its server."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from src import tracking
from src.errors import Pruned, UserError
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.upload import upload
from src.tracking import session
from tests import faults
from tests.conftest import FAST, ROOT, rows_of, summary_of

from .stub import ENTITY

TINY = (
    *(override for override in FAST if override != "logger=csv"),
    *("dataset=synthetic", "dataset.per_class=20", "dataset.test_per_class=10"),
    *("model.hidden=8", "batch_size=16", "logger.timeout=2"),
)


def lines(said, what: str) -> list[str]:
    return [message for message in said.messages if what in message]


def test_a_run_is_there_with_its_rows_pictures_and_address(composed, tmp_path, online, said, drawn):
    folder = tmp_path / "sweep" / "run"
    accuracy = train_run(composed(*TINY, "logger.tags=[mine]"), folder)
    (run,) = online.runs.values()
    assert run.epochs == [1, 2] and [row["_step"] for row in run.history] == [1, 2, 3]
    rows = rows_of(folder)
    assert [row["validation/accuracy"] for row in run.history[:2]] == [r["accuracy"] for r in rows]
    assert run.summary["test/accuracy"] == summary_of(folder)["metrics"]["accuracy"]
    assert rows[-1]["accuracy"] == accuracy
    address = f"{online.url}/{ENTITY}/angular-penalty/runs/{run.name}"
    assert summary_of(folder)["wandb_url"] == address and lines(said, "W&B") == [f"W&B: {address}"]
    assert set(run.tags) == {"arcface", "synthetic", "mlp", "mine"} and run.display_name == "sweep/run"
    assert run.value("choices")["loss"] == "arcface" and run.exits == [0] and not run.group
    assert len([name for name in run.files if name.startswith("media/images/plots")]) == 4
    assert any(name.endswith(".pts.json") for name in run.files)


def test_a_run_that_is_interrupted_while_it_draws_is_finished_there_too(
    composed, tmp_path, online, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("src.run.lifecycle.show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_run(composed(*TINY), tmp_path)
    (run,) = online.runs.values()
    assert run.exits == [0]
    assert run.summary["test/accuracy"] == summary_of(tmp_path)["metrics"]["accuracy"]


# ------------------------------------------------------------------------------------------ outages


@pytest.mark.parametrize(
    ("how", "where", "why"),
    [
        (500, (), "no answer in time"),
        ("hang", (), "no answer in time"),
        ("drop", (), "no answer in time"),
        (401, (), "user is not logged in"),
        (403, ("storage",), "its server has 0 of 1 files"),
    ],
)
def test_an_outage_after_the_first_epoch_neither_holds_nor_fails_a_run(
    how, where, why, composed, tmp_path, online, said, monkeypatch
):
    monkeypatch.setattr("src.tracking.session.PATIENCE", 0)
    seen = []

    def outage(optimizer):
        if (tmp_path / "checkpoint.pt").exists() and not online.failing:
            online.fail(how, *where)

    def summary_at_the_end(self, exit_code=0, end=session.Session.end):
        summary = RunFolder(tmp_path).summary()
        seen.append(summary and summary.state)
        end(self, exit_code)

    monkeypatch.setattr(faults, "strike", outage)
    monkeypatch.setattr(session.Session, "end", summary_at_the_end)
    began = time.monotonic()
    train_run(composed(*TINY, "optimizer._target_=tests.faults.Adam"), tmp_path)
    assert time.monotonic() - began < 60 and seen == ["finished"]
    left = f"not uploaded to W&B ({why}): python -m src.sync {os.path.relpath(tmp_path)}"
    assert [line.partition(":")[0] for line in lines(said, "not uploaded")] == [left.partition(":")[0]]
    assert lines(said, "not uploaded")[0] == left
    assert lines(said, "waiting for W&B, at most 2 s (logger.timeout)")


@pytest.mark.parametrize(
    ("environment", "how", "why"),
    [
        ({"WANDB_API_KEY": "f" * 40}, None, "user is not logged in"),
        ({"WANDB_API_KEY": "short"}, None, "API key must have 40+ characters, has 5."),
        ({}, 401, "user is not logged in"),
        ({}, 500, "HTTP 500: the stub is out of order"),
        ({}, "drop", "the connection was closed"),
        ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, None, "connection refused"),
    ],
)
def test_why_a_run_is_offline_is_said_in_one_line(
    environment, how, why, composed, tmp_path, online, said, monkeypatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if how:
        online.fail(how)
    train_run(composed(*TINY, "epochs=1"), tmp_path)
    (line,) = lines(said, "W&B")
    assert (
        re.fullmatch(r"W&B is offline \(http://127.0.0.1:\d+: .*\); later: python -m src.sync .*", line)
        and why in line
    )

    tracking.settings._online.cache_clear()
    with pytest.raises(UserError, match=f"logger.mode=online: .*{re.escape(why)}.* logger.mode=auto"):
        train_run(composed(*TINY, "logger.mode=online"), tmp_path / "online")
    assert not (tmp_path / "online" / "wandb").exists()


def test_an_outage_that_passes_leaves_nothing_behind(composed, tmp_path, online, said, monkeypatch):
    def outage(optimizer):
        if (tmp_path / "checkpoint.pt").exists() and not online.turn:
            online.fail(500)
            online.turn = (10**6, 500)
            threading.Timer(1, online.heal).start()

    monkeypatch.setattr(faults, "strike", outage)
    train_run(composed(*TINY, "optimizer._target_=tests.faults.Adam", "logger.timeout=600"), tmp_path)
    (run,) = online.runs.values()
    assert run.epochs == [1, 2] and run.exits == [0] and not lines(said, "not uploaded")


def test_a_server_that_dies_between_two_requests_of_the_beginning(
    composed, tmp_path, online, said, monkeypatch
):
    monkeypatch.setattr("src.tracking.session.why_not_online", lambda: online.fail(500))
    train_run(composed(*TINY, "epochs=1"), tmp_path)
    (line,) = lines(said, "W&B")
    assert line.startswith("W&B is offline (HTTP 500: the stub is out of order); later: ")
    assert summary_of(tmp_path)["state"] == "finished"


def test_a_sweeps_run_is_not_lost_to_an_outage_although_online_was_asked_for(
    composed, tmp_path, online, said
):
    online.fail(500)
    train_run(composed(*TINY, "epochs=1", "logger.mode=online"), tmp_path, "a-sweep")
    assert summary_of(tmp_path)["state"] == "finished" and len(lines(said, "W&B is offline")) == 1


def test_a_client_that_dies_costs_what_it_would_have_shown(
    composed, tmp_path, online, said, monkeypatch
):
    def kill(optimizer):
        if (tmp_path / "one" / "checkpoint.pt").exists() and not killed:
            import wandb

            killed.append(wandb.setup()._connection._proc._process.pid)
            os.kill(killed[0], signal.SIGKILL)

    killed = []
    config = composed(*TINY, "optimizer._target_=tests.faults.Adam")
    with monkeypatch.context() as patched:
        patched.setattr(faults, "strike", kill)
        train_run(config, tmp_path / "one")
    assert killed and summary_of(tmp_path / "one")["state"] == "finished"
    assert len(lines(said, "not uploaded to W&B")) == 1
    train_run(config, tmp_path / "two")  # in the same process
    assert online.run_named("two").epochs == [1, 2]


# ------------------------------------------------------------------------------- failed and resumed


def interrupted_after_an_epoch(config, folder, monkeypatch, epoch: int = 1):
    def dying(optimizer):
        rows = folder / "metrics.csv"
        if rows.exists() and len(rows_of(folder)) == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "strike", dying)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, folder)


def test_a_resumed_run_goes_on_in_place(composed, tmp_path, online, monkeypatch):
    config = composed(*TINY, "optimizer._target_=tests.faults.Adam", "epochs=3")
    interrupted_after_an_epoch(config, tmp_path, monkeypatch)
    (run,) = online.runs.values()
    assert run.exits == [1] and run.epochs == [1]
    train_run(config, tmp_path)
    assert list(online.runs.values()) == [run] and run.exits == [1, 0] and "resumed" in run.tags
    assert run.epochs == [1, 2, 3] and [row["_step"] for row in run.history] == [1, 2, 3, 4]


def test_epochs_that_wandb_lacks_are_logged_again(composed, tmp_path, online, monkeypatch):
    config = composed(*TINY, "optimizer._target_=tests.faults.Adam", "epochs=4")
    interrupted_after_an_epoch(config, tmp_path, monkeypatch, epoch=3)
    (run,) = online.runs.values()
    whole = [{k: v for k, v in row.items() if k[0] != "_"} for row in run.history]
    del run.lines[1:]  # as after a kill: the rest had not been sent
    run.summary = dict(run.history[0])
    train_run(config, tmp_path)
    assert run.epochs == [1, 2, 3, 4] and [row["_step"] for row in run.history] == [1, 2, 3, 4, 5]
    again = [{k: v for k, v in row.items() if k[0] != "_"} for row in run.history[:3]]
    live = {"images_per_second", "training/accuracy"}  # which no file holds
    assert 0 < whole[0]["training/accuracy"] <= 1
    assert [row.keys() - live for row in again] == [row.keys() - live for row in whole]
    assert all(row[k] == before[k] for row, before in zip(again, whole, strict=True) for k in row)


def test_an_epoch_that_wandb_has_and_the_checkpoint_has_not_is_there_once(
    composed, tmp_path, online, monkeypatch
):
    def killed(run, epoch, name):
        raise KeyboardInterrupt

    config = composed(*TINY)
    with monkeypatch.context() as patched:
        patched.setattr("src.run.epochs.save_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    (run,) = online.runs.values()
    assert run.epochs == [1] and not (tmp_path / "checkpoint.pt").exists()
    train_run(config, tmp_path)
    assert list(online.runs) == [run.name] and run.epochs == [1, 2] and run.exits[-1] == 0


def test_an_attempt_set_aside_is_another_run(composed, tmp_path, online, monkeypatch):
    config = composed(*TINY, "optimizer._target_=tests.faults.Adam")
    interrupted_after_an_epoch(config, tmp_path, monkeypatch)
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    train_run(config, tmp_path)
    assert sorted(run.epochs for run in online.runs.values()) == [[1], [1, 2]]


def test_a_run_that_fails_is_marked_failed_and_one_that_is_pruned_is_not(
    composed, tmp_path, online, monkeypatch
):
    with pytest.raises(UserError, match="not a finite number"):
        train_run(composed(*TINY, "optimizer.lr=1e5", "scale=learnable"), tmp_path / "failed")
    stop = tmp_path / "pruned" / "stop"
    monkeypatch.setattr(faults, "strike", lambda optimizer: stop.touch())
    with pytest.raises(Pruned):
        train_run(composed(*TINY, "optimizer._target_=tests.faults.Adam"), stop.parent)
    assert online.run_named("failed").exits == [1] and online.run_named("pruned").exits == [0]
    assert online.run_named("pruned").summary["pruned"] is True


# ------------------------------------------------------------------------------------ make sync


def make_sync(folder: Path, server, **environment) -> str:
    """What `make sync SWEEP=<folder>` does, with this interpreter."""
    venv = Path(sys.prefix)
    done = subprocess.run(
        ["make", "-o", f"{venv}/.ready", "sync", f"VENV={venv}", f"SWEEP={folder}"],
        cwd=ROOT,
        env=os.environ | server.environment | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_an_offline_run_resumed_is_uploaded_from_its_folder_with_every_epoch_once(
    composed, tmp_path, without_key, server, monkeypatch, drawn
):
    folder = tmp_path / "it's a sweep" / "my run"
    config = composed(*TINY, "optimizer._target_=tests.faults.Adam", "epochs=3", "logger.tags=[mine]")
    interrupted_after_an_epoch(config, folder, monkeypatch)
    train_run(config, folder, "a-group")
    (folder / "train.log").write_text("epoch 1/3")
    assert "1 run uploaded to W&B" in make_sync(folder.parent, server)
    (run,) = server.runs.values()
    assert run.epochs == [1, 2, 3] and [row["_step"] for row in run.history] == [1, 2, 3, 4]
    assert run.exits == [0] and run.group == "a-group" and {"mine", "resumed"} <= set(run.tags)
    assert run.summary["test/accuracy"] == summary_of(folder)["metrics"]["accuracy"]
    assert run.display_name == "it's a sweep/my run" and run.value("choices")["loss"] == "arcface"
    assert len([name for name in run.files if name.startswith("media/images/plots")]) == 4
    assert "train.log" in run.files
    assert "W&B has everything" in make_sync(folder.parent, server)
    assert run.epochs == [1, 2, 3] and run.exits == [0]


def outage_in_training(folder, online, monkeypatch):
    def outage(optimizer):
        if (folder / "checkpoint.pt").exists() and not online.failing:
            online.fail(500)

    monkeypatch.setattr(faults, "strike", outage)


def test_an_outage_then_make_sync_has_every_epoch_once(composed, tmp_path, online, monkeypatch):
    folder = tmp_path / "sweep" / "run"
    outage_in_training(folder, online, monkeypatch)
    train_run(composed(*TINY, "optimizer._target_=tests.faults.Adam", "epochs=4"), folder)
    (run,) = online.runs.values()
    assert not run.lines and not run.exits
    assert tracking.left_in_sweep(folder.parent).startswith("1 run is not in W&B (no answer in time): ")

    # The client sends rows every 15 seconds; two of them, say, had arrived.
    run.lines += [json.dumps({"_step": epoch, "epoch": epoch, "loss": 1}) for epoch in (1, 2)]
    online.heal()
    tracking.settings.forget_client()
    assert upload([folder.parent]) == 1 and upload([folder.parent]) == 0
    assert run.epochs == [1, 2, 3, 4] and [row["_step"] for row in run.history] == [1, 2, 3, 4, 5]
    assert run.exits == [0] and run.summary["test/accuracy"] > 0
    assert tracking.left_in_sweep(folder.parent) is None


FILE = b":W&B\xe1\xbe\x00" + bytes(range(256)) * 40  # about as the client's begin
DAMAGED = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(FILE[:-99]),
    "seven bytes": lambda path: path.write_bytes(FILE[:7]),
    "garbage": lambda path: path.write_bytes(os.urandom(999)),
    "a byte flipped": lambda path: path.write_bytes(FILE[:500] + b"!" + FILE[501:]),
    "zeros": lambda path: path.write_bytes(bytes(len(FILE))),
    "text": lambda path: path.write_text("<<<<<<< HEAD\n"),
    "huge": lambda path: (path.touch(), os.truncate(path, 2**40)),
    "unreadable": lambda path: (path.write_bytes(FILE), path.chmod(0)),
    "a pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "a folder": lambda path: path.mkdir(),
    "a link loop": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to its folder": lambda path: path.symlink_to("."),
}


def test_whatever_state_the_clients_files_are_in_a_finished_run_arrives(composed, tmp_path, online):
    """What a killed client wrote, or a disk made of it, is not read."""
    train_run(composed(*TINY, "logger.mode=offline"), tmp_path / "run")
    for number, (name, write) in enumerate(DAMAGED.items()):
        place = tmp_path / "run" / "wandb" / f"run-20260101_0000{number:02}-{name.replace(' ', '_')}"
        place.mkdir()
        write(place / f"run-{name}.wandb")
        write(tmp_path / "run" / "wandb" / f"{name}.log")
    (tmp_path / "run" / "wandb" / "latest-run").symlink_to(place.name)
    assert upload([tmp_path]) == 1 and upload([tmp_path]) == 0
    (run,) = online.runs.values()
    assert run.epochs == [1, 2] and run.exits == [0]


def test_nothing_outside_of_a_runs_folder_is_uploaded(composed, tmp_path, online, drawn):
    folder, private = tmp_path / "run", tmp_path / "private.png"
    train_run(composed(*TINY, "logger.mode=offline", "epochs=1"), folder)
    shutil.copy(folder / "plots" / "curves.png", private)
    summary = summary_of(folder) | {"figures": ["plots/curves.png", "../private.png", str(private)]}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "plots" / "link.png").symlink_to(private)
    (folder / "train.log").unlink(missing_ok=True)
    (folder / "train.log").symlink_to(private)
    assert upload([tmp_path]) == 1
    (run,) = online.runs.values()
    assert len([name for name in run.files if name.startswith("media/images/plots")]) == 1
    assert "train.log" not in run.files


def test_a_run_whose_note_is_damaged_arrives_too_and_one_without_anything_is_named(
    composed, tmp_path, online
):
    train_run(composed(*TINY, "logger.mode=offline"), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "lost")
    note = tmp_path / "run" / "wandb" / "run.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"about": {"settings": {"mode": "x"}}}))
    (tmp_path / "lost" / "wandb" / "run.json").unlink()
    os.mkfifo(tmp_path / "lost" / "wandb" / "run.json")
    (tmp_path / "lost" / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"1 of 2 runs were not uploaded, the first .*lost: neither"):
        upload([tmp_path])
    (run,) = online.runs.values()
    assert run.epochs == [1, 2] and run.exits == [0] and run.display_name.endswith("/run")
    assert tracking.note_of(tmp_path / "run").left is None


def test_a_run_killed_in_training_is_uploaded_as_failed_and_goes_on_later(
    composed, tmp_path, online, monkeypatch
):
    typed = (*TINY, "optimizer._target_=tests.faults.Adam", "epochs=3")
    interrupted_after_an_epoch(composed(*typed, "logger.mode=offline"), tmp_path, monkeypatch)
    (tmp_path / "summary.json").unlink()  # as SIGKILL leaves it
    assert upload([tmp_path]) == 1
    (run,) = online.runs.values()
    assert run.epochs == [1] and run.exits == [1]
    train_run(composed(*typed), tmp_path)
    assert list(online.runs.values()) == [run] and run.epochs == [1, 2, 3] and run.exits == [1, 0]


def test_a_run_that_cannot_be_sent_is_named_and_the_others_are_sent(composed, tmp_path, online):
    for name in ("good", "bad"):
        train_run(composed(*TINY, "logger.mode=offline"), tmp_path / name)
    (tmp_path / "bad" / "metrics.csv").write_bytes(b"\x00\xff")
    with pytest.raises(UserError, match=r"1 of 2 runs were not uploaded, the first .*bad: "):
        upload([tmp_path])
    (run,) = online.runs.values()
    assert run.display_name.endswith("good") and run.exits == [0] and run.epochs == [1, 2]


def test_a_server_that_takes_rows_and_no_files_is_named_and_gets_them_later(
    composed, tmp_path, online, drawn
):
    online.fail(403, "storage")
    train_run(composed(*TINY), tmp_path)
    assert "files" in tracking.note_of(tmp_path).left
    online.heal()
    assert upload([tmp_path]) == 1
    (run,) = online.runs.values()
    assert len([name for name in run.files if name.startswith("media/images/plots")]) == 4
