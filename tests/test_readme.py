"""README.md: its Python runs as printed, its commands are legal, and its links lead somewhere."""

import re
import shlex
import sys

import pytest

from src import losses
from src.config.compose import choices_in
from tests.conftest import ROOT, config_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = r"^    (?:DATA_ROOT=<folder> )?python -m (src\.\w+ .*?)(?: {2,}#.*)?$"
COMMANDS = re.findall(COMMAND, README, re.M)


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_python_of_a_page_runs_as_printed(page, monkeypatch):
    monkeypatch.setitem(sys.modules, "angular_penalty", losses)
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    names: dict = {}
    exec(code, names)
    assert names["logits"].shape == (32, 1000) and names["head"].weight.shape == (1000, 512)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_legal(command):
    module, *words = shlex.split(command)
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    if module != "src.train" or "--help" in words:
        return
    values = [word.replace("<folder>", "/tmp") for word in words if not word.startswith(("-m", "hydra"))]
    if "-m" in words:  # one run of the sweep
        values = [re.sub(r"=(interval\()?([^,()]*).*", r"=\2", word) for word in values]
    config_of(*values)
    assert not {"-m"} & set(words) or any("," in word or "experiment" in word for word in words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in {anchor_of(head) for head in heads}, target


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_loss_is_in_the_table():
    table = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\|[^|]+\|[^|]+\|$", table, re.M)
    assert sorted([*rows, "module"]) == choices_in(ROOT / "conf" / "loss")
