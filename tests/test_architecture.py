"""Three rings, arrows inwards: what may import what."""

import ast
import re
import sys
from pathlib import Path

from tests.conftest import ROOT

SRC = ROOT / "src"
OUTER = {"api", "cli", "train", "compare", "draw", "evaluate", "embed", "export", "outliers", "query"}
OUTER |= {"sync"}
MIDDLE = {"config", "run", "analysis", "sweeps", "tracking"}
INNER = {"training", "models", "datasets", "evaluation", "plots", "losses"}
SHARED = {
    "errors": MIDDLE | OUTER | {"commands", "foreign"},
    "durable": MIDDLE | INNER,
    "foreign": MIDDLE | INNER | OUTER,
    "commands": MIDDLE | OUTER,
    "words": OUTER | MIDDLE | INNER,
    "torchvision_compat": INNER,
}
# Within a ring: who may import whom.
BESIDE = {
    "analysis": {"config", "run", "tracking"},
    "sweeps": {"config", "run", "analysis", "tracking"},
    "run": {"config", "tracking"},
    "tracking": {"config"},
    "config": set(),
    "evaluation": {"datasets"},
    "plots": {"evaluation", "datasets"},
    # BadArgument is theirs, and goes with the losses wherever those are installed alone.
    "training": {"losses"},
    "models": {"losses"},
    "datasets": {"losses"},
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


def test_arrows_point_inwards():
    for path in FILES:
        part = part_of(path)
        for other in imported(path):
            if other in SHARED:
                allowed = part in SHARED[other]
            elif part in OUTER:
                allowed = other not in OUTER
            elif part in MIDDLE:
                allowed = other in INNER | BESIDE[part]
            elif part in INNER:
                allowed = other in BESIDE[part]
            else:
                allowed = part == "__init__" or part in SHARED
            assert allowed, (path, other)


def test_one_place_knows_a_key():
    for path in FILES:
        text = path.read_text()
        assert part_of(path) == "config" or 'config["' not in text, path
        assert "hydra._internal" not in text, path


def test_the_losses_need_torch_alone_and_one_place_imports_wandb():
    for path in FILES:
        roots = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add(node.module.split(".")[0])
        if part_of(path) == "losses":
            kernels = {"triton"} if path.name == "kernels.py" else set()  # read where they are asked for
            assert roots <= {"torch", *kernels, *sys.stdlib_module_names}, path
        assert "wandb" not in roots or part_of(path) == "tracking", path


def test_inner_rings_name_no_configuration_key():
    groups = "loss|margin|scale|model|dataset|optimizer|schedule|device|logger|plots|augment|hydra"
    key = re.compile(rf"(?<![\w.])({groups})(\.\w+)+=|(?<![\w.])(loss|dataset|evaluation|model)=\w")
    for path in FILES:
        if part_of(path) not in INNER:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not key.search(node.value), (path, node.value)
