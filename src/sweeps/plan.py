"""What a sweep's runs are: their configurations, names and folders, what is done, what cannot be."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ..arguments import is_whole
from ..errors import UserError
from ..run.command_line import check_group_values, explain, quoted, values_of
from ..run.finished import differences
from ..run.folder import (
    identity_in,
    is_done,
    log_line,
    objective_of,
    read_summary,
    record_failure,
)
from ..run.identity import NOT_IDENTITY, code_of, config_hash
from .compose import Composer

# Bytes of a run's name, of the 255 that a file name may have: all that was typed, and, where that is too
# much, what differs between the runs of the sweep.
NAME_LENGTH, LONGEST_NAME = 120, 200
SHORTENED = 24  # characters of a value in a name that is too long even so
FIRST = ("seed", "dataset.fold", "margin", "margin.value")  # in a name that is too long for everything
STALE = ("auto", "keep", "rerun")  # what is done with runs that other code finished


@dataclass
class Planned:
    """One run of a sweep, before it runs."""

    overrides: list[str]
    config: DictConfig  # composed, with its hydra node
    values: dict  # the same without it, plain and resolved
    identity: str
    folder: Path  # of the sweep, until `settle_folders` gives it its own
    code: dict = field(default_factory=dict)  # that it would run with
    objective: float | None = None  # of the finished run, where there is one that counts
    differs: dict[str, str] = field(default_factory=dict)  # finished run: see run/finished.py
    mark: str = ""  # what its folder's name ends with once it is set aside

    @property
    def name(self) -> str:
        return self.folder.name

    def finished(self, objective: float) -> JobReturn:
        return JobReturn(self.overrides, status=JobStatus.COMPLETED, _return_value=objective)

    def failed(self, error: Exception) -> JobReturn:
        return JobReturn(self.overrides, status=JobStatus.FAILED, _return_value=error)

    def result_there(self) -> JobReturn | None:
        """The result that is in the run's folder, of whatever its process does now; None if none is."""
        summary = read_summary(self.folder)
        if not is_done(summary) or summary.get("config_hash") != self.identity:
            return None
        try:
            return self.finished(objective_of(summary, self.values["objective"]))
        except UserError as error:
            return self.failed(error)

    def lost(self, why: str) -> JobReturn:
        """The result of a run whose process ended without giving one, recorded in its folder."""
        there = self.result_there()
        if there:
            with suppress(OSError):
                log_line(self.folder, f"once the run was finished, {why}")
            return there
        record_failure(self.folder, why, config_hash=self.identity, code=self.code, config=self.values)
        return self.failed(UserError(why))


def plan(
    composer: Composer, jobs: Iterable[list[str]], stale: str = "auto", varied: Collection[str] = ()
) -> list[Planned]:
    """The runs that `described` finds, settled by `settle`."""
    runs, _ = described(composer, jobs)
    settle(composer, runs, stale, varied)
    return runs


def described(composer: Composer, jobs: Iterable[list[str]]) -> tuple[list[Planned], int]:
    """The runs that lists of overrides describe, each once, and how many were described again. Raises
    UserError, with a line for everything that is wrong with any of them."""
    runs, twice, refused = {}, 0, Counter()
    for overrides in jobs:
        try:
            for run in runs_of(composer, overrides):
                twice += run.identity in runs
                runs.setdefault(run.identity, run)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            refused.update(explain(error, list(overrides)).splitlines())
    if refused:
        lines = "".join(f"\n  {why}" + f" ({n} runs)" * (n > 1) for why, n in refused.items())
        raise UserError(f"no run was started, because these are not valid:{lines}")
    # One fold after the other: a process then holds one of them at a time, and a sweep that was cut
    # short has the same folds of all settings.
    return sorted(runs.values(), key=lambda run: run.values["dataset"].get("fold") or 0), twice


def runs_of(composer: Composer, overrides: list[str]) -> list[Planned]:
    """The run that overrides describe, or one for each fold where they give `dataset.folds` and no fold.
    Raises UserError, and what Hydra raises."""
    check_group_values(overrides)
    config = composer.compose(overrides)
    values = values_of(config, overrides)
    folds = values["dataset"].get("folds") if isinstance(values.get("dataset"), dict) else None
    if is_whole(folds) and folds > 1 and values["dataset"].get("fold") is None:
        each = ([*overrides, f"dataset.fold={fold}"] for fold in range(folds))
        return [run for one in each for run in runs_of(composer, one)]
    composer.check(values)
    sweep_dir = Path(composer.master.hydra.sweep.dir).absolute()
    return [Planned(overrides, config, values, config_hash(values), sweep_dir, code_of(values))]


