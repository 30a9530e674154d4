"""`pip install .` gives the losses, as `angular_penalty`, to an environment that has torch and what
torch itself requires, and nothing else: neither Hydra nor numpy."""

import importlib.metadata as metadata
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

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


def test_the_losses_need_torch_alone(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for part in ("losses", "api", "cli"):
        shutil.copytree(ROOT / "src" / part, source / "src" / part)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    install += ["--no-build-isolation", "--disable-pip-version-check", "--target", site, source]
    subprocess.run(install, check=True, capture_output=True)
    for name in required_by("torch", set()):
        here = metadata.distribution(name)
        tops = {Path(file).parts[0] for file in here.files if ".." not in Path(file).parts}
        for top in tops - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(here.locate_file(top))
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    paths += [f"{paths[0]}/lib-dynload", str(site)]
    alone = f"import sys; sys.path[:] = {paths!r}\n{A_STEP}"
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", alone]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (site / "angular_penalty" / "py.typed").is_file()
    # The command and the API are for a checkout, and say so.
    for code in ("import angular_penalty.api", "from angular_penalty_cli import main; main()"):
        command[-1] = f"import sys; sys.path[:] = {paths!r}\n{code}"
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        said = "works in a checkout: pip install -e '.[sweeper]' there"
        assert done.stderr.splitlines()[-1].endswith(said)
