"""The installed command, `angular-penalty train loss=arcface`: from any directory, quick to help.

It imports nothing of the project: each command is a process of its own, `python -m src.<command>`.
"""

import difflib
import importlib.util
import os
import sys
from pathlib import Path

NAME, PROGRAM = "angular-penalty", "ANGULAR_PENALTY_PROGRAM"  # in the environment: what was typed
# The checkout or, where a wheel is installed, its copy of one.
PLACES = (
    Path(__file__).resolve().parents[2],
    Path(__file__).resolve().parents[1] / "angular_penalty_project",
)
ROOT = next((place for place in PLACES if (place / "conf" / "train.yaml").is_file()), PLACES[0])
COMMANDS = {
    "train": "a run, or with -m a sweep of them",
    "compare": "compare the runs of sweeps: the answer, tables, figures, report.html",
    "evaluate": "a trained run on other images, or on pairs",
    "embed": "images, into an .npz",
    "query": "find whose image it is in a gallery, or say that it is unknown",
    "outliers": "labels that may be wrong",
    "export": "a trained run, to ONNX, TorchScript or safetensors",
    "draw": "draw the figures of finished runs again",
    "sync": "upload to W&B the runs that it lacks",
}
GROUPS = {
    "loss": "the loss, with its published margin and scale",
    "margin": "margin.value, or how it changes during training",
    "scale": "scale.value, or how it adapts",
    "model": "the backbone",
    "dataset": "the images",
    "evaluation": "what is measured: closed or open sets, verification",
    "optimizer": "and its learning rates",
    "schedule": "of the learning rate",
    "experiment": "settings that belong together, and grids",
    "hydra/sweeper": "grids, or a search by Optuna",
    "hydra/launcher": "where the runs of a sweep run",
}


def main() -> None:
    if lacks():
        sys.exit(lacks())
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help", "help"):
        return print(help_text())
    if given[0] in ("--completion", "--complete"):
        from .completion import complete, script

        return print(script(given[1:]) if given[0] == "--completion" else complete(given[1:], ROOT))
    if given[0] not in COMMANDS:
        near = difflib.get_close_matches(given[0], COMMANDS, 1)
        said = f"did you mean {near[0]}?" if near else f"{', '.join(COMMANDS)}"
        sys.exit(f"{given[0]}: no such command; {said}")
    os.environ |= environment()
    os.execv(sys.executable, [*python(given[0]), *given[1:]])


def lacks() -> str | None:
    """Say what is missing where the losses alone are installed."""
    if importlib.util.find_spec("hydra"):
        return None
    return f"{NAME}: only the losses are installed here; for the rest: pip install '{NAME}[sweeper]'"


def python(command: str) -> list[str]:
    # -P: a folder called src where this is typed is not this project's.
    return [sys.executable, "-P", "-m", f"src.{command}"]


def environment() -> dict[str, str]:
    """Where the project is found first, then the user's own modules, beside what the user has set."""
    paths = [str(ROOT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths), PROGRAM: NAME}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("[!_]*.yaml"))


def help_text() -> str:
    lines = [f"{NAME} <command> …, each with --help:", ""]
    lines += [f"  {name:10} {what}" for name, what in COMMANDS.items()]
    lines += ["", "Groups of `train`, each with its choices:", ""]
    for group, what in GROUPS.items():
        some = choices(group)
        lines += [f"  {group}= {what}", f"      {', '.join(some)}"]
    lines += ["", f"{NAME} train loss=cosface --cfg job    shows every key, and runs nothing"]
    lines += [f'eval "$({NAME} --completion bash)"    completes what is typed; zsh likewise']
    return "\n".join([*lines, "", f"More: {ROOT / 'README.md'} and {ROOT / 'docs'}"])