def settle(
    composer: Composer, runs: list[Planned], stale: str = "auto", varied: Collection[str] = ()
) -> None:
    """Give runs their names and folders below `hydra.sweep.dir`, and find those that are finished.
    `varied` are keys that differ in the sweep, besides those that differ between these."""
    sweep_dir = Path(composer.master.hydra.sweep.dir).absolute()
    parsed = {run.identity: list(map(composer.parse, run.overrides)) for run in runs}
    varied = differing(parsed.values()) | set(varied)
    names = {identity: run_name(overrides, varied) for identity, overrides in parsed.items()}
    settle_folders(runs, sweep_dir, names, stale)


def settle_folders(runs: list[Planned], sweep_dir: Path, names: dict[str, str], stale: str) -> None:
    """Give each run the folder in which it lies already, finished or not, or a new one, with its name of
    `names`, by identity."""
    taken, existing, unmeasured = {}, {}, {}
    for folder in sorted(path for path in sweep_dir.glob("[!.]*") if path.is_dir()):
        identity = identity_in(folder)
        if identity:
            taken[folder.name] = identity
            summary = read_summary(folder)
            if is_done(summary) or identity not in existing:
                existing[identity] = folder, summary
    for run in runs:
        if run.identity in existing:
            run.folder, summary = existing[run.identity]
            if is_done(summary):
                try:
                    settle_finished(run, summary, stale)
                except UserError as error:  # the objective was not measured there
                    unmeasured[run.name] = error
        else:
            name = names[run.identity]
            if taken.get(name, run.identity) != run.identity:  # the defaults have changed since
                name += f",{run.identity[:6]}"
            taken[name] = run.identity
            run.folder = sweep_dir / name
        with open_dict(run.config):
            run.config.hydra.sweep.dir = str(sweep_dir)  # settled: it may hold the time of day
            run.config.hydra.sweep.subdir = run.name
        run.overrides = [
            *run.overrides,
            f"hydra.sweep.dir={quoted(str(sweep_dir))}",
            f"hydra.sweep.subdir={quoted(run.name)}",
        ]
    if unmeasured:
        lines = "".join(f"\n  {name}: {error}" for name, error in unmeasured.items())
        raise UserError(f"no run was started, because finished ones lack the objective:{lines}")


def settle_finished(run: Planned, summary: dict, stale: str) -> None:
    """Whether a finished run counts: not if the sources that compute, the images or its own files have
    changed since, unless the user wants to keep it; and if only the commit has, then only with
    `stale=rerun` it does not. Raises UserError for one that counts and lacks the objective."""
    run.differs = differences(run.folder, summary, run.values, run.code)
    marks = {"files": "incomplete", "images": "other-images"}
    sources = (summary.get("code") or {}).get("sources", "unknown")
    run.mark = next((mark for what, mark in marks.items() if what in run.differs), sources)
    weighs = set(run.differs) - ({"commit"} if stale == "auto" else set())
    if stale == "keep" or not weighs:
        run.objective = objective_of(summary, run.values["objective"])


def differing(jobs: Collection[list[Override]]) -> set[str]:
    """The keys that do not have the same value in all jobs, or not in all any."""
    values = defaultdict(list)
    for overrides in jobs:
        for override in overrides:
            values[override.key_or_group].append(override.input_line)
    return {key for key, given in values.items() if len(given) != len(jobs) or len(set(given)) > 1}


def run_name(overrides: list[Override], varied: Collection[str] = ()) -> str:
    """What was asked for, without where and how, as a folder's name: `loss=arcface,margin=0.3,seed=1`.
    The same overrides give the same name, whatever else is in the sweep, unless that is too long: then
    what differs in the sweep (`varied`) comes first, with seed and margin before all."""
    parts = {}
    for override in overrides:
        key = override.key_or_group
        place = key.split(".")[0].split("@")[0]
        if key != "device.precision" and (
            place in (*NOT_IDENTITY, "hydra") or place.startswith("hydra/") or key == "dataset.root"
        ):
            continue
        value = "none" if override.is_delete() else override.get_value_element_as_str()
        parts[key] = key.removesuffix(".value"), re.sub(r"[^\w.+-]", "_", value.strip("[]"))
    name = joined(sorted(parts.values()))
    if len(name.encode()) <= NAME_LENGTH:
        return name or "as-configured"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    order = sorted(parts, key=lambda key: (key not in varied, key not in FIRST, key))
    shown = [parts[key] for key in order if key in varied]
    if len(joined(shown).encode()) > LONGEST_NAME:
        shown = [(key.rpartition(".")[2], value[:SHORTENED]) for key, value in shown]
    for key in order[len(shown) :]:
        if len(joined([*shown, parts[key]]).encode()) <= NAME_LENGTH:
            shown.append(parts[key])
    name = joined(shown).encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"{name}-{digest}"


def joined(parts: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{key}={value}" for key, value in parts)
