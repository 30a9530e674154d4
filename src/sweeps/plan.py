"""What a sweep's runs are: their configurations, names and folders, what is done, what cannot be."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ..config import NOT_IDENTITY, check, config_hash, explain, identity_in, to_dict
from ..errors import UserError
from ..runs import objective_of, read_summary, record_failure

NAME_LENGTH = 120  # bytes, of the 255 that a file name may have


@dataclass
class Planned:
    """One run of a sweep, before it runs."""

    overrides: list[str]
    config: DictConfig  # composed, with its hydra node
    values: dict  # the same without it, plain and resolved
    identity: str
    folder: Path
    objective: float | None  # of the finished run, where there is one

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
        if summary.get("state") == "finished" and summary.get("config_hash") == self.identity:
            return self.finished(objective_of(summary, self.values["objective"]))  # it came so far
        record_failure(self.folder, why, config_hash=self.identity, config=self.values)
        return self.failed(UserError(why))


def plan(context: HydraContext, master: DictConfig, jobs: Iterable[list[str]]) -> list[Planned]:
    """The runs that lists of overrides describe, each once, in folders of their own below
    `hydra.sweep.dir`. Raises UserError, a line for each kind, if some of them cannot be."""
    sweep_dir = Path(master.hydra.sweep.dir).absolute()
    runs, refused = {}, Counter()
    for overrides in jobs:
        try:
            config = context.config_loader.load_sweep_config(master, list(overrides))
            values = to_dict(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
            check(values)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            refused[explain(error)] += 1
            continue
        identity = config_hash(values)
        runs.setdefault(identity, Planned(overrides, config, values, identity, sweep_dir, None))
    if refused:
        lines = "".join(f"\n  {why}" + f" ({n} runs)" * (n > 1) for why, n in refused.items())
        raise UserError(f"no run was started, these cannot be:{lines}")
    settle_folders(list(runs.values()), sweep_dir)
    return list(runs.values())


def settle_folders(runs: list[Planned], sweep_dir: Path) -> None:
    """Give each run the folder in which it lies already, finished or not, or a new one."""
    taken, lying = {}, {}
    for folder in sorted(path for path in sweep_dir.glob("[!.]*") if path.is_dir()):
        identity = identity_in(folder)
        if identity:
            taken[folder.name] = identity
            done = (read_summary(folder) or {}).get("state") == "finished"
            if done or identity not in lying:
                lying[identity] = folder, done
    for run in runs:
        if run.identity in lying:
            run.folder, done = lying[run.identity]
            if done:
                run.objective = objective_of(read_summary(run.folder), run.values["objective"])
        else:
            name = run_name(run.overrides)
            if taken.get(name, run.identity) != run.identity:  # defaults have changed since
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
