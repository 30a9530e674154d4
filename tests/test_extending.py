"""docs/extending.md, executed: somebody's loss, backbone, data set and launcher, from their folder."""

import os
import re
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.run.load import load_trained
from src.training import load_checkpoint, save_checkpoint
from tests.conftest import FAST, ROOT, summary_of
from tests.sweeps.conftest import wait_for

PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.S)
COMMANDS = re.search(r"```sh\n(.*?)```", PAGE, re.S)[1].splitlines()
QUICK = ("epochs=2", "batch_size=16", "logger=csv", "device=cpu", "plots.figures=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, and images of ten classes: noise around a pattern each."""
    root = tmp_path_factory.mktemp("theirs")
    for name, text in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    patterns = rng.integers(0, 200, (10, 1, 8, 8))
    images = (patterns[labels] + rng.integers(0, 50, (200, 1, 8, 8))).astype(np.uint8)
    np.savez(root / "points.npz", images=images, labels=labels)
    return root


@pytest.fixture(scope="module")
def run(folder, template):
    """run("python -m …") -> the finished process, `mine` on its path."""

    def of(command: str, *more: str, check: bool = True, **environment: str):
        command = command.replace("<folder>", str(folder)).replace("multirun/<sweep>", f"{folder}/sweep")
        command = command.replace("<run>", f"{folder}/run")
        words = [*shlex.split(command)[2:], *more]  # without python -m
        kept = os.environ | {"PYTHONPATH": str(folder)} | environment
        done = template.start(*words, env=kept).finished()
        assert not check or done.returncode == 0, done.stderr
        return done

    return of


def command_of(module: str, nth: int = 0) -> str:
    return [line for line in COMMANDS if f"-m src.{module} " in line][nth]


@pytest.fixture(scope="module")
def trained(run, folder):
    run(command_of("train"), *QUICK, "device.threads=1", f"hydra.run.dir={folder}/run")
    return folder / "run"


def test_each_part_is_short():
    assert [name for name, _ in FILES] == [
        *("mine/losses.py", "conf/loss/fading.yaml", "mine/models.py", "conf/model/patches.yaml"),
        *("mine/data.py", "conf/dataset/points.yaml"),
        *("mine/launchers.py", "conf/hydra/launcher/ssh.yaml"),
    ]
    for name, text in FILES:
        assert len(text.splitlines()) <= (45 if "launchers" in name else 30), name


def test_all_three_train_together(trained):
    summary = summary_of(trained)
    assert summary["state"] == "finished" and summary["config"]["choices"]["loss"] == "fading"
    assert summary["code"]["sources"].count("-") == 1  # this project's sources, and the package's


def test_a_sweep_over_the_losss_own_option_is_compared(run, folder):
    data = ("model=patches", "dataset=points", f"dataset.root={folder}", *QUICK)
    done = run(command_of("train", 1), *data, f"hydra.sweep.dir={folder}/sweep")
    assert "4 runs and 6 of baselines" in done.stdout
    said = run(command_of("compare")).stdout
    assert "fading power=1" in said and "fading power=2" in said
    again = run(command_of("train", 1), *data, f"hydra.sweep.dir={folder}/sweep")
    assert re.search(r"4 runs.* finished already, 0 to go", again.stdout)
    # Another formula in the package is other code: nothing is passed off as its result.
    losses = folder / "mine" / "losses.py"
    text = losses.read_text()
    try:
        losses.write_text(text.replace("/ 2) ** self.power", "/ 3) ** self.power"))
        edited = run(command_of("train", 1), *data, f"hydra.sweep.dir={folder}/sweep")
    finally:
        losses.write_text(text)
    # That goes for the baselines too, whose images and backbone are the package's.
    assert "10 finished by other code" in edited.stdout and "10 run again" in edited.stdout
    assert len(list((folder / "sweep" / ".stale").iterdir())) == 10


def test_a_launcher_of_ones_own_runs_a_sweep(run, folder, tmp_path):
    # This machine stands for both hosts.
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "$2" >> "$0.hosts"\nexec sh -c "$3"\n')
    (tmp_path / "ssh").chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    alone = ("hydra.sweeper.baselines=false", "hydra.sweeper.compare=false")
    data = ("model=mlp", *QUICK, *alone, f"hydra.sweep.dir={folder}/remote")
    fails = ("optimizer=faulty", f"hydra.searchpath=[file://{ROOT}/tests/conf]")
    command = command_of("train", 2)
    done = run(command, *data, *fails, check=False, PATH=path, FAULTS="arcface1:raise")
    assert "2 runs" in done.stdout and "1 of 2 runs failed" in done.stderr, done.stderr
    assert sorted((tmp_path / "ssh.hosts").read_text().split()) == ["node1", "node2"]
    states = {path.name: summary_of(path)["state"] for path in (folder / "remote").glob("seed=*")}
    assert states == {"seed=0": "finished", "seed=1": "failed"}
    assert "one by zero" in summary_of(folder / "remote" / "seed=1")["error"]


def test_a_killed_run_goes_on(run, folder, template):
    arguments = (
        *shlex.split(command_of("train").replace("<folder>", str(folder)))[2:],
        *(*QUICK, "epochs=3", "device.threads=1", "optimizer._target_=tests.faults.Adam"),
        f"hydra.run.dir={folder}/killed",
    )
    environment = os.environ | {"PYTHONPATH": str(folder), "FAULTS": "fading0:hang"}
    process = template.start(*arguments, env=environment)
    wait_for(folder / "killed" / "hangs")
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(shlex.join(["python", "-m", *arguments]))
    assert "resuming after epoch 1" in done.stdout
    summary = summary_of(folder / "killed")
    assert summary["state"] == "finished" and summary["resumed_after_epoch"] == 1


@pytest.mark.parametrize("module", ["evaluate", "embed", "export"])
def test_a_trained_run_is_used_once_its_package_is_trusted(module, trained, run, tmp_path):
    out = ("--out", str(tmp_path / "out"))
    command = command_of(module).replace(" --out embeddings.npz", "")
    refused = run(command.replace("--allow mine", ""), *out, check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "loss._target_=mine.losses.FadingMargin: not a class of this project" in refused.stderr
    run(command, *out)
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "target",
    ["os.system", "src.losses.torch.hub.load", "src.run.folder.write_json", "src.losses.nn.Linear"],
)
@pytest.mark.parametrize("group", ["loss", "model", "dataset"])
def test_a_folder_that_names_anything_else_is_refused_and_nothing_is_called(
    group, target, composed, tmp_path
):
    typed = composed(*FAST)
    config, section = typed.plain(), type(getattr(typed, group))
    kept = {key: value for key, value in config[group].items() if key in section.model_fields}
    config[group] = kept | {"_target_": target, "command": f"touch {tmp_path}/called"}
    normalisation = {"mean": [0.0], "std": [1.0]}
    described = {"classes": ("a", "b"), "image_shape": (1, 8, 8), "data": "0" * 16, "epoch": 1}
    described |= {"precision": "fp32"}
    save_checkpoint(
        tmp_path / "checkpoint.pt",
        config=config,
        normalisation=normalisation,
        backbone={},
        head={},
        **described,
    )
    assert load_checkpoint(tmp_path / "checkpoint.pt")["config"] == config
    with pytest.raises(UserError, match=rf"{group}._target_={re.escape(target)}: not a class of this"):
        load_trained(tmp_path)
    assert not (tmp_path / "called").exists()


def test_evaluating_imports_nothing_that_it_does_not_call(digits_run, tmp_path, template):
    """An optimizer or a schedule in a run folder is not looked at, so its module does not run."""
    saved = load_checkpoint(digits_run / "checkpoint.pt")
    for group in ("optimizer", "schedule"):
        saved["config"][group]["_target_"] = "payload_of_test.X"
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", **saved)
    (tmp_path / "payload_of_test.py").write_text("open('/dev/null'); raise SystemExit('it ran')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for module in (["evaluate", "--out", "e"], ["embed", "digits", "--out", "x.npz"]):
        name, *more, out = module
        words = [f"src.{name}", tmp_path / "run", *more, tmp_path / out]
        done = template.start(*words, env=environment).finished()
        assert done.returncode == 0 and "it ran" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory, template):
    folder = tmp_path_factory.mktemp("digits")
    template.start(
        "src.train", *FAST, "epochs=1", f"hydra.run.dir={folder}/run"
    ).finished().check_returncode()
    return folder / "run"


def test_weights_that_do_not_fit_are_one_line(digits_run, tmp_path):
    saved = load_checkpoint(digits_run / "checkpoint.pt")
    saved["backbone"].popitem()
    save_checkpoint(tmp_path / "checkpoint.pt", **saved)
    with pytest.raises(UserError, match="its weights do not fit Sequential"):
        load_trained(tmp_path)


def test_what_a_users_class_refuses_is_one_line_with_its_key(run, folder):
    for more, line in (
        (["loss.power=0.5"], "loss.power=0.5: expected a number ≥ 1"),
        (
            ["+loss.powers=2"],
            "loss.powers=2: FadingMargin takes no such argument, did you mean loss.power?",
        ),
        (["model.side=3"], "model.side=3: does not divide images of 8×8"),
        (["dataset.file=x.npz"], f"dataset.file=x.npz: not in {folder}"),
    ):
        done = run(command_of("train"), *more, *QUICK, f"hydra.run.dir={folder}/no", check=False)
        said = done.stderr.strip().splitlines()
        assert done.returncode == 1 and len(said) == 1 and said[0].startswith(line), done.stderr
