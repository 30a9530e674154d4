"""Runs beside each other: how many, and what becomes of one that the others leave no room."""

import math
import multiprocessing
import time
from types import SimpleNamespace

import pytest
import torch

from src.errors import UserError
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.outcome import recorded
from src.run.summary import Summary
from src.sweeps import workers
from src.sweeps.workers import CONTEXT, FILLED, kills_for_memory, runs_that_fit
from tests.conftest import FAST, summary_of

from .conftest import finish, run_name, states

GIB = 2**30


def test_a_run_that_finds_no_memory_beside_others_goes_on_alone(sweep, tmp_path):
    code, _, err = finish(
        sweep("seed=0,1,2,3", "hydra.launcher.workers=2", faults="arcface0:crowd arcface1:accompany")
    )
    assert code == 0, err
    assert set(states(tmp_path).values()) == {"finished"}
    folder = tmp_path / "sweep" / run_name(seed=0)
    assert (folder / "crowded").exists() and summary_of(folder)["resumed_after_epoch"] == 1


def test_one_that_finds_none_alone_either_has_failed(sweep, tmp_path):
    code, _, err = finish(
        sweep("seed=0,1,2", "hydra.launcher.workers=2", faults="arcface0:starve arcface1:accompany")
    )
    assert code == 1 and "1 of 3 runs failed" in err
    folder = tmp_path / "sweep" / run_name(seed=0)
    assert (folder / "crowded").read_text() == "again\n" * 2
    summary = summary_of(folder)
    assert summary["state"] == "failed" and "out of memory" in summary["error"]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "gpu"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "gpu"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ZeroDivisionError("one by zero, out of memory"), None),
        (UserError("CUDA error: in somebody's words"), None),
    ],
)
def test_a_summary_names_the_causes_that_runs_beside_it_may_share_in(error, cause, composed, tmp_path):
    config = composed(*FAST)
    summary = Summary.of(config, code_of(config))
    with pytest.raises(type(error)), recorded(RunFolder(tmp_path), summary):
        raise error
    assert RunFolder(tmp_path).summary().cause == cause


def process_of(exit_code: int | None, kills: int = 0, cause: str | None = None) -> workers.Process:
    summary = SimpleNamespace(state="failed", cause=cause)
    run = SimpleNamespace(folder=SimpleNamespace(summary=lambda: summary))
    return workers.Process(run, SimpleNamespace(exitcode=exit_code), None, 0, 0.0, True, kills)


def test_a_killed_run_lacked_memory_if_the_machine_killed_for_it_meanwhile(monkeypatch):
    monkeypatch.setattr(workers, "kills_for_memory", lambda: 3)
    assert workers.lacked_memory(process_of(-9, kills=2), died=True)
    assert not workers.lacked_memory(process_of(-9, kills=3), died=True)
    assert not workers.lacked_memory(process_of(-11, kills=2), died=True)
    assert workers.lacked_memory(process_of(0, cause="memory"), died=False)
    assert not workers.lacked_memory(process_of(0), died=False)


def test_what_one_run_takes_says_how_many_a_gpu_has_room_for():
    assert runs_that_fit({"peak": 2 * GIB, "total": 80 * GIB}, 8) == 8
    assert runs_that_fit({"peak": 20 * GIB, "total": 80 * GIB}, 8) == 3
    assert runs_that_fit({"peak": 70 * GIB, "total": 80 * GIB}, 8) == 1
    assert runs_that_fit({"peak": 0, "total": 6.1 * CONTEXT / FILLED}, 8) == 3


def launcher_on_gpus(gpus: int, most: int) -> workers.WorkersLauncher:
    launcher = workers.WorkersLauncher("auto", None)
    launcher.gpus, launcher.most, launcher.fits_on_gpu = gpus, most, 1
    launcher.processes, launcher.tried_alone, launcher.alone = [], [], None
    return launcher


def test_on_gpus_the_first_run_that_ends_lets_others_in():
    launcher, run = launcher_on_gpus(2, 16), process_of(None).run
    assert launcher.slots == 2
    launcher.processes = [SimpleNamespace(run=run)]
    for memory, slots in ((None, 2), ({"peak": 20 * GIB, "total": 80 * GIB}, 6), (None, 6)):
        run.folder.summary = lambda memory=memory: SimpleNamespace(gpu_memory=memory)
        launcher.learn_what_fits()
        assert launcher.slots == slots


def test_nothing_starts_while_a_run_is_to_be_tried_alone():
    launcher = launcher_on_gpus(2, 16)
    launcher.tried_alone = ["a run"]
    assert launcher.slots == 0
    launcher.tried_alone, launcher.alone = [], "its process"
    assert launcher.slots == 0


def test_slots_and_threads_are_the_same_whatever_fits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(workers, "available_cores", lambda: 32)
    assert workers.shares("auto", "cuda", None) == (16, 2)
    assert workers.shares("auto", "cuda", 8) == (4, 8)
    assert workers.shares("auto", "cpu", None) == (32, 1)
    assert workers.shares(3, "auto", None) == (3, 10)


def test_gpus_go_by_the_names_that_are_visible(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert workers.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8f")
    assert workers.visible_gpus() == ["5", "GPU-8f"]


@pytest.mark.parametrize(
    ("beside", "alone", "again"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_a_run_without_memory_is_tried_again_if_others_were_beside_it(beside, alone, again):
    launcher, (pipe, of_child) = launcher_on_gpus(1, 1), multiprocessing.Pipe(duplex=False)
    launcher.fits_on_gpu, launcher.leaving = None, []
    process = process_of(0, cause="memory")
    process.pipe, process.beside, process.deadline = pipe, beside, math.inf
    launcher.processes, launcher.alone = [process], process if alone else None
    of_child.send("OutOfMemoryError: CUDA out of memory")
    ended = launcher.take(process)
    assert (launcher.tried_alone == [process.run]) is again and (ended is None) is again
    assert again or ended.error.startswith("OutOfMemoryError")


def test_a_jump_of_the_clock_ends_no_run(monkeypatch):
    launcher, (pipe, _of_child) = launcher_on_gpus(1, 1), multiprocessing.Pipe(duplex=False)
    deadline = time.monotonic() + 3600
    process = workers.Process(process_of(None).run, None, pipe, 0, deadline, False, 0)
    launcher.processes, launcher.fits_on_gpu, launcher.given_up = [process], None, []
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)
    assert launcher.poll(0) == [] and process.kill_due == math.inf


def test_kills_for_memory_are_read_where_there_is_a_count(tmp_path):
    counters = tmp_path / "vmstat"
    assert kills_for_memory(counters) == 0
    counters.write_text("oom_kill_disable 0\n")
    assert kills_for_memory(counters) == 0
    counters.write_text("pgfault 7\noom_kill 3\nswap_ra 0\n")
    assert kills_for_memory(counters) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_that_share_a_gpu_are_those_that_have_it_alone(sweep, tmp_path):
    for asked in ("1", "auto"):
        options = ("seed=0,1,2,3", "device=cuda", f"hydra.launcher.workers={asked}")
        code, _, err = finish(sweep(*options, f"hydra.sweep.dir={tmp_path / asked}"))
        assert code == 0, err
    for folder in (tmp_path / "1").glob("*seed*"):
        there = tmp_path / "auto" / folder.name
        assert (folder / "metrics.csv").read_bytes() == (there / "metrics.csv").read_bytes()
