"""Many runs: the only place that knows Hydra's sweepers and launchers.

plan.py        what a sweep's runs are, which of them are done, and which cannot be
sweeper.py     what both sweepers share: how a sweep begins, launches runs, and ends
grid.py        hydra/sweeper=grid: every combination, or a union of grids
search.py      hydra/sweeper=search: Optuna, over a space.py
workers.py     hydra/launcher=workers: warm processes on this machine, seen from the sweep as in
               processes.py, from within as in worker.py
forkserver.py  the process that those are forked from
clusters.py    hydra/launcher=slurm and ray
console.py     what the terminal shows meanwhile, and at the end
"""
