"""The launchers for other machines keep the contracts of the one for this: on submitit's local executor,
and on a Ray cluster of two nodes on loopback."""

import os
import re
import signal

import pytest

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
