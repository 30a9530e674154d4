"""What a sweep survives, and what it leaves behind of what it does not."""

import ctypes
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from PIL import Image

from src.config.compose import CONF
from src.errors import UserError
from src.sweeps import workers
from src.training import load_checkpoint
from tests.conftest import FAST, ROOT, summary_of

from .conftest import FAULTY, QUICK, finish, run_name, states, wait_for


def contents(folder) -> dict:
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "multirun.yaml")
    }


def test_four_bad_runs_of_twelve_end_alone_are_named_and_run_again(sweep, tmp_path):
    arguments = ["loss=cosface,arcface", "seed=0,1,2,3,4,5"]
    process = sweep(*arguments, faults="arcface1:diverge arcface2:raise cosface3:abort cosface4:hang")
    victim = tmp_path / "sweep" / run_name(loss="cosface", seed=4)
    os.kill(int(wait_for(victim / "hangs").read_text()), signal.SIGKILL)
    code, out, err = finish(process)

    assert code == 1 and "4 of 12 runs failed" in err and "Traceback" not in err
    bad = {
        run_name(loss="arcface", seed=1): ("diverged", "not a finite number at epoch 2", "diverged"),
        run_name(loss="arcface", seed=2): ("failed", "one by zero", "Traceback"),
        run_name(loss="cosface", seed=3): ("failed", "SIGABRT", "faults.py"),
        victim.name: ("failed", "SIGKILL", "SIGKILL"),
    }
    found = states(tmp_path)
    assert len(found) == 12 and sum(state == "finished" for state in found.values()) == 8
    table = re.sub(r"[\s│]+", "", out[out.index("runs without a result") :])
    for name, (state, why, logged) in bad.items():
        folder = tmp_path / "sweep" / name
        assert found[name] == state and why in summary_of(folder)["error"]
        assert logged in (folder / "train.log").read_text()
        assert name in table

    good = {name: contents(tmp_path / "sweep" / name) for name in found if name not in bad}
    code, out, err = finish(sweep(*arguments))
    assert code == 0, err
    assert "12 runs, 8 finished already, 4 to go" in out and "4/4" in out
    assert set(states(tmp_path).values()) == {"finished"}
    assert {name: contents(tmp_path / "sweep" / name) for name in good} == good
    resumed = summary_of(victim)
    assert resumed["resumed_after_epoch"] == 1


@pytest.mark.parametrize("asked", ["device.graph=off,auto", "device.tf32=true"])
def test_what_does_nothing_on_this_machine_is_refused_before_the_first_run(asked, sweep, tmp_path):
    code, _, err = finish(sweep("seed=0,1", asked))
    assert code == 1 and "no run was started, because these are not valid:" in err
    assert "does nothing on cpu, only on cuda; leave it out" in err
    assert not states(tmp_path)


