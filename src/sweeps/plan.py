"""What a sweep's runs are: their configurations, names and folders, what is done, what cannot be."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ..config import BadKey, Config, identity
from ..config.checks import check_typed
from ..config.compose import Composer, check_group_values, explain, quoted
from ..config.identity import is_published
from ..config.read import read_and_check
from ..config.tree import PIXELS
from ..errors import UserError
from ..foreign import printable
from ..run.code import Code, code_of
from ..run.folder import RunFolder
from ..run.summary import Summary
from ..words import file_name

# Bytes of a run's name, of the 255 that a file name may have: as it is, and, where that is too long,
# with a hash behind it.
NAME_LENGTH, LONGEST_NAME = 120, 200
OF_HYDRA = re.compile(r"\$\{hydra[:.]")
SHORTENED = 24  # characters of a value in a name that is too long even so
FIRST = ("seed", "dataset.fold", "margin", "margin.value")  # in a name that is too long for everything
UNNAMED = ("hydra", "logger", "plots", "objective")  # groups that set no run apart
PER_LOSS = (
    "\n  margins that differ by loss: experiment=margins, or "
    """'hydra.sweeper.grids=["loss=arcface margin.value=0.2,0.4","loss=sphereface
    margin.value=1.2,1.35"]'"""
)


class Outcome(NamedTuple):
    """How a run ended: the `state` of its summary.json, or `not started`. `objective` is None where the
    run has none, and `error` then says why."""

    state: str
    objective: float | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.state in ("failed", "diverged")


@dataclass
class Planned:
    """One run of a sweep, before it runs."""

    overrides: list[str]
    composed: DictConfig  # with its hydra node
    config: Config  # the same, typed
    identity: str
    code: Code  # that it would run with
    folder: RunFolder  # the sweep's, until `assign_folders` gives it its own
    objective: float | None = None  # of the finished run, where there is one that counts
    differs: dict[str, str] = field(default_factory=dict)  # finished run: see RunFolder.differences
    mark: str = ""  # what its folder's name ends with once it is set aside

    @property
    def name(self) -> str:
        return self.folder.name

    def result(self) -> Outcome | None:
        """The result in the run's folder, even if its process still runs; None if there is none."""
        summary = self.folder.summary()
        if not summary or not summary.done or summary.identity != self.identity:
            return None
        try:
            return Outcome(summary.state, summary.objective(self.config.objective))
        except UserError as error:
            return Outcome("failed", error=str(error))

    def lost(self, why: str) -> Outcome:
        """Record in the run's folder why its process ended without a result, and return that. What it
        had finished before counts."""
        finished = self.result()
        if finished:
            with suppress(OSError):
                self.folder.log_line(f"once the run was finished, {why}")
            return finished
        self.folder.record_loss(why, Summary.of(self.config, self.code))
        return Outcome("failed", error=why)


def plan(
    composer: Composer, jobs: Iterable[list[str]], stale: str = "auto", varied: Collection[str] = ()
) -> list[Planned]:
    """The runs that `described` finds, with folders by `assign_folders`."""
    runs, _ = described(composer, jobs)
    assign_folders(composer, runs, stale, varied)
    return runs


def described(composer: Composer, jobs: Iterable[list[str]]) -> tuple[list[Planned], int]:
    """The runs that lists of overrides describe, each once, and how many were described again. Raises
    UserError, with a line for everything that is wrong with any of them."""
    runs, twice, refused, keys = {}, 0, Counter(), set()
    for overrides in jobs:
        try:
            for run in runs_of(composer, overrides):
                same = runs.setdefault(run.identity, run)
                twice += same is not run
                check_same_place(same, run)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            refused.update(explain(error, list(overrides)).splitlines())
            keys |= {each.key for each in getattr(error, "errors", [error]) if isinstance(each, BadKey)}
    if refused:
        lines = "".join(f"\n  {why}" + f" ({n} runs)" * (n > 1) for why, n in refused.items())
        hint = PER_LOSS if runs and keys & {"margin.value", "scale.value"} else ""
        raise UserError(f"no run was started, because these are not valid:{lines}{hint}")
    # One fold after the other: a process then holds one of them at a time, and a sweep that was cut
    # short has the same folds of all settings.
    return sorted(runs.values(), key=lambda run: run.config.dataset.fold or 0), twice


def check_same_place(run: Planned, same: Planned) -> None:
    """Raise UserError for two runs that differ in where their data lie only: what lies there decides
    whether they are one, and runs on different images do not compare."""
    places = [each.config.dataset.place for each in (run, same)]
    if places[0] != places[1] and not is_published(run.config):
        raise UserError(
            f"{' and '.join(places)}: a sweep is of one data set: start one for each, and compare "
            "them together"
        )


def runs_of(composer: Composer, overrides: list[str]) -> list[Planned]:
    """The run that overrides describe, or one for each fold where they give `dataset.folds` and no fold.
    Raises UserError, and what Hydra raises."""
    check_group_values(overrides)
    for override in overrides:
        key, _, value = override.partition("=")
        if OF_HYDRA.search(value) and not key.startswith("hydra"):
            why = "what Hydra says of a run that starts is no part of what it computes: give values"
            raise BadKey(key.lstrip("+"), value, why)
    composed = composer.compose(overrides)
    folds = str(OmegaConf.select(composed, "dataset.folds"))  # text, if a variable says it
    if folds.isdecimal() and int(folds) > 1 and OmegaConf.select(composed, "dataset.fold") is None:
        each = ([*overrides, f"dataset.fold={fold}"] for fold in range(int(folds)))
        return [run for one in each for run in runs_of(composer, one)]
    config = read_and_check(composed, overrides, composer.check)
    check_typed(config, overrides)
    if config.plan:
        raise BadKey("plan", True, "says what one run takes; hydra.sweeper.plan_only=true is of a sweep")
    sweep_dir = RunFolder(Path(composer.master.hydra.sweep.dir).absolute())
    return [Planned(overrides, composed, config, identity(config), code_of(config), sweep_dir)]


