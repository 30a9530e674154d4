"""What a sweep's runs are: their configurations, names and folders, what is done, what cannot be."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from ..run.build import check_parts
from ..run.command_line import check_group_values, explain, to_dict
from ..run.finished import differences
from ..run.folder import identity_in, is_done, objective_of, read_summary, record_failure
from ..run.identity import NOT_IDENTITY, code_of, config_hash
from ..run.schema import check_config

NAME_LENGTH = 120  # bytes, of the 255 that a file name may have
STALE = ("auto", "keep", "rerun")  # what is done with runs that other code finished


@dataclass
class Planned:
    """One run of a sweep, before it runs."""

    overrides: list[str]
    config: DictConfig  # composed, with its hydra node
    values: dict  # the same without it, plain and resolved
    identity: str
    folder: Path
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

    def lost(self, why: str) -> JobReturn:
        """The result of a run whose process ended without giving one, recorded in its folder."""
        summary = read_summary(self.folder) or {}
        if is_done(summary) and summary.get("config_hash") == self.identity:
            # It ended after its last step.
            try:
                return self.finished(objective_of(summary, self.values["objective"]))
            except UserError as error:
                return self.failed(error)
        record_failure(self.folder, why, config_hash=self.identity, code=self.code, config=self.values)
        return self.failed(UserError(why))


def plan(
    context: HydraContext, master: DictConfig, jobs: Iterable[list[str]], stale: str = "auto"
) -> list[Planned]:
    """The runs that lists of overrides describe, each once, in folders of their own below
    `hydra.sweep.dir`. Raises UserError, a line for each kind, if some of them cannot be."""
    sweep_dir = Path(master.hydra.sweep.dir).absolute()
    runs, refused = {}, Counter()
    for overrides in jobs:
        try:
            check_group_values(overrides)
            config = context.config_loader.load_sweep_config(master, list(overrides))
            values = to_dict(config)
            check_config(values)
            check_parts(values)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            refused[explain(error, list(overrides))] += 1
            continue
        identity = config_hash(values)
        run = Planned(overrides, config, values, identity, sweep_dir, code_of(values))
        runs.setdefault(identity, run)
    if refused:
        lines = "".join(f"\n  {why}" + f" ({n} runs)" * (n > 1) for why, n in refused.items())
        raise UserError(f"no run was started, because these are not valid:{lines}")
    settle_folders(list(runs.values()), sweep_dir, stale)
    return list(runs.values())


def settle_folders(runs: list[Planned], sweep_dir: Path, stale: str) -> None:
    """Give each run the folder in which it lies already, finished or not, or a new one."""
    taken, existing, unmeasured = {}, {}, {}
    for folder in sorted(path for path in sweep_dir.glob("[!.]*") if path.is_dir()):
        identity = identity_in(folder)
        if identity:
            taken[folder.name] = identity
            finished = is_done(read_summary(folder))
            if finished or identity not in existing:
                existing[identity] = folder, finished
    for run in runs:
        if run.identity in existing:
            run.folder, finished = existing[run.identity]
            if finished:
                try:
                    settle_finished(run, read_summary(run.folder), stale)
                except UserError as error:  # the objective was not measured there
                    unmeasured[run.name] = error
        else:
            name = run_name(run.overrides)
            if taken.get(name, run.identity) != run.identity:  # the defaults have changed since
                name += f",{run.identity[:6]}"
            taken[name] = run.identity
            run.folder = sweep_dir / name
        with open_dict(run.config):
            run.config.hydra.sweep.dir = str(sweep_dir)  # settled: it may hold the time of day
            run.config.hydra.sweep.subdir = run.name
        run.overrides = [
            *run.overrides,
            f"hydra.sweep.dir='{sweep_dir}'",
            f"hydra.sweep.subdir='{run.name}'",
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


def run_name(overrides: list[str]) -> str:
    """What was asked for, without where and how, as a folder's name: `loss=arcface,margin=0.3,seed=1`.
    The same overrides give the same name, whatever else is in the sweep."""
    parts = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        place = key.split(".")[0].split("@")[0]
        if key != "device.precision" and (
            place in (*NOT_IDENTITY, "hydra") or place.startswith("hydra/") or key == "dataset.root"
        ):
            continue
        value = "none" if override.is_delete() else override.get_value_element_as_str()
        parts.append(f"{key.removesuffix('.value')}=" + re.sub(r"[^\w.+-]", "_", value.strip("[]")))
    name = ",".join(sorted(parts))
    if len(name.encode()) > NAME_LENGTH:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = name.encode()[:NAME_LENGTH].decode(errors="ignore") + f"-{digest}"
    return name or "as-configured"
