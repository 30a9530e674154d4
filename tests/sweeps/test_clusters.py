"""The launchers for other machines keep the contracts of the one for this: on submitit's local executor,
and on a Ray cluster of two nodes on loopback."""

import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.run.together import wait_until_ready
from src.sweeps.clusters import SlurmLauncher
from src.training.processes import is_alive
from tests.conftest import summary_of

from .conftest import finish, run_name, states, wait_for

SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.cluster=local",
    "hydra.launcher.poll_seconds=0.1",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.gpus_per_node=0",
)
RAY = ("hydra/launcher=ray",)


@pytest.fixture
def ray_cluster(monkeypatch):
    """Two nodes of one core each; the address."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv(
        "FAULTS", "arcface1:raise arcface2:hang"
    )  # nodes pass on what they were started with
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def lose_some_and_find_them(start, tmp_path, lost: str) -> None:
    """Of four runs one raises and one is killed; a second start runs those two, to the same results."""
    process = start(faults="arcface1:raise arcface2:hang")
    hanging = tmp_path / "sweep" / run_name(seed=2)
    os.kill(int(wait_for(hanging / "hangs").read_text()), signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 1 and "2 of 4 runs failed" in err and "Traceback" not in err, err
    assert list(states(tmp_path).values()) == ["finished", "failed", "failed", "finished"]
    assert "one by zero" in summary_of(tmp_path / "sweep" / run_name(seed=1))["error"]
    assert lost in summary_of(hanging)["error"] and lost in (hanging / "train.log").read_text()
    assert re.search(r"4/4 ", out)
    assert summary_of(tmp_path / "sweep" / run_name(seed=0))["threads"] == 1


class Job(types.SimpleNamespace):
    __hash__ = object.__hash__


class SlurmOfFew(SlurmLauncher):
    """Slurm that takes arrays of at most four runs, and `most` in all."""

    def __init__(self, most: int):
        self.utils = pytest.importorskip("submitit.core.utils")
        self.cluster, self.most, self.arrays = "slurm", most, []
        self.waiting, self.jobs, self.refused, self.killed = [], {}, [], []

    def submit(self, runs):
        if len(runs) > 4:
            said = "sbatch: error: Batch job submission failed: Invalid job array specification"
            raise self.utils.FailedJobError(said)
        if sum(self.arrays) + len(runs) > self.most:
            raise self.utils.FailedJobError("sbatch: error: QOSMaxSubmit\nsbatch: error: failed")
        self.arrays.append(len(runs))
        where = len(self.arrays)
        self.jobs |= {Job(job_id=f"{where}_{i}"): run for i, run in enumerate(runs)}

    def finished_jobs(self, seconds):
        return []

    def cancel(self, job):
        self.arrays[int(job.job_id[0]) - 1] -= 1


def planned(count: int) -> list[types.SimpleNamespace]:
    return [types.SimpleNamespace(identity=str(number)) for number in range(count)]


def test_a_sweep_longer_than_an_array_may_be_is_several_arrays():
    launcher = SlurmOfFew(most=100)
    launcher.waiting = planned(10)
    assert launcher.poll(0) == [] and launcher.arrays == [2, 3, 2, 3]
    assert sorted(run.identity for run in launcher.jobs.values()) == list("0123456789")


def test_what_slurm_took_before_it_refused_is_named_and_taken_back():
    launcher = SlurmOfFew(most=5)
    launcher.waiting = runs = planned(10)
    said = "^hydra/launcher=slurm: sbatch: error: QOSMaxSubmit; sbatch: error: failed; taken"
    with pytest.raises(
        UserError, match=f"{said} back is what it had accepted: 1_0, 1_1, 2_0, 2_1, 2_2$"
    ):
        launcher.poll(0)
    for run in runs:
        launcher.kill(run)
    assert [ended.begun for ended in launcher.poll(0)] == [True] * 5 + [False] * 5
    assert launcher.arrays == [0, 0] and not launcher.jobs


def test_what_slurm_refuses_is_one_line(sweep, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "sacct"):
        (commands / name).write_text(
            "#!/bin/sh\necho 'sbatch: error: invalid partition: gpux' >&2; exit 1"
        )
        (commands / name).chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    options = "hydra/launcher=slurm", "hydra.launcher.poll_seconds=0.1", "hydra.sweeper.compare=true"
    pytest.importorskip("submitit")
    code, _, err = finish(sweep("seed=0,1", *options, PATH=path))
    assert (code, err) == (1, "hydra/launcher=slurm: sbatch: error: invalid partition: gpux\n")
    assert not states(tmp_path)


@pytest.mark.slow
def test_slurms_jobs_keep_the_contracts_on_this_machine(sweep, tmp_path):
    pytest.importorskip("submitit")
    lose_some_and_find_them(lambda **how: sweep("seed=0,1,2,3", *SLURM, **how), tmp_path, "job")
    code, out, err = finish(sweep("seed=0,1,2,3", *SLURM))
    assert code == 0 and "2 finished already, 2 to go" in out, err
    assert set(states(tmp_path).values()) == {"finished"}
    assert summary_of(tmp_path / "sweep" / run_name(seed=2))["resumed_after_epoch"] == 1
    assert (tmp_path / "sweep" / run_name(seed=0) / "node").read_text() == "local"


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_keeps_the_contracts(sweep, tmp_path, ray_cluster):
    where = *RAY, f"hydra.launcher.ray.init.address='{ray_cluster}'"
    lose_some_and_find_them(lambda **how: sweep("seed=0,1,2,3", *where, **how), tmp_path, "Ray task")
    nodes = {path.read_text() for path in (tmp_path / "sweep").glob("*/node")}
    assert len(nodes) == 2
    code, out, err = finish(sweep("seed=0,1,2,3"))  # and what Ray left, other launchers take up
    assert code == 0 and "2 finished already, 2 to go" in out, err


@pytest.mark.parametrize(("extra", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_launcher_that_is_not_installed_says_what_to_install(extra, package, sweep, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / f"{package}.py").write_text(f"raise ImportError('none', name='{package}')")
    code, _, err = finish(sweep(f"hydra/launcher={extra}", PYTHONPATH=str(blocked)))
    assert code == 1 and f"{package} is not installed here" in err and f"[sweeper,{extra}]" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [SLURM, (*RAY, "hydra.launcher.ray.remote.num_cpus=0.5")])
def test_a_clusters_run_of_two_processes_takes_the_steps_of_one(launcher, sweep, tmp_path, monkeypatch):
    pytest.importorskip("ray" if "ray" in launcher[0] else "submitit")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    code, out, err = finish(sweep("seed=0,1", *launcher, "hydra.launcher.processes=2"))
    assert code == 0, out + err
    (tmp_path / "sweep").rename(tmp_path / "two")
    assert (tmp_path / "two" / run_name(seed=1) / "together").read_text() == "2"
    assert finish(sweep("seed=0,1"))[0] == 0
    both = tmp_path / "sweep" / run_name(seed=1)
    rows = [
        np.genfromtxt(path, delimiter=",", skip_header=1)
        for path in (tmp_path / "two" / run_name(seed=1) / "metrics.csv", both / "metrics.csv")
    ]
    np.testing.assert_allclose(rows[0][:, 1], rows[1][:, 1], rtol=1e-2)  # losses, up to rounding


@pytest.mark.slow
def test_a_run_of_two_processes_that_fails_leaves_its_ray_worker_usable(sweep, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    options = (*RAY, "hydra.launcher.ray.remote.num_cpus=1", "hydra.launcher.processes=2")
    code, out, err = finish(sweep("seed=0,1,2,3", *options, faults="arcface1:raise"))
    assert code == 1 and "1 of 4 runs failed" in err, out + err
    assert list(states(tmp_path).values()) == ["finished", "failed", "finished", "finished"]


@pytest.mark.slow
def test_a_follower_that_ends_is_named(sweep, tmp_path):
    pytest.importorskip("submitit")
    process = sweep("seed=0,1", *SLURM, "hydra.launcher.processes=2", faults="arcface1:hang")
    wait_for(tmp_path / "sweep" / run_name(seed=1) / "hangs")
    leader = int((tmp_path / "sweep" / run_name(seed=1) / "hangs").read_text())
    children = subprocess.run(
        ["pgrep", "-P", str(leader)], capture_output=True, text=True
    ).stdout.split()
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    (follower,) = [int(child) for child, line in commands.items() if b"src.train" in line]
    os.kill(leader, signal.SIGKILL)  # and the follower ends with it
    deadline = time.monotonic() + 600
    while is_alive(follower):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert finish(process)[0] == 1


def test_a_follower_that_ends_before_it_connects_is_not_waited_for():
    ready, says_ready = os.pipe()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    with pytest.raises(UserError, match="process 1 of 2 has ended before it could train"):
        wait_until_ready([ended], ready)
    os.write(says_ready, b"1")
    wait_until_ready([ended], ready)


def test_a_process_that_has_ended_unnoticed_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 600
    while is_alive(process.pid):  # though its parent has not asked
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.wait()


@pytest.mark.parametrize("count", ["0", "1.5", "two"])
def test_a_number_of_processes_that_is_none_is_refused_in_one_line(count, sweep, tmp_path):
    code, _, err = finish(sweep("seed=0,1", *SLURM, f"hydra.launcher.processes={count}"))
    assert (code, err) == (1, f"hydra.launcher.processes={count}: expected a whole number from 1\n")
