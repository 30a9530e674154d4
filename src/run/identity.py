"""Which run is it? A hash of what a configuration computes, and a record of the code that computes it.

Imports neither torch nor Hydra: whether a run is finished already has to be known at once.
"""

import functools
import hashlib
import importlib.util
import json
import math
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Where and how a run computes and reports does not change what it computes.
NOT_IDENTITY = ("logger", "device", "objective", "plots")
# What a group says about itself, not about the run: where a data set is held, the published margin that
# `margin.value` refers to, and values that other keys were interpolated from.
NOT_COMPUTED = (
    *("dataset.memory", "dataset.embedding_dim", "dataset.published", "evaluation.objective"),
    *("loss.margin", "loss.scale", "loss.few_classes"),
)
# Choices of margin and scale that only say where their value came from.
VALUE_ONLY = ("paper", "few_classes")
# What `augment` changes.
AUGMENTATIONS = ("flip", "crop", "rotate", "shift", "zoom", "shear", "erase")
# Values with which a key does nothing, so that a run from before the key existed is still the same run.
# Besides, null is always neutral.
NEUTRAL = {
    "precision": "fp32",
    "tf32": False,
    "deterministic": True,
    "compile": False,
    "checkpoint.keep": "last",
    "sampler.name": "shuffled",
    "optimizer.accumulate": 1,
    "optimizer.layer_decay": 1,
    "schedule.options.warmup": 0,
    "model.norm": False,
    "model.dropout": 0,
    "model.pretrained": False,
    "dataset.skip_broken": False,
    "loss.options.beyond_pi": "monotone",
    "loss.options.gradient": "exact",
    "loss.options.formula": "paper",  # of KappaFace, whose only one it was
    "loss.options.r": 1,
    "loss.options.label_smoothing": 0,
    "loss.options.inter_topk": 0,
} | {f"augment.{key}": 0 for key in AUGMENTATIONS}

# Keys that this project reads, whoever's class their group names.
OF_DEVICE = ("precision", "tf32", "deterministic", "compile")  # how, and not where
OURS = (*OF_DEVICE, "dataset.folds", "dataset.fold", "optimizer.accumulate", "optimizer.layer_decay")

# Margins that change nothing, by class; elsewhere it is 0. A warm-up starts there if nothing is said.
NO_MARGIN = dict.fromkeys(
    [f"src.losses.{name}" for name in ("ASoftmax", "LSoftmax", "SphereFace", "SphereFaceR")], 1
) | {"src.losses.CombinedMargin": [1, 0, 0], "src.losses.MagFace": [0, 0]}
# Optimizers and schedules do not learn their own names: another name is no other run.
NAMES = {
    **{f"src.training.{name}": name for name in ("adam", "adamw", "sgd")},
    "src.training.constant_rate": "constant",
    "src.training.cosine_decay": "cosine",
    "src.training.one_cycle": "onecycle",
    "src.training.step_decay": "step",
}

# What computes a run's numbers, below src/. Plots, tracking, sweeps and comparisons do not.
COMPUTING = ("losses", "models", "datasets", "training", "evaluation")
OF_RUN = ("best_epoch", "build", "data", "epochs", "init", "lifecycle", "options", "pairs", "resume")
COMPUTING += tuple(f"run/{part}.py" for part in OF_RUN)


def config_hash(config: dict) -> str:
    """Sixteen hex digits for what a resolved configuration computes: equal hashes, equal results, by one
    code on one machine with one number of threads."""
    return _digest(json.dumps(computed(config), sort_keys=True))


def setting_hash(config: dict) -> str:
    """What runs that differ only in their seed, and in their fold of a cross-validation, have in
    common."""
    repeated = {"seed": None}
    if isinstance(config.get("dataset"), dict):
        repeated["dataset"] = config["dataset"] | {"fold": None}
    return config_hash(config | repeated)


