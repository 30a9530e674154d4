"""What Hydra finds by itself: launchers and sweepers. It takes plugins only from below `hydra_plugins`,
by the module that defines the class, so each has a name here; the code is in src/sweeps, and is imported
when one is used: Hydra imports all plugins before it shows as much as its help. A launcher elsewhere
needs no name here: a YAML in hydra/launcher may give any class by `_target_`."""

import importlib

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


def late(name: str, kind: type, module: str) -> type:
    """A class that makes an instance of the class `name` of a module in src/sweeps instead."""

    def make(cls, *arguments, **options):
        return getattr(importlib.import_module(f"src.sweeps.{module}"), name)(*arguments, **options)

    methods = dict.fromkeys(kind.__abstractmethods__)
    return type(name, (kind,), {"__new__": make, "__module__": __name__, **methods})


GridSweeper = late("GridSweeper", Sweeper, "grid")
SearchSweeper = late("SearchSweeper", Sweeper, "search")
WorkersLauncher = late("WorkersLauncher", Launcher, "workers")
SlurmLauncher = late("SlurmLauncher", Launcher, "clusters")
RayLauncher = late("RayLauncher", Launcher, "clusters")