@pytest.mark.parametrize(
    ("how", "said"), [("exit", "exit code 0"), (signal.SIGTERM, "SIGTERM"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_however_a_process_ends_the_others_go_on(how, said, sweep, tmp_path):
    fault = "exit" if how == "exit" else "hang"
    process = sweep("seed=0,1", "hydra.launcher.workers=1", faults=f"arcface0:{fault}")
    bad = tmp_path / "sweep" / run_name(seed=0)
    if how != "exit":
        os.kill(int(wait_for(bad / "hangs").read_text()), how)
    code, _, err = finish(process)
    assert code == 1 and "1 of 2 runs failed" in err
    assert states(tmp_path) == {bad.name: "failed", run_name(seed=1): "finished"}
    assert said in summary_of(bad)["error"]


def test_a_run_begins_while_the_last_one_draws_and_a_crash_there_loses_pictures_only(sweep, tmp_path):
    process = sweep(
        "seed=0,1,2",
        "hydra.launcher.workers=1",
        faults="arcface0:draw_long arcface2:draw_and_abort",
    )
    code, out, err = finish(process)
    assert code == 0, err
    assert set(states(tmp_path).values()) == {"finished"}
    assert (tmp_path / "sweep" / run_name(seed=0) / "went_on").exists()
    crashed = tmp_path / "sweep" / run_name(seed=2)
    assert f"{crashed.name} is finished, perhaps without all figures or W&B: its process crashed" in out
    assert "SIGABRT" in (crashed / "train.log").read_text().splitlines()[-1]
    assert "loss" in summary_of(crashed)["config"] and (crashed / "embeddings.npz").exists()
    code, out, err = finish(sweep("seed=0,1,2"))
    assert code == 0 and "3 runs, 3 finished already, 0 to go" in out and "lacks figures" not in err


def test_runs_whose_figures_were_lost_are_named_with_the_command_that_draws_them(sweep, tmp_path):
    drawn = "plots.figures=true"
    code, _, err = finish(sweep("seed=0,1", drawn, faults="arcface0:draw_and_abort"))
    lost = f"1 finished run lacks figures: python -m src.draw {os.path.relpath(tmp_path / 'sweep')}"
    assert code == 0 and lost in err, err
    code, _, err = finish(sweep("seed=0,1", drawn))
    assert code == 0 and lost in err


def test_a_sweep_that_is_interrupted_while_a_run_draws_has_its_result(sweep, tmp_path):
    process = sweep("seed=0,1", "hydra.launcher.workers=1", faults="arcface0:draw_and_hang")
    folder = tmp_path / "sweep" / run_name(seed=0)
    drawing = int(wait_for(folder / "hangs").read_text())
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130 and "Traceback" not in err
    assert states(tmp_path)[folder.name] == "finished"
    assert f"{folder.name} is finished, perhaps without all figures or W&B: the sweep was ended" in out
    assert "interrupted while it drew; to draw again: " in (folder / "train.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(drawing, 0)


def test_a_run_that_cannot_even_be_recorded_ends_alone(sweep, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / run_name(seed=0)).write_text("a file where a folder should be")
    code, _, err = finish(sweep("seed=0,1"))
    assert code == 1 and "1 of 2 runs failed" in err and "Traceback" not in err
    assert states(tmp_path) == {run_name(seed=1): "finished"}


def test_ctrl_c_in_the_first_seconds_and_twice_ends_the_sweep(sweep, tmp_path):
    process = sweep("seed=0,1", "epochs=2000")
    wait_for(tmp_path / "sweep" / "multirun.yaml")  # planned, not begun
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    code, _, err = finish(process)
    assert code == 130 and "Traceback" not in err and "To resume" in err
    assert "finished" not in states(tmp_path).values()


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_ctrl_c_that_does_not_wake_the_main_thread_is_seen_all_the_same(kind, sweep, tmp_path):
    search = ("hydra/sweeper=search", "hydra.sweeper.trials=1", "margin.value=interval(0.1,0.6)")
    process = sweep(*search * (kind == "search"), faults="arcface0:hang")
    while not list(tmp_path.glob("sweep/*/hangs")):
        time.sleep(0.05)
    *_, other = map(int, os.listdir(f"/proc/{process.pid}/task"))
    # As one that comes a moment too early.
    assert ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGINT) == 0
    code, _, err = finish(process)
    assert code == 130 and "ending the current runs" in err and "To resume" in err
    assert "finished" not in states(tmp_path).values()


def test_a_run_that_takes_too_long_is_ended(sweep, tmp_path):
    folder = tmp_path / "sweep" / run_name()
    code, _, err = finish(sweep("seed=0", "hydra.launcher.timeout=5", faults="arcface0:hang"))
    assert code == 1 and "1 of 1 run failed" in err
    assert states(tmp_path) == {folder.name: "failed"}
    assert "timeout=5" in summary_of(folder)["error"]
    assert "timeout=5" in (folder / "train.log").read_text()


def test_ctrl_c_while_a_sweep_is_planned_ends_it(sweep, tmp_path):
    process = sweep("seed=range(200)", "loss=cosface,arcface")
    process.wait_for("planning 400 runs\n")
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130 and "Traceback" not in err and "To resume" in err
    assert states(tmp_path) == {}


@pytest.mark.parametrize("choice", ["none", "disabled", "stdout", "default"])
def test_hydras_own_job_logging_can_be_chosen(choice, composed_for_workers):
    """Only a handler that is there is kept; the rest of a choice is Hydra's."""
    config = composed_for_workers(f"hydra/job_logging={choice}")
    workers.log_to_file_alone(config)
    root = (config.hydra.job_logging or {}).get("root") or {}
    assert root.get("handlers") == {"default": ["file"], "stdout": ["console"]}.get(choice)
    run_logging(config)


@pytest.fixture
def composed_for_workers(tmp_path):
    def of(*overrides: str):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            config = hydra.compose_config("train", list(overrides), RunMode.MULTIRUN)
        with open_dict(config):
            config.hydra.runtime.output_dir = str(tmp_path)
        return config

    return of


def run_logging(config) -> None:
    """As Hydra configures it in a job, in a process of its own: it changes all of `logging`."""
    logged = OmegaConf.to_container(config.hydra.job_logging, resolve=True)
    code = f"import logging.config; logging.config.dictConfig({logged!r})" if logged["root"] else ""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_fail_fast_ends_the_sweep_with_the_first_failure(sweep, tmp_path):
    code, out, err = finish(
        sweep(
            "seed=0,1,2,3,4,5,6,7", "epochs=40", "hydra.sweeper.fail_fast=true", faults="arcface0:raise"
        )
    )
    found = states(tmp_path)
    assert code == 1 and len(found) <= 3 and "failed" in found.values()
    assert "not started" in out and "finished" not in found.values()
    # What the sweep ended is not said to have failed.
    assert list(found.values()).count("failed") == 1 and out.count(" failed: ") == 1
    assert "1 of 8 runs failed, " in err and " not started" in err


def test_a_run_that_draws_is_not_ended_by_a_failure(sweep, tmp_path):
    options = "hydra.launcher.workers=1", "hydra.sweeper.fail_fast=true"
    code, _, _ = finish(sweep("seed=0,1,2", *options, faults="arcface0:draw_long arcface1:raise"))
    assert code == 1 and list(states(tmp_path).values()) == ["finished", "failed"]
    assert (tmp_path / "sweep" / run_name(seed=0) / "went_on").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])  # all of its terminal's processes
def test_a_sweep_that_is_interrupted_says_how_to_go_on(how, sweep, tmp_path):
    process = sweep("seed=0,1,2,3", faults="arcface1:hang")
    hanging = tmp_path / "sweep" / run_name(seed=1)
    wait_for(hanging / "hangs")
    wait_for(tmp_path / "sweep" / run_name(seed=0) / "summary.json")
    os.killpg(process.pid, how)
    code, _, err = finish(process)
    assert code == 130 and "Traceback" not in err
    assert re.search(r"To resume: python -m src\.train -m .*hydra\.sweep\.dir=", err)
    assert states(tmp_path)[run_name(seed=0)] == "finished"
    assert states(tmp_path)[hanging.name] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(int((hanging / "hangs").read_text()), 0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_hydras_own_sweeper_with_this_launcher_ends_in_order_too(how, template, tmp_path):
    words = ["-m", "--config-dir=tests/conf", *QUICK, FAULTY, "hydra/sweeper=basic", "seed=0,1,2"]
    words += ["hydra.launcher.workers=1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    process = template.start("src.train", *words, env=os.environ | {"FAULTS": "arcface1:hang"})
    hanging = tmp_path / "sweep" / run_name(seed=1)
    try:
        worker = int(wait_for(hanging / "hangs").read_text())
        os.kill(process.pid, how)
        code, _, err = finish(process)
    finally:
        process.kill()
    assert (code, err) == (130, "interrupted\n")
    assert states(tmp_path) == {run_name(seed=0): "finished", hanging.name: "interrupted"}
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_folder_for_temporary_files_that_is_too_long_for_sockets_is_one_line(tmp_path):
    long = tmp_path / ("x" * 105)
    long.mkdir()
    code = "from src.sweeps.forkserver import workers_context; workers_context()"
    environment = os.environ | {"TMPDIR": str(long)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    said = (
        f"UserError: TMPDIR={long}: too long for the sockets of a sweep's processes; name a shorter one"
    )
    assert done.stderr.decode().splitlines()[-1].endswith(said)


def test_too_few_open_files_are_one_line(monkeypatch):
    limit = 24, 24
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit)
    monkeypatch.setattr(resource, "setrlimit", lambda _, asked: pytest.fail(f"{asked} of {limit}"))
    workers.check_files(1)
    with pytest.raises(UserError, match="ulimit -n 24: too few open files for 3 runs at a time"):
        workers.check_files(3)
    raised, limit = [], (24, 4096)
    monkeypatch.setattr(resource, "setrlimit", lambda _, asked: raised.append(asked))
    workers.check_files(3)
    assert raised == [(34, 4096)]


def test_runs_die_with_a_sweep_that_is_killed(sweep, tmp_path):
    process = sweep("seed=0,1", faults="arcface0:hang")
    worker = int(wait_for(tmp_path / "sweep" / run_name(seed=0) / "hangs").read_text())
    process.kill()
    deadline = time.monotonic() + 300
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.05)


def test_a_run_gives_the_same_numbers_alone_and_in_a_sweep(sweep, command, tmp_path):
    assert finish(sweep("seed=0,1", "hydra.launcher.workers=2", "device.threads=1"))[0] == 0
    alone = command("--config-dir=tests/conf", *FAST, FAULTY, "seed=1")
    assert alone.returncode == 0
    ours = tmp_path / "sweep" / run_name(seed=1)
    assert (ours / "metrics.csv").read_bytes() == (tmp_path / "out" / "metrics.csv").read_bytes()
    assert summary_of(ours)["identity"] == summary_of(tmp_path / "out")["identity"]


@pytest.mark.slow
def test_a_sweep_killed_ten_times_ends_as_if_it_had_not_been(sweep, tmp_path):
    arguments = ["loss=arcface,elasticface_arc", "seed=0,1,2,3,4,5,6,7", "epochs=30"]
    assert finish(sweep(*arguments))[0] == 0
    (tmp_path / "sweep").rename(tmp_path / "undisturbed")

    moments, finished, killed = random.Random(0), {}, 0
    while killed < 10:
        process = sweep(*arguments)
        time.sleep(moments.uniform(1, 4))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed += 1
        if not (tmp_path / "sweep").exists():
            continue
        for name, state in states(tmp_path).items():
            if state == "finished":
                now = contents(tmp_path / "sweep" / name)
                assert finished.setdefault(name, now) == now, f"{name} was finished, and changed"
    print(f"killed {killed} times, {len(finished)} runs finished meanwhile")
    assert killed == 10
    code, _, err = finish(sweep(*arguments))
    assert code == 0, err

    names = [path.name for path in (tmp_path / "undisturbed").glob("*/")]
    assert len(names) == 16 and states(tmp_path) == dict.fromkeys(sorted(names), "finished")
    for name in names:
        ours, whole = tmp_path / "sweep" / name, tmp_path / "undisturbed" / name
        for file in ("metrics.csv", "embeddings.npz"):
            assert (ours / file).read_bytes() == (whole / file).read_bytes(), (name, file)
        assert summary_of(ours)["metrics"] == summary_of(whole)["metrics"]
        assert load_checkpoint(ours / "checkpoint.pt")["epoch"] == 30
        for picture in (ours / "plots").glob("*.png"):
            Image.open(picture).verify()
        assert not list(ours.rglob("*.tmp"))
        if name in finished:
            assert contents(ours) == finished[name]
