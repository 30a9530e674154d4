"""Train one run, or a sweep of them: `python -m src.train [-m] [overrides]`."""

import sys

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()
    others = any(argument.startswith("hydra/launcher=") for argument in sys.argv)
    if {"-m", "--multirun"} & set(sys.argv) and not others and "--cfg" not in sys.argv:
        from src.sweeps import forkserver

        forkserver.workers_context()  # workers import what they need while the sweep does

import logging
import os
import signal
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from . import tracking
from .errors import INTERRUPTED, UserError, end_command, in_one_line, interrupt_once
from .run.command_line import CONF, check_command, continue_command, explain, values_of
from .run.lifecycle import train_run

log = logging.getLogger(__name__)


def task(composed: DictConfig) -> float:
    """One run, as Hydra composed it: what every launcher calls."""
    job = HydraConfig.get()
    folder, sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    try:
        group = tracking.sweep_group(Path(job.sweep.dir)) if sweep else None
        return train_run(values_of(composed, job.overrides.task), folder, group)
    except UserError as error:
        if sweep:  # the other runs go on
            log.error(f"{folder.name}: {error}")
            raise
        sys.exit(str(error))
    except KeyboardInterrupt:
        if not sweep:
            print(f"interrupted; to go on: {continue_command('hydra.run.dir', folder)}", file=sys.stderr)
            sys.exit(INTERRUPTED)
        raise


def main() -> None:
    for asked in (signal.SIGINT, signal.SIGTERM):  # a cluster's notice is as good as Ctrl-C
        if signal.getsignal(asked) is not signal.SIG_IGN:
            signal.signal(asked, interrupt_once)
    # hydra-ray-launcher has an option of the same name, which ours replaces.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/ray' is validated against")
    run_task = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)
    if os.environ.get("HYDRA_FULL_ERROR"):  # a developer wants tracebacks
        return run_task()
    logging.raiseExceptions = False  # a full disk gets one line, not a traceback for each lost log line
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print in its own words
    try:
        check_command(sys.argv[1:])
        run_task()
    except KeyboardInterrupt:  # before a run began, or a sweep
        end_command()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        sys.exit(explain(error))
    except OSError as error:
        sys.exit(in_one_line(error))


if __name__ == "__main__":
    from src.train import main as importable  # workers look for the task in src.train, not in __main__

    importable()