def computed(config: dict) -> dict[str, object]:
    """The configuration as flat, normalised keys, without those that change no number."""
    flat = flattened(config) | {key: (config.get("device") or {}).get(key) for key in OF_DEVICE}
    own = {group for group in config if str(flat.get(f"{group}._target_", "src.")).startswith("src.")}
    if flat.get("dataset.published"):
        flat.pop("dataset.root", None)
    elif isinstance(flat.get("dataset.root"), str):
        flat["dataset.root"] = os.path.abspath(os.path.expanduser(flat["dataset.root"]))
        if "dataset" in own and isinstance(flat.get("dataset.file"), str):
            for key in ("file", "labels"):
                if isinstance(flat.get(f"dataset.{key}"), str):
                    flat[f"dataset.{key}"] = place_of(config["dataset"], key)
            del flat["dataset.root"]  # from which the files were named
    for name in ("margin.name", "scale.name"):
        if flat.get(name) in VALUE_ONLY:
            del flat[name]
    if flat.get("checkpoint.keep", "last") != "last" or flat.get("early_stopping.patience"):
        flat["chosen_by"] = flat.get("objective")
    if isinstance(flat.get("init.from"), str):
        path = flat["init.from"].removeprefix("best:")
        best = "best:" * flat["init.from"].startswith("best:")
        flat["init.from"] = best + os.path.abspath(os.path.expanduser(path))
    for own_rate in ("optimizer.head_lr", "optimizer.backbone_lr"):
        if flat.get(own_rate) == flat.get("optimizer.lr"):
            flat.pop(own_rate, None)  # null means the same
    for group in ("optimizer", "schedule"):
        if flat.get(f"{group}._target_") in NAMES:
            flat[f"{group}.name"] = NAMES[flat[f"{group}._target_"]]
    if normalised(flat.get("margin.start")) == no_margin(flat):
        flat.pop("margin.start", None)  # null means the same
    return {
        key: normalised(value)
        for key, value in flat.items()
        if not any(key == no or key.startswith(f"{no}.") for no in (*NOT_IDENTITY, *NOT_COMPUTED))
        and not (is_neutral(key, value) and (key.partition(".")[0] in own or key in OURS))
    }


def place_of(dataset: dict, key: str = "file") -> str:
    """The folder that a data set is read from, or the file if it names one: an absolute path."""
    parts = [dataset["root"], dataset.get(key) or ""]
    return os.path.abspath(os.path.join(*(os.path.expanduser(str(part)) for part in parts)))


def no_margin(flat: dict) -> object:
    """The margin of a configuration's loss that changes nothing; None for somebody else's loss."""
    target = str(flat.get("loss._target_"))
    if target == "src.losses.SphereFace2":
        return int(flat.get("loss.options.kind") == "M")
    return NO_MARGIN.get(target, 0 if target.startswith("src.losses.") else None)


def is_neutral(key: str, value: object) -> bool:
    """Whether a value does nothing. Only this project's own classes promise so of null and NEUTRAL."""
    return value is None or (key in NEUTRAL and normalised(value) == NEUTRAL[key])


def flattened(config: dict, prefix: str = "") -> dict[str, object]:
    """`{"margin": {"value": 0.3}}` -> `{"margin.value": 0.3}`."""
    flat = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def normalised(value: object) -> object:
    """One spelling for one number: 64.0 is 64, and 0.30000000000000004 is 0.3."""
    if isinstance(value, (list, tuple)):
        return [normalised(part) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        value = float(f"{value:.12g}")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value


# ---------------------------------------------------------------------------------------------- the code


def hash_of_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def computing_sources() -> str:
    """A hash of this project's sources that compute a run's numbers."""
    paths = [ROOT / "src" / part for part in COMPUTING]
    return hash_of_files(
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))
    )


# As they are when this process imports them: a file that is edited while a sweep runs is not what its
# workers compute with.
OWN_SOURCES = computing_sources()


@functools.cache
def foreign_sources(module: str) -> str:
    """A hash of somebody else's Python files, those below the folder of the module that a target names;
    `module` may go on with names of classes in it."""
    while module:
        try:
            return hash_of_files(Path(importlib.util.find_spec(module).origin).parent.rglob("*.py"))
        except (ImportError, AttributeError, TypeError, ValueError, OSError):  # a class, or built in
            module = module.rpartition(".")[0]
    return "unknown"


@functools.cache
def commit() -> tuple[str | None, bool]:
    """The commit that is checked out, and whether files differ from it; (None, False) without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()) != ROOT.resolve():
            return None, False
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD").strip(), bool(dirty.strip())
    except (OSError, subprocess.SubprocessError):
        return None, False


def code_of(config: dict) -> dict:
    """What a run's summary records about the code: `commit`, whether the tree was `dirty`, and a hash of
    the `sources` that compute, those of other people's classes in the configuration included."""
    targets = (value for key, value in sorted(flattened(config).items()) if key.endswith("._target_"))
    modules = {str(t).rpartition(".")[0] for t in targets if not str(t).startswith("src.")}
    foreign = {foreign_sources(module)[:6] for module in modules}
    sources = "-".join([OWN_SOURCES, *sorted(foreign)])
    name, dirty = commit()
    return {"commit": name, "dirty": dirty, "sources": sources}


def same_sources(recorded: object, current: dict) -> bool:
    """Whether a run's recorded code computes as the current one does."""
    return isinstance(recorded, dict) and recorded.get("sources") == current["sources"]


def describe_code(code: object) -> str:
    """`3f2a9c1b0d4e (commit 37736bf, with changes)`."""
    if not isinstance(code, dict) or not code.get("sources"):
        return "unknown"
    if not code.get("commit"):
        return code["sources"]
    return f"{code['sources']} (commit {code['commit'][:7]}{', with changes' * bool(code.get('dirty'))})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
