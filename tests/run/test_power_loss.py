"""After a power cut at any moment: a finished run has all its files, another goes on bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from src.errors import UserError
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.training import load_checkpoint, save_checkpoint
from tests.conftest import FAST, ROOT, config_of, rows_of, summary_of
from tests.disk import put, recorded

KEPT = ("metrics.csv", "embeddings.npz")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run, its folder, and the disks that a power cut could have left while it ran."""
    folder, config = tmp_path_factory.mktemp("whole") / "run", config_of(*FAST)
    with recorded(folder) as recorder:
        train_run(config, folder)
    return config, folder, recorder


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures take most of a short run's time."""
    monkeypatch.setattr("src.plots.evaluation_figures", lambda *_: {})


@pytest.mark.parametrize("kind", ["orderly", "eager"])
def test_of_a_run_that_is_finished_on_the_disk_every_file_is_whole(run, kind):
    _, folder, recorder = run
    finished = [disk for disk in getattr(recorder, kind) if disk.get("summary.json")]
    assert finished
    results = {"metrics.csv", "checkpoint.pt", "embeddings.npz"}
    assert "plots/curves.png" in json.loads(finished[-1]["summary.json"])["figures"]
    for disk in finished:
        summary = json.loads(disk["summary.json"])
        assert results <= set(summary["files"])
        for name in [*summary["files"], *summary.get("figures", ())]:
            assert disk.get(name) == (folder / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["orderly", "eager"])
def test_no_checkpoint_is_on_the_disk_before_its_epochs_rows(run, kind, tmp_path):
    _, _, recorder = run
    epochs = set()
    for number, disk in enumerate(getattr(recorder, kind)):
        if "checkpoint.pt" not in disk:
            continue
        at = put(
            {name: disk.get(name, b"") for name in ("checkpoint.pt", *KEPT)}, tmp_path / str(number)
        )
        epoch = load_checkpoint(at / "checkpoint.pt")["epoch"]  # and it is whole
        assert len(rows_of(at)) >= epoch
        epochs.add(epoch)
    assert epochs == {1, 2}


@pytest.mark.parametrize("kind", ["orderly", "eager"])
def test_a_run_goes_on_bit_for_bit_from_what_a_power_cut_leaves(run, kind, tmp_path, no_pictures):
    config, folder, recorder = run
    disks = getattr(recorder, kind)
    first = next(i for i, disk in enumerate(disks) if "checkpoint.pt" in disk)
    for number, at in enumerate((first - 1, first, len(disks) - 2)):
        again = put(disks[at], tmp_path / str(number))
        train_run(config, again)
        for name in KEPT:
            assert (again / name).read_bytes() == (folder / name).read_bytes(), (name, at)


