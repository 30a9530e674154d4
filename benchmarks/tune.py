"""The runs of benchmarks/sweep.py as Ray Tune does them, as well as it can: started by that.

    python -m benchmarks.tune <folder> <losses> <seeds> <overrides>

One core and one thread for a run, actors reused from trial to trial.
"""

import os
import sys
from pathlib import Path

import ray
from ray import tune

from src.config import read
from src.config.compose import compose_choices


def main() -> None:
    folder, losses, seeds, *overrides = sys.argv[1:]
    here = os.getcwd()

    def trial(chosen: dict) -> dict:
        os.chdir(here)
        from src.run.lifecycle import train_run

        own = [f"loss={chosen['loss']}", f"seed={chosen['seed']}", "device.threads=1"]
        config = read(compose_choices([*overrides, *own]), [*overrides, *own])
        place = tune.get_context().get_trial_id()
        return {"objective": train_run(config, Path(folder, "runs", place))}

    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=os.cpu_count())
    tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={
            "loss": tune.grid_search(losses.split(",")),
            "seed": tune.grid_search(seeds.split(",")),
        },
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()


if __name__ == "__main__":
    main()
