"""What Hydra finds by itself: launchers and sweepers. It takes plugins only from below `hydra_plugins`,
by the module that defines the class, so each has a name here; the code is in src/sweeps."""

from src.sweeps import clusters, grid, search, workers


class GridSweeper(grid.GridSweeper):
    """hydra/sweeper=grid"""


class SearchSweeper(search.SearchSweeper):
    """hydra/sweeper=search"""


class WorkersLauncher(workers.WorkersLauncher):
    """hydra/launcher=workers"""


class SlurmLauncher(clusters.SlurmLauncher):
    """hydra/launcher=slurm"""


class RayLauncher(clusters.RayLauncher):
    """hydra/launcher=ray"""
