"""Many runs: the only place that knows Hydra's plugins.

plan.py      what a sweep's runs are, which of them are done, and which cannot be
grid.py      hydra/sweeper=grid: every combination, or a union of grids
search.py    hydra/sweeper=search: Optuna
workers.py   hydra/launcher=workers: warm processes on this machine
clusters.py  hydra/launcher=slurm and ray
report.py    what the terminal shows meanwhile, and at the end
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from hydra.core.plugins import Plugins

from .clusters import RayLauncher, SlurmLauncher
from .grid import GridSweeper, PlannedSweeper
from .search import SearchSweeper
from .workers import WorkersLauncher

PACKAGE = "hydra_plugins.angular_penalty"


def register(at_end: Callable[[Path], None] | None = None) -> None:
    """Make the names in conf/hydra/ known to Hydra, which takes plugins by name and only from below
    `hydra_plugins`; call it before `hydra.main`. `at_end` is called with the folder of a sweep that has
    ended, unless by Ctrl-C."""
    PlannedSweeper.at_end = staticmethod(at_end) if at_end else None
    plugins = Plugins.instance()  # looks for those installed, before the names below exist
    sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    ours = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    for plugin in (GridSweeper, SearchSweeper, WorkersLauncher, SlurmLauncher, RayLauncher):
        plugin.__module__ = PACKAGE
        setattr(ours, plugin.__name__, plugin)
        plugins.register(plugin)
    # hydra-ray-launcher has an option of the same name, which ours is to hide.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/ray' is validated against")
