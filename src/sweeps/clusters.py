"""`hydra/launcher=slurm` and `hydra/launcher=ray`: runs on other machines that see the same files.

The plugins of Hydra do the work; here a run that its machine lost is a failed run and no more, results
are shown as they come, and Ctrl-C takes back what was handed out.
"""

import threading
import time
from collections.abc import Callable, Iterator

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config.compose import Composer
from ..errors import UserError
from ..run.build import check_config
from .console import Board
from .plan import Planned, plan


class ClusterLauncher(Launcher):
    """Hands out all runs at once, and takes results in as they come."""

    extra: str  # which optional dependencies it needs
    threads: int | None  # of a run, where device.threads does not say

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        try:
            self.prepare()
        except ImportError as error:
            raise UserError(
                f"hydra/launcher={self.extra}: {error.name} is not installed here, "
                f"pip install -e '.[sweeper,{self.extra}]'"
            ) from None
        except RuntimeError as error:  # no Slurm here
            raise UserError(f"hydra/launcher={self.extra}: {str(error).splitlines()[0]}") from None

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        with Board(len(job_overrides)) as board:
            runs = plan(Composer(self.context.config_loader, self.config, check_config), job_overrides)
            return self.launch_runs(runs, board)

    def launch_runs(self, runs: list[Planned], board: Board) -> list[JobReturn]:
        for number, run in enumerate(runs):
            with open_dict(run.composed):
                run.composed.hydra.job.num = number
                run.composed.device.threads = run.composed.device.threads or self.threads
        results: dict[str, JobReturn] = {}
        try:
            for run, result in self.results(runs, board.started):
                results[run.name] = result
                board.ended(run, result)
        except BaseException:
            self.cancel()
            raise
        return [results[run.name] for run in runs]

    def prepare(self) -> None:
        """Import what is needed, so that its absence is known before anything is planned."""
        raise NotImplementedError

    def results(
        self, runs: list[Planned], started: Callable[[], None]
    ) -> Iterator[tuple[Planned, JobReturn]]:
        raise NotImplementedError

    def cancel(self) -> None:
        raise NotImplementedError


class SlurmLauncher(ClusterLauncher):
    """A job array, a run a job. `cluster` is slurm, or local: the same on this machine, to try it out.
    The other parameters are those of hydra-submitit-launcher."""

    extra = "slurm"

    def __init__(self, cluster: str, poll_seconds: float, **parameters):
        self.cluster, self.poll_seconds, self.parameters = cluster, poll_seconds, parameters
        self.jobs, self.submitting = [], threading.Lock()  # a search hands out from several threads

    def prepare(self) -> None:
        import submitit
        from hydra_plugins.hydra_submitit_launcher import submitit_launcher
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

        if self.cluster not in ("slurm", "local"):
            raise UserError(f"hydra.launcher.cluster={self.cluster}: slurm or local")
        parameters = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in self.parameters.items()
        }
        self.threads = parameters["cpus_per_task"]
        inner = getattr(submitit_launcher, f"{self.cluster.capitalize()}Launcher")
        self.inner = inner(**parameters)
        self.inner.setup(hydra_context=self.context, task_function=self.task, config=self.config)
        shared = set(OmegaConf.structured(BaseQueueConf)) - {"submitit_folder"}
        own = {f"slurm_{key}": value for key, value in parameters.items() if key not in shared}
        retries, folder = own.pop("slurm_max_num_timeout"), own.pop("slurm_submitit_folder")
        # Slurm's own are ignored by the local executor.
        self.executor = submitit.AutoExecutor(
            folder, cluster=self.cluster, slurm_max_num_timeout=retries
        )
        self.executor.update_parameters(**own, **{k: parameters[k] for k in shared if k in parameters})

    def results(self, runs, started):
        waiting = []
        with self.submitting, self.executor.batch():
            for number, run in enumerate(runs):
                overrides = [*run.overrides, f"device.threads={run.composed.device.threads or 'null'}"]
                where = "hydra.sweep.dir", number, f"run-{number}", Singleton.get_state()
                waiting.append((run, self.executor.submit(self.inner, overrides, *where)))
                started()
        self.jobs += [job for _, job in waiting]
        while waiting:
            for run, job in list(waiting):
                if job.done():
                    waiting.remove((run, job))
                    yield run, self.outcome(run, job)
            time.sleep(self.poll_seconds)

    def outcome(self, run: Planned, job) -> JobReturn:
        try:
            return job.result()
        except Exception as error:  # killed, out of memory, out of time: submitit has several
            state = str(job.state).lower()
            what = str(error).splitlines()[0]
            return run.lost(f"job {job.job_id} ended ({state}): {what}; see {job.paths.stderr}")

    def cancel(self) -> None:
        for job in self.jobs:
            job.cancel(check=False)


class RayLauncher(ClusterLauncher):
    """A run a task on a Ray cluster. `ray.init` and `ray.remote` are Ray's parameters."""

    extra = "ray"

    def __init__(self, ray: DictConfig):
        self.settings, self.tasks, self.starting = ray, [], threading.Lock()

    def prepare(self) -> None:
        import ray
        from hydra_plugins.hydra_ray_launcher import _launcher_util

        self.ray, self.util = ray, _launcher_util
        self.threads = self.settings.remote.get("num_cpus")

    def results(self, runs, started):
        with self.starting:
            try:
                self.util.start_ray(self.settings.init)
            except ConnectionError as error:
                address = self.settings.init.address
                raise UserError(f"hydra.launcher.ray.init.address={address}: {error}") from None
        tasks = {}
        for run in runs:
            state = Singleton.get_state()
            remote = self.settings.remote
            tasks[self.util.launch_job_on_ray(self.context, remote, run.composed, self.task, state)] = (
                run
            )
            started()
        self.tasks += tasks
        waiting = list(tasks)
        while waiting:
            (task, *_), waiting = self.ray.wait(waiting, num_returns=1)
            yield tasks[task], self.outcome(tasks[task], task)

    def outcome(self, run: Planned, task) -> JobReturn:
        try:
            return self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            return run.lost("its Ray task was lost: " + str(error).splitlines()[0])

    def cancel(self) -> None:
        for task in self.tasks:
            self.ray.cancel(task)

    def close(self) -> None:
        self.ray.shutdown()
