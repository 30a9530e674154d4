"""Train one run, or a sweep of them: `python -m src.train [-m] [overrides]`."""

import sys

if __name__ == "__main__":
    from contextlib import suppress

    from src.errors import UserError, begin_command

    begin_command()
    others = any(argument.startswith("hydra/launcher=") for argument in sys.argv)
    if {"-m", "--multirun"} & set(sys.argv) and not others and "--cfg" not in sys.argv:
        from src.sweeps import forkserver

        with suppress(UserError):  # which the sweep says
            forkserver.workers_context()  # workers import what they need while the sweep does

import logging
import os
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from .commands import is_follower, started_with_others
from .config import Config
from .config.checks import check_typed
from .config.compose import CONF, check_command, explain, group_after_help, with_home
from .errors import INTERRUPTED, UserError, end_command, in_one_line, interrupt_once, on_interrupt
from .run.command_line import config_of_task, remove_made, remove_refused

CONNECTED_BY = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # beside WORLD_SIZE, the processes of one run


def task(composed: DictConfig) -> float:
    """One run, as Hydra composed it: what every launcher calls."""
    from . import tracking  # these import torch, which takes seconds that --help and a mistake need not
    from .run.advice import after_interrupt
    from .run.lifecycle import train_run
    from .run.together import followers

    job = HydraConfig.get()
    folder, sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    if not sweep:  # which ends, and ends its runs, in its own way
        on_interrupt(interrupt_once)
    try:
        group = tracking.sweep_group(Path(job.runtime.cwd, job.sweep.dir)) if sweep else None
        config = config_of_task(composed, job)
        check_typed(config, job.overrides.task)
        if config.plan:
            return say_plan(config, folder)
        count = job.launcher.get("processes", 1) if sweep else 1
        if count > 1:
            with followers(count, config.device.kind):
                return train_together(config, folder, group)
        if not started_with_others():
            return train_run(config, folder, group)
        return train_together(config, folder)
    except UserError as error:
        if sweep:  # the other runs go on
            logging.getLogger(__name__).error(f"{folder.name}: {error}")
            raise
        remove_refused(folder)
        sys.exit(str(error))
    except MemoryError as error:
        if sweep:
            raise
        sys.exit(f"not enough memory: {error}")
    except KeyboardInterrupt:
        if is_follower():
            sys.exit(INTERRUPTED)
        if not sweep:
            what = f"{named} has ended" if (named := lost_with_this()) else "interrupted"
            print(f"{what}; {after_interrupt(folder, job.runtime.cwd)}", file=sys.stderr)
            sys.exit(INTERRUPTED)
        raise


def lost_with_this() -> str:
    """The processes of this run that have ended, in words: torchrun then interrupts the others."""
    if not started_with_others():
        return ""
    from .training import processes

    return " and ".join(processes.lost(within=0))


def train_together(config: Config, folder: Path, group: str | None = None) -> float | None:
    """A run of this process and those that were started with it."""
    from .losses import BadArgument
    from .run.arguments import arguments_of
    from .run.lifecycle import train_run
    from .run.together import follow, ready_to_follow
    from .training import find_device, processes

    with arguments_of("device"):
        kind = find_device(config.device.kind)
        if kind == "mps":
            raise BadArgument("kind", kind, "is for one process; use cpu")
        if is_follower():
            ready_to_follow()
        processes.connect(on_gpu=kind == "cuda")
    if is_follower():
        try:
            value = follow()
        except UserError as error:
            if "process 0" not in str(error):  # which says for itself why
                print(error, file=sys.stderr, flush=True)
            os._exit(1)  # gloo can abort an interpreter that ends beside a process that has ended
    else:
        value = train_run(config, folder, group)
        processes.told(None)
    processes.disconnect()
    return value


def say_plan(config: Config, folder: Path) -> None:
    """Print what memory a run would take, and leave nothing."""
    from .run.build import check_config_here, planned_memory

    if is_follower():
        return
    print("\n".join(planned_memory(check_config_here(config)).lines()))
    remove_made(folder)


def main() -> None:
    # hydra-ray-launcher has an option of the same name, which ours replaces.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/ray' is validated against")
    run_task = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)
    sys.argv[1:] = map(with_home, sys.argv[1:])
    missing = [name for name in CONNECTED_BY if name not in os.environ]
    if started_with_others() and missing:
        size = os.environ["WORLD_SIZE"]
        sys.exit(f"WORLD_SIZE={size}: {', '.join(missing)} must be set too, as torchrun does")
    if started_with_others() and {"-m", "--multirun"} & set(sys.argv):
        sys.exit("torchrun starts the processes of one run: give a sweep to a launcher, or leave out -m")
    writes_nothing = ["hydra.output_subdir=null", "hydra/job_logging=disabled"]
    if is_follower():  # process 0 writes
        sys.argv += ["hydra.run.dir=.", *writes_nothing]
    elif "plan=true" in sys.argv:
        sys.argv += writes_nothing
    if os.environ.get("HYDRA_FULL_ERROR"):  # a developer wants tracebacks
        return run_task()
    logging.raiseExceptions = False  # a full disk gets one line, not a traceback for each lost log line
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print in its own words
    try:
        if asked := group_after_help(sys.argv[1:]):
            from .config.reference import help_on  # it imports every class

            return print(help_on(asked))
        check_command(sys.argv[1:])
        run_task()
    except KeyboardInterrupt:  # of another's sweeper
        end_command()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        sys.exit(explain(error))
    except YAMLError as error:
        sys.exit(" ".join(str(error).split()))
    except OSError as error:
        sys.exit(in_one_line(error))


if __name__ == "__main__":
    from src.train import main as importable  # workers look for the task in src.train, not in __main__

    importable()