def assign_folders(
    composer: Composer, runs: list[Planned], stale: str = "auto", varied: Collection[str] = ()
) -> None:
    """Give runs their names and folders below `hydra.sweep.dir`, and find those that are finished.
    `varied` are keys that differ in the sweep, besides those that differ between these."""
    sweep_dir = Path(composer.master.hydra.sweep.dir).absolute()
    parsed = {run.identity: list(map(composer.parse, run.overrides)) for run in runs}
    # Pixels have one epoch and a model of their own, which is no reason to name those of all other runs.
    pixels = {run.identity for run in runs if run.config.model.target == PIXELS}
    trained = [overrides for identity, overrides in parsed.items() if identity not in pixels]
    varied = differing(trained or parsed.values()) | set(varied)
    names = {
        identity: run_name(overrides, varied | ({"model"} if identity in pixels else set()))
        for identity, overrides in parsed.items()
    }
    use_folders(runs, sweep_dir, names, stale)


def use_folders(runs: list[Planned], sweep_dir: Path, names: dict[str, str], stale: str) -> None:
    """Give each run the folder in which it lies already, finished or not, or a new one, with its name of
    `names`, by identity."""
    taken, existing, unmeasured = {}, {}, {}
    for path in sorted(path for path in sweep_dir.glob("[!.]*") if path.is_dir()):
        if path.name != printable(path.name):  # no sweep of ours has named it
            continue
        folder = RunFolder(path)
        there, summary = folder.identity(), folder.summary()
        if there:
            taken[folder.name] = there
            if there not in existing or (summary and summary.done):
                existing[there] = folder, summary
    for run in runs:
        if run.identity in existing:
            run.folder, summary = existing[run.identity]
            if summary and summary.done:
                try:
                    reuse_finished(run, summary, stale)
                except UserError as error:  # the objective was not measured there
                    unmeasured[run.name] = error
        else:
            name = names[run.identity]
            foreign = name not in taken and RunFolder(sweep_dir / name).holds_foreign_files()
            if (
                foreign or taken.get(name, run.identity) != run.identity
            ):  # of another run, or of something else
                name += f",{run.identity[:6]}"
            taken[name] = run.identity
            run.folder = RunFolder(sweep_dir / name)
        with open_dict(run.composed):
            run.composed.hydra.sweep.dir = str(sweep_dir)  # the typed one may hold the time of day
            run.composed.hydra.sweep.subdir = run.name
        run.overrides = [
            *run.overrides,
            f"hydra.sweep.dir={quoted(str(sweep_dir))}",
            f"hydra.sweep.subdir={quoted(run.name)}",
        ]
    if unmeasured:
        lines = "".join(f"\n  {name}: {error}" for name, error in unmeasured.items())
        raise UserError(f"no run was started, because finished ones lack the objective:{lines}")


def reuse_finished(run: Planned, summary: Summary, stale: str) -> None:
    """Give a finished run its objective if it counts, so that it does not run again. It counts with
    `stale=keep`, and otherwise if nothing has changed since; `stale=auto` ignores a change of the commit
    alone. Raises UserError for one that counts and lacks the objective."""
    run.differs = run.folder.differences(summary, run.config, run.code)
    marks = {"files": "incomplete", "images": "other-images"}
    run.mark = next((m for what, m in marks.items() if what in run.differs), summary.code.sources)
    weighs = set(run.differs) - ({"commit"} if stale == "auto" else set())
    if stale == "keep" or not weighs:
        run.objective = summary.objective(run.config.objective)


def differing(jobs: Collection[list[Override]]) -> set[str]:
    """The keys that do not have the same value in all jobs, or not in all any."""
    values = defaultdict(list)
    for overrides in jobs:
        for override in overrides:
            values[override.key_or_group].append(override.input_line)
    return {key for key, given in values.items() if len(given) != len(jobs) or len(set(given)) > 1}


def run_name(overrides: list[Override], varied: Collection[str] = ()) -> str:
    """What sets a run apart in its sweep, as a folder's name: `loss=arcface,margin=0.3,seed=1`. Of a
    name that is too long, seed and margin come first."""
    parts = {}
    for override in overrides:
        key = override.key_or_group
        if key not in varied or key.split(".")[0] in UNNAMED or key.startswith("hydra/"):
            continue
        value = "none" if override.is_delete() else override.get_value_element_as_str()
        parts[key] = key.removesuffix(".value"), file_name(value.strip("[]"))
    name = joined(sorted(parts.values()))
    if len(name.encode()) <= NAME_LENGTH:
        return name or "run"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    order = sorted(parts, key=lambda key: (key not in FIRST, key))
    shown = [parts[key] for key in order]
    if len(joined(shown).encode()) > LONGEST_NAME:
        shown = [(key.rpartition(".")[2], value[:SHORTENED]) for key, value in shown]
    name = joined(shown).encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"{name}-{digest}"


def joined(parts: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{key}={value}" for key, value in parts)