DAMAGE = {
    "missing": lambda whole: None,
    "empty": lambda whole: b"",
    "torn": lambda whole: whole[: len(whole) // 2],
    "foreign": lambda whole: b"name,age\r\nme,7\r\nyou,8\r\n",
    "NULs": lambda whole: bytes(len(whole)),
    "without a header": lambda whole: whole[whole.index(b"\n") + 1 :],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_rows_that_do_not_match_the_checkpoint_are_said_and_written_again(
    damage, run, tmp_path, caplog, no_pictures
):
    config, folder, _ = run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").unlink()
    whole = (folder / "metrics.csv").read_bytes()
    damaged = DAMAGE[damage](whole)
    (tmp_path / "metrics.csv").unlink()
    if damaged is not None:
        (tmp_path / "metrics.csv").write_bytes(damaged)
    train_run(config, tmp_path)
    assert (tmp_path / "metrics.csv").read_bytes() == whole
    said = "is missing" if damaged is None else "does not hold the rows"
    assert any(said in line and "written again" in line for line in caplog.messages)


def test_a_row_more_than_the_checkpoint_has_is_cut_without_a_word(run, tmp_path, caplog, no_pictures):
    config, folder, _ = run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").unlink()
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("3,0.1,0.2\n4,0.")
    train_run(config, tmp_path)
    assert (tmp_path / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
    assert not any("metrics.csv" in line for line in caplog.messages)


def test_a_checkpoint_without_its_rows_is_begun_again(run, tmp_path, no_pictures):
    config, folder, _ = run
    saved = load_checkpoint(folder / "checkpoint.pt")
    shutil.copytree(folder / ".hydra", tmp_path / ".hydra")
    save_checkpoint(tmp_path / "checkpoint.pt", **saved | {"rows": saved["rows"][:1]})
    train_run(config, tmp_path)
    assert "resumed_after_epoch" not in summary_of(tmp_path)


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoint.pt", "embeddings.npz"])
@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_finished_run_without_one_of_its_files_is_named_and_offered_again(
    name, state, run, tmp_path, no_pictures
):
    config, folder, _ = run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    if state == "empty":
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"finished but {name} is {state}: name a new folder") as said:
        train_run(config, tmp_path)
    goes_on = "without its summary.json it goes on from its checkpoint"
    assert (goes_on in str(said.value)) == (name != "checkpoint.pt")
    if name != "embeddings.npz":
        return
    (tmp_path / "summary.json").unlink()
    train_run(config, tmp_path)
    for kept in KEPT:
        assert (tmp_path / kept).read_bytes() == (folder / kept).read_bytes()


def mounted(image, at) -> bool:
    """Whether a file system image could be mounted: that takes a loop device and its permission."""
    at.mkdir(exist_ok=True)
    if not shutil.which("mount"):
        return False
    return subprocess.run(["mount", "-o", "loop", image, at], capture_output=True).returncode == 0


@pytest.mark.slow
def test_disk_images_copied_while_runs_write_hold_only_whole_finished_runs(tmp_path):
    """ext4 on a loop device: what the image holds is what the file system has sent to its disk."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    subprocess.run(["truncate", "-s", "192M", image], check=True)
    made = shutil.which("mkfs.ext4") and subprocess.run(["mkfs.ext4", "-q", image]).returncode == 0
    if not (made and mounted(image, disk)):
        pytest.skip("needs ext4 and a loop device")
    arguments = [*FAST, "epochs=4", f"hydra.sweep.dir={disk / 'sweep'}", "seed=0,1,2"]
    arguments += [f"hydra.sweeper.{what}=false" for what in ("compare", "baselines")]
    arguments += ["hydra.launcher.workers=1"]
    command = [sys.executable, "-m", "src.train", "-m", *arguments]
    copies, number = [], 0
    try:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            number += 1
            copy = tmp_path / f"copy{number}"
            if copied_at_once(image, copy, process):
                copies = thinned([*copies, copy])
            time.sleep(0.3)
        assert process.returncode == 0
        whole = {run.name: run for run in (disk / "sweep").iterdir() if (run / "summary.json").exists()}
        seen, at = 0, tmp_path / "at"
        for copy in copies:
            assert mounted(copy, at)
            try:
                for run in (at / "sweep").glob("*"):
                    if RunFolder(run).done:
                        seen += 1
                        for name in summary_of(run)["files"]:
                            expected = (whole[run.name] / name).read_bytes()
                            assert (run / name).read_bytes() == expected, (copy, run.name, name)
                    elif (run / "checkpoint.pt").exists():
                        epoch = load_checkpoint(run / "checkpoint.pt")["epoch"]
                        assert len(rows_of(run)) >= epoch, (copy, run.name)
            finally:
                subprocess.run(["umount", at], check=True)
        assert seen
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        subprocess.run(["umount", disk])


def copied_at_once(image, copy, process) -> bool:
    """Copy an image while its writers stand still; False, and no copy, if the kernel wrote meanwhile."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        same = subprocess.run(["cmp", "-s", image, copy]).returncode == 0
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    if not same:
        os.remove(copy)
    return same


def thinned(copies: list, most: int = 24) -> list:
    """At most `most` copies, evenly spaced in time."""
    if len(copies) <= most:
        return copies
    for copy in copies[1::2]:
        os.remove(copy)
    return copies[::2]
