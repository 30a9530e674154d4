"""A run's folder that nobody may read any more, in the middle of a sweep."""

from omegaconf import OmegaConf

from src.analysis import compare_sweeps
from src.config import identity
from src.errors import UserError
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.sweeps.console import show_failures
from src.sweeps.loop import Ended, InOrder
from src.sweeps.plan import Planned
from src.sweeps.sweeper import PlannedSweeper
from tests.conftest import FAST


class Launcher:
    """Trains what it can, after the second run's folder was locked up."""

    here, slots = False, 1

    def __init__(self):
        self.ended = []

    def start(self, run):
        if run.config.seed == 1:
            run.folder.path.chmod(0)
        try:
            train_run(run.config, run.folder.path)
            self.ended.append(Ended(run))
        except UserError as error:
            self.ended.append(Ended(run, str(error), died=True))

    def poll(self, seconds):
        ended, self.ended = self.ended, []
        return ended


def test_a_sweep_ends_as_it_should_though_nobody_may_read_a_run(unprivileged, composed, capsys):
    folder, bound = unprivileged
    runs = []
    for seed in (0, 1, 2):
        config = composed(*FAST, "epochs=1", f"seed={seed}")
        place = RunFolder(folder / f"r{seed}")
        hydras = OmegaConf.create(config.plain() | {"hydra": {"job": {"name": "train"}}})
        runs.append(Planned([], hydras, config, identity(config), code_of(config), place))
        place.path.mkdir()
    runs[2].differs, runs[2].mark = {"files": "but metrics.csv is empty"}, "incomplete"
    (folder / ".stale").mkdir(mode=0o500)  # so that nothing can be set aside
    train_run(runs[0].config, runs[0].folder.path)
    compare_sweeps([folder])
    capsys.readouterr()
    sweeper = PlannedSweeper()
    sweeper.launcher, sweeper.folder = Launcher(), folder
    sweeper.compare, sweeper.started, sweeper.fail_fast = True, True, False
    with bound():
        source = InOrder(runs)
        sweeper.launch(source, 3)
        outcomes = source.all_outcomes()
        show_failures(list(zip(runs[1:], outcomes[1:], strict=True)))
        sweeper.write_comparison()
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "failed"]
    said = capsys.readouterr()
    assert "2 runs without a result" in said.out and "Traceback" not in said.out + said.err
    assert "r1/.lock: Permission denied" in said.out
    assert "cannot be set aside: " in said.out
    assert "arcface reaches " in said.out and f"{folder / 'r1'}: skipped" in said.out
