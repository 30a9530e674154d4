"""What the command lines share: how a command is written, and what several of them take."""

import argparse
import os
import shlex
from pathlib import Path

from .errors import UserError

PROGRAM = "ANGULAR_PENALTY_PROGRAM"  # set by the installed command to its own name


def command(name: str, *words: str) -> str:
    """A command as it is typed here: `python -m src.train loss=arcface`, or by the installed command's
    name. What is still to be filled in, as in `<folder>`, is not quoted."""
    program = os.environ.get(PROGRAM)
    first = [program, name] if program else ["python", "-m", f"src.{name}"]
    return " ".join(
        word if word.startswith("<") or "=<" in word else shlex.quote(word) for word in (*first, *words)
    )


def is_command(line: str) -> bool:
    """Whether a line is what `command` wrote."""
    program = os.environ.get(PROGRAM)
    return line.startswith(f"{program} " if program else "python -m src.")


def parser_of(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=command(name), description=description)


def refuse_existing(out: Path | None) -> None:
    """UserError if the file or folder that is to be written is there."""
    if out and out.exists():
        raise UserError(f"--out {out}: exists already and would be overwritten; name a new one")


def started_with_others() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def is_follower() -> bool:
    """Return whether this is one of several processes, and not process 0, which leads."""
    return started_with_others() and int(os.environ["RANK"]) > 0
