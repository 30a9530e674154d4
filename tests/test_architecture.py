"""Three rings, arrows inwards: what may import what, and how large a piece may be."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SRC = ROOT / "src"
OUTER = {"api", "cli", "train", "compare", "evaluate", "embed", "export", "outliers", "query", "sync"}
MIDDLE = {"run", "analysis", "sweeps", "tracking"}
INNER = {"training", "models", "datasets", "evaluation", "plots", "losses"}
SHARED = {
    "errors": MIDDLE | OUTER | {"commands"},
    "arguments": MIDDLE | INNER,
    "durable": MIDDLE | INNER,
    "commands": MIDDLE | OUTER,
    "words": OUTER | MIDDLE | INNER,
    "torchvision_compat": INNER,
}
# Within a ring: who may import whom.
BESIDE = {
    "analysis": {"run", "tracking"},
    "sweeps": {"run", "analysis", "tracking"},
    "run": {"tracking"},
    "evaluation": {"datasets"},
    "plots": {"evaluation", "datasets"},
    "training": set(),
    "tracking": set(),
    "models": set(),
    "datasets": set(),
    "losses": set(),
}
FILES = sorted(SRC.rglob("*.py"))


def part_of(path: Path) -> str:
    """`src/run/build.py` -> run, `src/train.py` -> train."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The parts of src/ that a file imports, late imports included."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if re.match(r"src\.\w", name)}
    return found - {part_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_arrows_point_inwards(path):
    part = part_of(path)
    for other in imported(path):
        if other in SHARED:
            assert part in SHARED[other], (part, other)
        elif part in OUTER:
            assert other not in OUTER, (part, other)
        elif part in MIDDLE:
            assert other in INNER | BESIDE[part], (part, other)
        elif part in INNER:
            assert other in BESIDE[part], (part, other)
        else:
            assert part == "__init__" or part in SHARED, (part, other)


def test_the_losses_need_torch_alone_and_one_place_imports_wandb():
    for path in FILES:
        roots = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add(node.module.split(".")[0])
        if part_of(path) == "losses":
            assert roots <= {"torch", *sys.stdlib_module_names}, path
        assert "wandb" not in roots or part_of(path) == "tracking", path


@pytest.mark.parametrize("part", sorted(INNER))
def test_inner_rings_name_no_configuration_key(part):
    groups = "loss|margin|scale|model|dataset|optimizer|schedule|device|logger|plots|augment|hydra"
    key = re.compile(rf"(?<![\w.])({groups})(\.\w+)+=|(?<![\w.])(loss|dataset|evaluation|model)=\w")
    for path in sorted((SRC / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not key.search(node.value), (path, node.value)


def test_pieces_are_small():
    for path in FILES:
        text = path.read_text()
        limit = 80 if path.parent == SRC and part_of(path) in OUTER else 300
        assert len(text.splitlines()) <= limit, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, (path, node.name)
