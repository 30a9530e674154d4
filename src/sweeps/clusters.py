"""`hydra/launcher=slurm` and `hydra/launcher=ray`: runs on other machines that see the same files.

The plugins of Hydra do the work; here a run that its machine lost is a failed run and no more, results
are shown as they come, and Ctrl-C takes back what was handed out.
"""

import io
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any

from hydra.core.singleton import Singleton
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import ENDINGS, UserError, interrupts_held
from ..foreign import printable
from ..words import first_line
from .loop import Ended, PlannedLauncher, ended_in_hydra
from .plan import Planned

ARRAY_REFUSED = "Invalid job array specification"  # Slurm's MaxArraySize, 1001 where nobody has set it


class ClusterLauncher(PlannedLauncher):
    """Hands out what was started when it is polled, all of it at once."""

    slots = None
    extra: str  # which optional dependencies it needs
    threads: int | None  # of a process, where device.threads does not say
    processes: int  # of a run, on one machine

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.waiting: list[Planned] = []
        self.jobs: dict[Any, Planned] = {}  # by what the cluster knows them by
        self.refused: list[Planned] = []  # by the cluster
        self.killed: list[Ended] = []
        if type(self.processes) is not int or self.processes < 1:
            key = f"hydra.launcher.processes={self.processes}"
            raise UserError(f"{key}: expected a whole number from 1")
        try:
            self.prepare()
        except ImportError as error:
            raise UserError(
                f"hydra/launcher={self.extra}: {error.name} is not installed here, "
                f"pip install -e '.[sweeper,{self.extra}]'"
            ) from None
        except RuntimeError as error:  # no Slurm here
            raise UserError(f"hydra/launcher={self.extra}: {first_line(error)}") from None

    def start(self, run: Planned) -> None:
        with open_dict(run.composed):
            run.composed.device.threads = run.composed.device.threads or self.threads
        self.waiting.append(run)

    def poll(self, seconds: float) -> list[Ended]:
        if self.waiting:
            runs, self.waiting = self.waiting, []
            try:
                self.hand_out(runs)
            except BaseException:
                taken = {run.identity for run in self.jobs.values()}
                self.refused = [run for run in runs if run.identity not in taken]
                raise
        ended = [self.outcome(job, self.jobs.pop(job)) for job in self.finished_jobs(seconds)]
        killed, self.killed = self.killed, []
        return ended + killed

    def kill(self, run: Planned) -> None:
        for job in [job for job, own in self.jobs.items() if own is run]:
            self.cancel(job)
            del self.jobs[job]
        self.waiting = [each for each in self.waiting if each is not run]
        self.killed.append(Ended(run, begun=run not in self.refused))  # its machine is not waited for

    def close(self) -> None:
        for job in self.jobs:
            self.cancel(job)

    def prepare(self) -> None:
        """Import what is needed, so that its absence is known before anything is planned."""
        raise NotImplementedError

    def hand_out(self, runs: list[Planned]) -> None:
        """Give runs to the cluster, and put them into `jobs`."""
        raise NotImplementedError

    def finished_jobs(self, seconds: float) -> list:
        raise NotImplementedError

    def outcome(self, job: Any, run: Planned) -> Ended:
        raise NotImplementedError

    def cancel(self, job: Any) -> None:
        raise NotImplementedError


