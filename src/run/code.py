"""The code that computes a run: its commit, and a hash of the sources that its numbers depend on."""

import functools
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..config import Config
from ..config.tree import PACKAGES

ROOT = Path(__file__).parents[2]
# Below src/, what computes no run's numbers; everything else does.
NOT_COMPUTING = ("analysis", "api", "cli", "plots", "sweeps", "tracking")


class Code(BaseModel):
    """The code of a run: `commit`, whether the tree was `dirty`, and a hash of the `sources` that
    compute, those of other people's classes in the configuration included."""

    model_config = ConfigDict(frozen=True, strict=True)
    commit: str | None
    dirty: bool
    sources: str

    @property
    def own(self) -> str:
        """The hash of this project's own sources, without those of other people's classes."""
        return self.sources.partition("-")[0]

    def __str__(self) -> str:
        """`3f2a9c1b0d4e (commit 37736bf, with changes)`."""
        if not self.commit:
            return self.sources
        return f"{self.sources} (commit {self.commit[:7]}{', with changes' * self.dirty})"


def code_of(config: Config) -> Code:
    """The code that would compute a run now."""
    groups = [getattr(config, group) for group in PACKAGES]
    targets = sorted(t for group in groups for t in (group.target, *group.targets.values()))
    modules = {target.rpartition(".")[0] for target in targets if not target.startswith("src.")}
    foreign = {foreign_sources(module)[:6] for module in modules}
    name, dirty = commit()
    return Code(commit=name, dirty=dirty, sources="-".join([OWN_SOURCES, *sorted(foreign)]))


def hash_of_files(folder: Path, paths: Iterable[Path]) -> str:
    """A hash of files below a folder, by their places in it and their contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        place = path.relative_to(folder).as_posix()
        digest.update(place.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def computing_sources() -> str:
    """A hash of this project's sources that compute a run's numbers."""
    source = ROOT / "src"
    files = (
        path for path in source.rglob("*.py") if path.relative_to(source).parts[0] not in NOT_COMPUTING
    )
    return hash_of_files(source, files)


# As they are when this process imports them: a file that is edited while a sweep runs is not what its
# workers compute with.
OWN_SOURCES = computing_sources()


@functools.cache
def foreign_sources(module: str) -> str:
    """A hash of somebody else's Python files, those below the folder of the module that a target names;
    `module` may go on with names of classes in it."""
    while module:
        try:
            folder = Path(importlib.util.find_spec(module).origin).parent
            return hash_of_files(folder, folder.rglob("*.py"))
        except Exception:  # a class, built in, or whatever a package raises while it is imported
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
