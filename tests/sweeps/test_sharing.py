"""Runs beside each other: how many, and what becomes of one that the others leave no room."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus

from src.errors import UserError
from src.sweeps import sharing, workers
from src.sweeps.sharing import CONTEXT, Turns, kills_for_memory, may_work_alone, workers_that_fit
from tests.conftest import summary_of

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


def test_alone_means_that_nothing_else_runs():
    turns, runs, seen = Turns(), [], []
    begun, go = threading.Event(), threading.Event()

    def beside():
        with turns.shared() as turn:
            begun.set()
            go.wait()
            runs.append(turn)

    def alone():
        with turns.alone():
            seen.append((len(runs), len(turns.running)))

    threads = [threading.Thread(target=target) for target in (beside, alone, beside)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    while not turns.taken:  # it waits for the first, and
        time.sleep(0.01)
    threads[2].start()  # this for it
    go.set()
    for thread in threads:
        thread.join()
    assert seen == [(1, 0)] and len(runs) == 2
    with turns.shared() as turn:
        assert not turn.beside
        with turns.shared() as another:
            assert turn.beside and another.beside


@pytest.mark.parametrize(
    ("error", "killed", "retried"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", False, True),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", False, True),
        ("AcceleratorError: CUDA error: an illegal memory access was encountered", False, True),
        ("its process was killed (SIGKILL): by hand, or because memory ran out", True, True),
        ("its process was killed (SIGKILL): by hand, or because it was time", False, False),
        ("ZeroDivisionError: one by zero", True, False),
        ("diverged: the loss was not a finite number at epoch 2", False, False),
    ],
)
def test_what_others_can_have_caused_is_tried_alone(error, killed, retried):
    assert may_work_alone(error, killed) is retried


def test_a_run_that_was_alone_is_not_tried_again():
    tried, left, launcher = [], [], launcher_of(1)
    launcher.outcome = lambda run, worker, look: tried.append(run) or failed("CUDA out of memory")
    launcher.outcome_beside_or_alone("run", SimpleNamespace(leave=lambda: left.append(1)), print)
    assert tried == ["run"] and left == [1]


def test_a_result_that_was_there_before_is_not_taken_for_the_runs():
    """Another code's, say, which the run itself refuses."""
    for before, given in ((None, True), ("finished", False)):
        folder = SimpleNamespace(read_summary=lambda: SimpleNamespace(seconds=1))
        run = SimpleNamespace(folder=folder, result_there=lambda there=before: there)
        attempt = workers.Attempt(launcher_of(1), run, SimpleNamespace(idle=["a worker"]), None)
        attempt.give = lambda result, attempt=attempt: attempt.result.set_result(result)
        run.result_there = lambda: "finished"
        attempt.look()
        assert attempt.result.done() is given


def failed(why: str) -> JobReturn:
    return JobReturn(status=JobStatus.FAILED, _return_value=UserError(why))


def launcher_of(count: int, gpus: int = 0) -> workers.WorkersLauncher:
    launcher = workers.WorkersLauncher("auto", None, False)
    launcher.turns, launcher.free = Turns(), workers.queue.SimpleQueue()
    launcher.slots, launcher.gpus = [SimpleNamespace() for _ in range(count)], gpus
    launcher.waiting = launcher.slots[gpus:]
    return launcher


def test_what_one_run_takes_says_how_many_a_gpu_has_room_for():
    assert workers_that_fit({"peak": 2 * GIB, "total": 80 * GIB}, 8) == 8
    assert workers_that_fit({"peak": 20 * GIB, "total": 80 * GIB}, 8) == 3
    assert workers_that_fit({"peak": 70 * GIB, "total": 80 * GIB}, 8) == 1
    assert workers_that_fit({"peak": 0, "total": 6.1 * CONTEXT / sharing.FILLED}, 8) == 3


def test_on_gpus_the_first_run_that_ends_lets_others_in():
    launcher = launcher_of(16, gpus=2)
    launcher.use_what_fits(SimpleNamespace(gpu_memory=None))
    assert launcher.free.qsize() == 0 and len(launcher.waiting) == 14
    launcher.use_what_fits(SimpleNamespace(gpu_memory={"peak": 20 * GIB, "total": 80 * GIB}))
    assert launcher.free.qsize() == 4 and not launcher.waiting
    launcher.use_what_fits(SimpleNamespace(gpu_memory={"peak": 1, "total": 80 * GIB}))
    assert launcher.free.qsize() == 4


def test_workers_and_their_threads_are_the_same_whatever_fits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(workers, "available_cores", lambda: 32)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    threads, environments = workers.shares("auto", "cuda", None)
    assert threads == 2 and len(environments) == 16
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments[:4]] == ["0", "1", "0", "1"]
    assert len(workers.shares("auto", "cuda", 8)[1]) == 4
    assert len(workers.shares("auto", "cpu", None)[1]) == 32
    assert len(workers.shares(3, "auto", None)[1]) == 3


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
