"""The installed command: help at once, any directory, completion in a real shell."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from src.cli import COMMANDS, GROUPS, choices
from src.commands import PROGRAM, command
from tests.conftest import ROOT

SCRIPT = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from src.cli import main; main()"
OPTIONS = [
    *("model=mlp", "epochs=1", "logger=csv", "device=cpu", "device.threads=1"),
    "plots.figures=false",  # which would take longer than all else
]


@pytest.fixture
def typed(tmp_path):
    """Run the command, as its installed script does, in a directory of its own."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("raise SystemExit('somebody else's src')")

    def run(*words: str) -> subprocess.CompletedProcess:
        python = [sys.executable, "-c", SCRIPT, *words]
        return subprocess.run(python, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_help_names_every_command_group_and_choice_and_imports_nothing(typed):
    shown = typed("--help").stdout
    assert shown == typed().stdout
    for name in COMMANDS:
        assert f"  {name} " in shown and (ROOT / "src" / f"{name}.py").is_file()
    folders = {p.name for p in (ROOT / "conf").iterdir() if p.is_dir() and p.name != "hydra"}
    assert folders == {group for group in GROUPS if "/" not in group} | {
        *("device", "logger", "experiment_loss")
    }
    assert all(", ".join(choices(group)) in shown for group in GROUPS)
    looking = "; sys.argv[1:] = ['--help']; main(); print(sorted(sys.modules))"
    watched = SCRIPT.replace("; main()", looking)
    modules = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True).stdout
    assert "'torch'" not in modules and "'hydra'" not in modules


def test_a_command_runs_anywhere_whatever_else_is_called_src_there(typed, tmp_path):
    done = typed("train", *OPTIONS, "hydra.run.dir=here")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["state"] == "finished"


def test_what_a_command_says_to_type_is_the_installed_command(typed, tmp_path, monkeypatch):
    (tmp_path / "sweep").mkdir()
    said = typed("embed", "best:sweep", "x.png", "--out", "x.npz").stderr
    assert "angular-penalty compare sweep does" in said
    assert typed("query", "--help").stdout.startswith("usage: angular-penalty query")
    assert command("embed", "best:a b", "<folder>") == "python -m src.embed 'best:a b' <folder>"
    monkeypatch.setenv(PROGRAM, "angular-penalty")
    assert command("evaluate", "x", "dataset.root=<f>") == "angular-penalty evaluate x dataset.root=<f>"


def test_a_command_that_there_is_not_is_answered_with_the_nearest(typed):
    assert typed("compar").stderr == "compar: no such command; did you mean compare?\n"
    assert "no such command; train, compare," in typed("xyz").stderr


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("com", ["compare "]),
        ("train loss=cosf", ["loss=cosface "]),
        ("train optimizer.l", ["optimizer.layer_decay=", "optimizer.lr="]),
        ("train loss=cosface schedule=st", ["schedule=step "]),
        ("train -m hydra/swee", ["hydra/sweeper="]),
        ("compare mul", []),
        ("evaluate outputs/a dataset=mani", ["dataset=manifest "]),
        ("embed best:multirun/a manifest dataset=manifest dataset.file", ["dataset.file="]),
        ("embed best:multirun/a photos", []),
        ("outliers outputs/a dataset=mani", ["dataset=manifest "]),
    ],
)
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_groups_choices_and_keys(line, offered, tmp_path):
    installed = tmp_path / "angular-penalty"
    installed.write_text(f"#!{sys.executable}\n{SCRIPT}\n")
    installed.chmod(0o755)
    shell = f"""
    eval "$(angular-penalty --completion bash)"
    COMP_LINE="angular-penalty {line}"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(); _angular_penalty
    [ ${{#COMPREPLY[@]}} -eq 0 ] || printf '%s|' "${{COMPREPLY[@]}}"
    complete -p angular-penalty >&2"""
    where = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    how = {"cwd": tmp_path, "env": where, "capture_output": True, "text": True}
    done = subprocess.run(["bash", "-c", shell], **how)
    assert done.stdout.split("|")[:-1] == offered, done.stderr
    assert "-F _angular_penalty angular-penalty" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "epochs=0",
        "dataset=image_folder",
        "loss.inter_topk=99",
    ],
)
def test_a_run_that_is_refused_leaves_no_folder(wrong, typed, tmp_path):
    """What only the data or a constructor refuses, too."""
    there = {"dataset=image_folder": "dataset.root=nowhere"}
    before = sorted(tmp_path.rglob("*"))
    done = typed("train", *OPTIONS, wrong, *([there[wrong]] if wrong in there else []))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refused_run_takes_nothing_with_it(typed, tmp_path):
    assert typed("train", *OPTIONS, "hydra.run.dir=kept").returncode == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for folder in ("kept", "mine"):
        assert typed(
            "train", *OPTIONS, "dataset.val_fraction=0.999", f"hydra.run.dir={folder}"
        ).returncode
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    assert (tmp_path / "kept" / "checkpoint.pt").exists() and (tmp_path / "kept" / ".hydra").is_dir()


def test_relative_paths_begin_where_they_were_typed_though_hydra_moves(typed, tmp_path, folder_of):
    root = folder_of("people")
    data = ["dataset=image_folder", f"dataset.root={root.relative_to(tmp_path)}", "batch_size=4"]
    data += ["evaluation=closed_set", "hydra.job.chdir=true", "dataset.val_fraction=0.4"]
    first = typed("train", *OPTIONS, *data, "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    assert f"-> {tmp_path / 'first'}" in first.stdout + first.stderr
    data += ["init.from=first", "hydra.sweeper.baselines=false"]
    sweep = typed("train", "-m", *OPTIONS, *data, "seed=0,1", "hydra.sweep.dir=sweep")
    assert sweep.returncode == 0, sweep.stderr
    assert len(list((tmp_path / "sweep").glob("*/summary.json"))) == 2


def test_what_an_earlier_attempt_left_stays_though_the_next_is_refused(typed, tmp_path):
    folder = tmp_path / "run"
    diverges = ["optimizer=sgd", "optimizer.lr=100000", "loss=softmax"]
    assert typed("train", *OPTIONS, *diverges, "hydra.run.dir=run").returncode
    before = (folder / "train.log").read_text()
    done = typed("train", *OPTIONS, *diverges, "batch_size=100000", "hydra.run.dir=run")
    assert "batch_size=100000" in done.stderr
    assert (folder / "train.log").read_text().startswith(before)