class SlurmLauncher(ClusterLauncher):
    """A job array, a run a job. `cluster` is slurm, or local: the same on this machine, to try it out.
    The other parameters are those of hydra-submitit-launcher."""

    extra = "slurm"

    def __init__(self, cluster: str, poll_seconds: float, processes: int = 1, **parameters):
        self.cluster, self.poll_seconds, self.parameters = cluster, poll_seconds, parameters
        self.processes = processes

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
        for key in ("cpus_per_task", "gpus_per_node", "mem_gb"):
            parameters[key] = parameters[key] and parameters[key] * self.processes
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

    def hand_out(self, runs: list[Planned]) -> None:
        """Submit an array, or two of half as many runs each where Slurm says that it is too long."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            self.submit(runs)
        except (FailedJobError, FailedSubmissionError) as error:
            said = "; ".join(printable(error).split("\n"))
            if ARRAY_REFUSED in said and len(runs) > 1:
                half = len(runs) // 2
                self.hand_out(runs[:half])
                self.hand_out(runs[half:])
                return
            taken = ", ".join(str(job.job_id) for job in self.jobs)
            before = f"; taken back is what it had accepted: {taken}" if taken else ""
            raise UserError(f"hydra/launcher=slurm: {said}{before}") from None

    def submit(self, runs: list[Planned]) -> None:
        jobs = []
        not_by_sbatch = endings_blocked() if self.cluster == "slurm" else nullcontext()
        with interrupts_held():  # what Slurm accepts has a number here before Ctrl-C is heard
            with not_by_sbatch, redirect_stderr(io.StringIO()), self.executor.batch():
                for run in runs:
                    number, threads = run.composed.hydra.job.num, run.composed.device.threads
                    overrides = [*run.overrides, f"device.threads={threads or 'null'}"]
                    where = "hydra.sweep.dir", number, f"run-{number}", Singleton.get_state()
                    jobs.append(self.executor.submit(self.inner, overrides, *where))
            self.jobs |= dict(zip(jobs, runs, strict=True))  # they have no number before the batch ends

    def finished_jobs(self, seconds: float) -> list:
        time.sleep(self.poll_seconds)
        return [job for job in self.jobs if job.done()]

    def outcome(self, job, run: Planned) -> Ended:
        try:
            result = job.result()
        except Exception as error:  # killed, out of memory, out of time: submitit has several
            state, what = str(job.state).lower(), first_line(error)
            why = f"job {job.job_id} ended ({state}): {what}; see {job.paths.stderr}"
            return Ended(run, why, died=True)
        return ended_in_hydra(run, result)

    def cancel(self, job) -> None:
        job.cancel(check=False)


@contextmanager
def endings_blocked() -> Iterator[None]:
    """Keep Ctrl-C from the programs that a block starts; it comes when the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class RayLauncher(ClusterLauncher):
    """A run a task on a Ray cluster. `ray.init` and `ray.remote` are Ray's parameters."""

    extra = "ray"

    def __init__(self, ray: DictConfig, processes: int = 1):
        self.settings, self.processes = ray, processes

    def prepare(self) -> None:
        import ray
        from hydra_plugins.hydra_ray_launcher import _launcher_util

        self.ray, self.util = ray, _launcher_util
        cores = self.settings.remote.get("num_cpus")
        self.threads = cores and max(1, int(cores))  # half a core is one thread

    def hand_out(self, runs: list[Planned]) -> None:
        try:
            self.util.start_ray(self.settings.init)  # or nothing, if it has been
        except ConnectionError as error:
            address = self.settings.init.address
            raise UserError(f"hydra.launcher.ray.init.address={address}: {error}") from None
        launch, remote = self.util.launch_job_on_ray, self.settings.remote.copy()
        for key in ("num_cpus", "num_gpus"):
            remote[key] = remote.get(key) and remote[key] * self.processes
        for run in runs:
            task = launch(self.context, remote, run.composed, self.task, Singleton.get_state())
            self.jobs[task] = run

    def finished_jobs(self, seconds: float) -> list:
        if not self.jobs:
            return []
        tasks = list(self.jobs)
        return self.ray.wait(tasks, num_returns=len(tasks), timeout=seconds)[0]

    def outcome(self, task, run: Planned) -> Ended:
        try:
            return ended_in_hydra(run, self.ray.get(task))
        except self.ray.exceptions.RayError as error:
            why = "its Ray task was lost: " + first_line(error)
            return Ended(run, why, died=True)

    def cancel(self, task) -> None:
        self.ray.cancel(task)

    def close(self) -> None:
        super().close()
        self.ray.shutdown()
