"""What the machine refuses (a full disk, folders that are read-only, names too long) is one line."""

import errno
import fcntl
import os
import platform
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from src import plots
from src.analysis import compare_sweeps
from src.datasets import Split
from src.durable import append, make_folder, naming, write_text, written_aside
from src.errors import Diverged, UserError
from src.evaluation import METRICS, Evaluated
from src.evaluation.results import Results
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.lock import claimed
from src.run.summary import Summary
from src.training import save_checkpoint
from tests import faults
from tests.conftest import FAST, ROOT, summary_of

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full(monkeypatch):
    """full("metrics.csv"): from now on no byte of a file of that name reaches the disk."""
    fsync = os.fsync

    def of(*names: str) -> None:
        def refusing(descriptor):
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path.name.removeprefix(".unfinished.") in names:
                raise FULL
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", refusing)

    return of


def test_a_file_that_cannot_be_written_leaves_the_one_before_it(tmp_path, full):
    path = tmp_path / "a.json"
    write_text(path, "before")
    full("a.json")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        write_text(path, "after")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        append(path, "after")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_what_writers_raise_is_said_of_the_file(tmp_path):
    for error in (
        OSError("encoder error -2"),
        RuntimeError("[enforce fail at inline_container.cc:672]"),
    ):
        with pytest.raises(OSError, match=r"^/x/a\.gif: "), naming(Path("/x/a.gif")):
            raise error
    with pytest.raises(RuntimeError, match="a bug"), written_aside(tmp_path / "a"):
        raise RuntimeError("a bug")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoint.pt", "embeddings.npz"])
def test_a_full_disk_ends_a_run_in_one_line(name, composed, tmp_path, full, caplog):
    config = composed(*FAST, "epochs=1")
    caplog.set_level("DEBUG", logger="src")
    full(name)
    with pytest.raises(UserError) as said:
        train_run(config, tmp_path)
    assert str(said.value).startswith(f"{tmp_path}/") and "\n" not in str(said.value)
    assert str(said.value).endswith(f"{name}: No space left on device")
    assert summary_of(tmp_path)["state"] == "failed" and "Traceback" not in caplog.text
    assert not list(tmp_path.rglob("*unfinished*"))


@pytest.mark.figures
@pytest.mark.parametrize(("name", "drawn"), [("angles.png", 1), ("training.gif", 4)])
def test_a_disk_that_is_full_after_the_results_costs_pictures(
    name, drawn, composed, tmp_path, full, caplog
):
    config = composed(*FAST, "epochs=1", f"plots.animate={str(name.endswith('gif')).lower()}")
    full(name)
    objective = train_run(config, tmp_path)
    summary = summary_of(tmp_path)
    assert summary["state"] == "finished" and summary["validation"]["accuracy"] == objective
    (said,) = [line for line in caplog.messages if "No space left" in line]
    assert said.startswith("the run is finished, but some figures could not be drawn (/")
    assert f"{name}: No space left on device): python -m src.draw " in said
    assert not list(tmp_path.rglob("*unfinished*"))
    assert len(list((tmp_path / "plots").iterdir())) == drawn and "figures" not in summary
    assert train_run(config, tmp_path) == objective  # and is done


def test_a_disk_that_cannot_take_the_summary_hides_no_reason(
    composed, tmp_path, full, caplog, monkeypatch
):
    config = composed(*FAST, "epochs=1", "optimizer._target_=tests.faults.Adam")
    full("summary.json")
    with pytest.raises(UserError, match=r"summary\.json: No space left on device$"):
        train_run(config, tmp_path)
    monkeypatch.setattr(faults, "strike", lambda optimizer: faults.diverge(optimizer, tmp_path))
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(Diverged):
        train_run(config, tmp_path)
    assert any("could not be recorded" in line for line in caplog.messages)
    about = Summary.of(config, code_of(config))
    RunFolder(tmp_path).record_loss("killed", about)  # and ends nothing


@pytest.mark.figures
def test_a_comparison_on_a_full_disk_is_one_line(composed, tmp_path, full):
    train_run(composed(*FAST, "epochs=1"), tmp_path / "sweep" / "run")
    for name in ("results.csv", "summary.csv", "report.html", "spheres.png"):
        full(name)
        with pytest.raises(OSError, match=rf"No space left on device: '.*{name}'"):
            compare_sweeps([tmp_path / "sweep"])


