"""Many runs: the only place that knows Hydra's sweepers and launchers.

plan.py        what a sweep's runs are, which of them are done, and which cannot be
sweeper.py     what both sweepers share: how a sweep begins, launches runs, and ends
grid.py        hydra/sweeper=grid: every combination, or a union of grids
search.py      hydra/sweeper=search: Optuna, over a space.py
loop.py        a sweep's loop, and what it asks of a source of runs and of a launcher
workers.py     hydra/launcher=workers: a process for each run on this machine
forkserver.py  the process that those are forked from
clusters.py    hydra/launcher=slurm and ray
console.py     what the terminal shows meanwhile, and at the end
"""
