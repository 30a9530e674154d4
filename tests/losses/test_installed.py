"""A wheel: the losses, as `angular_penalty`, need torch and what torch requires, and nothing else; with
the other packages, the commands work in an empty folder."""

import importlib.metadata as metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

A_STEP = """
import importlib.util, torch, angular_penalty as ap
for name in ("numpy", "hydra", "omegaconf", "wandb", "src"):
    assert importlib.util.find_spec(name) is None, f"{name} is here: this test shows nothing"
x, y = torch.randn(8, 4, requires_grad=True), torch.arange(8) % 3
head = ap.ArcFace(4, 3, margin=0.5, scale=64.0)
(head(x, y) + ap.AngularPenaltySMLoss(4, 3, "cosface")(x, y)).backward()
assert x.grad.isfinite().all() and head.logits(x).shape == (8, 3)
"""


def required_by(name: str, found: set[str]) -> set[str]:
    """The names of a distribution and of all that it requires on this machine."""
    found.add(name)
    for line in metadata.requires(name) or ():
        need = Requirement(line)
        other = re.sub(r"[-_.]+", "-", need.name).lower()
        if other not in found and (need.marker is None or need.marker.evaluate({"extra": ""})):
            required_by(other, found)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages with the project's wheel, built from its files and nothing else."""
    root = tmp_path_factory.mktemp("wheel")
    source, built, site = root / "source", root / "built", root / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("src", "conf", "hydra_plugins", "docs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", built, source]
    subprocess.run(wheel, check=True, capture_output=True)
    install = [*pip, "install", "--no-index", "--no-deps", "--target", site, *built.glob("*.whl")]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_the_losses_need_torch_alone(site, tmp_path):
    for name in required_by("torch", set()):
        here = metadata.distribution(name)
        tops = {Path(file).parts[0] for file in here.files if ".." not in Path(file).parts}
        for top in tops - {"__pycache__"}:
            if not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(here.locate_file(top))
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    paths += [f"{paths[0]}/lib-dynload", str(site), str(tmp_path)]
    alone = f"import sys; sys.path[:] = {paths!r}\n{A_STEP}"
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", alone]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (site / "angular_penalty" / "py.typed").is_file()
    # The command and the API need more, and say what.
    for code in ("import angular_penalty.api", "from angular_penalty_cli import main; main()"):
        command[-1] = f"import sys; sys.path[:] = {paths!r}\n{code}"
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith("pip install 'angular-penalty[sweeper]'")


def test_a_wheel_has_every_file_that_the_commands_read(site):
    project = site / "angular_penalty_project"
    for folder in ("src", "conf", "hydra_plugins"):
        here = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        there = {path.relative_to(project) for path in (project / folder).rglob("*") if path.is_file()}
        assert {path for path in here if "__pycache__" not in path.parts} == {
            path for path in there if "__pycache__" not in path.parts
        }


def test_an_installed_command_trains_sweeps_and_compares_in_an_empty_folder(site, tmp_path):
    """With this environment's packages, and the wheel's project rather than the checkout."""
    script = "from angular_penalty_cli import ROOT, main; print(ROOT, flush=True); main()"
    fast = [
        "model=mlp",
        "epochs=1",
        "logger=csv",
        "device=cpu",
        "device.threads=1",
        "plots.figures=false",
    ]

    def typed(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == str(site / "angular_penalty_project")
        return done.stdout.splitlines()

    typed("train", "loss=arcface", *fast, "hydra.run.dir=here")
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert summary["state"] == "finished" and summary["code"]["commit"] is None
    said = typed("train", "-m", "loss=cosface,arcface", *fast, "hydra.sweep.dir=sweep")
    assert any("angular-penalty train" in line for line in said)
    assert (tmp_path / "sweep" / "comparison" / "report.html").is_file()
    assert any("test accuracy" in line for line in typed("compare", "sweep"))