def test_no_folder_can_be_made_in_a_file(composed, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run: Not a directory$"):
        train_run(composed(*FAST), tmp_path / "file" / "run")


def test_a_name_of_300_characters_is_one_line(composed, tmp_path):
    with pytest.raises(UserError, match=r"x{300}: File name too long$"):
        train_run(composed(*FAST), tmp_path / ("x" * 300))
    with pytest.raises(UserError, match=r"^dataset\.root=x{300}: no such folder; name the one"):
        train_run(composed(*FAST, "dataset=image_folder", f"dataset.root={'x' * 300}"), tmp_path / "run")
    write_text(tmp_path / ("y" * 250), "one of 250 is a name")
    save_checkpoint(tmp_path / "without-a-suffix", epoch=1)


def test_a_read_only_folder_is_one_line(composed, unprivileged):
    folder, bound = unprivileged
    config = composed(*FAST)
    with bound():
        folder.chmod(0o500)
        with pytest.raises(UserError, match=r"/run: Permission denied$"):
            train_run(config, folder / "run")
        folder.chmod(0o700)
        (folder / "run").mkdir(mode=0o500)
        with pytest.raises(UserError, match=r"run/\.lock: Permission denied$"):
            train_run(config, folder / "run")


def test_a_folder_that_nobody_may_read_is_no_claimed_one_and_makes_no_noise(composed, unprivileged):
    folder, bound = unprivileged
    hidden, config = RunFolder(folder / "run"), composed(*FAST)
    about = Summary.of(config, code_of(config))
    make_folder(hidden.path)
    hidden.write_summary(about)
    with bound():
        hidden.path.chmod(0)
        assert not hidden.running and hidden.summary() is None
        hidden.record_loss("killed", about)
        with pytest.raises(UserError, match=r"holds no run\n  .*run: skipped, .*Permission denied"):
            compare_sweeps([folder])


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = r"run/\.lock: No locks available: its file system has no locks, which runs need: give them a"
    with pytest.raises(UserError, match=said), claimed(tmp_path / "run"):
        pytest.fail("it has not been claimed")


def test_where_a_file_is_the_lock_that_of_a_lost_node_is_named(tmp_path, monkeypatch, recwarn):
    def lacking(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", lacking)
    monkeypatch.setattr("src.run.lock.LOCK_SECONDS", 0.1)
    with claimed(tmp_path):
        assert RunFolder(tmp_path).running
    (tmp_path / ".lock").write_text("4711\nnode\x1b7\n")
    said = (
        r"at work in this folder \(process 4711 on node\ufffd7\); if that is lost, .* remove .*/\.lock$"
    )
    with pytest.raises(UserError, match=said), claimed(tmp_path):
        pytest.fail("it has not been claimed")
    assert not recwarn.list


def test_who_is_at_work_in_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("src.run.lock.LOCK_SECONDS", 0.1)
    said = rf"\(process {os.getpid()} on {re.escape(platform.node())}\)"
    with claimed(tmp_path), pytest.raises(UserError, match=said), claimed(tmp_path):
        pytest.fail("it has been claimed twice")
    with claimed(tmp_path):
        assert RunFolder(tmp_path).running
    assert not RunFolder(tmp_path).running


@pytest.mark.slow
@pytest.mark.parametrize("kib", [64, 200, 320, 480, 700, 1000])
def test_on_a_small_disk_a_sweep_still_ends_with_its_table(kib, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    size = f"size={kib}k"
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "none", small], capture_output=True
    ).returncode:
        pytest.skip("needs permission to mount a tmpfs")
    try:
        arguments = [
            *FAST,
            "epochs=3",
            f"hydra.sweep.dir={small / 'sweep'}",
            "seed=0,1",
            "hydra.sweeper.baselines=false",
        ]
        command = [sys.executable, "-m", "src.train", "-m", *arguments, "hydra.launcher.workers=1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
        both = done.stdout + done.stderr
        assert "Traceback" not in both and "Logging error" not in both, both
        assert done.returncode == 1 and "No space left on device" in both, both
        if kib > 100:  # the sweep began
            assert "2 runs without a result" in both or "no comparison was written" in both, both
    finally:
        subprocess.run(["umount", small], check=True)


@contextmanager
def no_file_larger_than(size: int):
    """As on a disk that fills up in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores the signal
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def writers():
    """Each writes a file of some 100 KiB, as a library does that knows nothing of full disks."""
    noise = np.random.default_rng(0).normal(size=(3000, 4))
    images = torch.zeros(3000, 1, 2, 2, dtype=torch.uint8)
    split = Split(images, torch.arange(3000) % 2, [0.0], [1.0], ("cat", "dog"))
    prototypes = np.eye(2, 4)
    frames = [(noise + i, prototypes) for i in range(3)]
    animation = partial(plots.animate, frames, split.labels.numpy(), split.classes)
    figure = plots.plot_curves(
        [{"epoch": i, "loss": i, "accuracy": 0.1} for i in range(2)], METRICS["accuracy"]
    )
    return {
        "x.npz": Results.of(Evaluated({}), noise, split, prototypes).save,
        "x.pt": lambda path: save_checkpoint(path, noise=torch.from_numpy(noise)),
        "x.png": lambda path: plots.save(figure, path),
        "x.gif": lambda path: plots.draw({path.name: animation}, path.parent),
        "x.json": lambda path: write_text(path, "x" * 100_000),
        "x.csv": lambda path: append(path, "x" * 100_000),
    }


@pytest.mark.figures
@pytest.mark.parametrize("name", ["x.npz", "x.pt", "x.png", "x.gif", "x.json", "x.csv"])
def test_whoever_writes_into_a_disk_that_fills_up_names_the_file(name, tmp_path):
    write = writers()[name]
    with pytest.raises(OSError, match=re.escape(name)), no_file_larger_than(2**13):
        write(tmp_path / name)
    assert name == "x.csv" or not list(tmp_path.iterdir())
