"""A run's folder that nobody may read any more, in the middle of a sweep."""

from omegaconf import OmegaConf

from src.analysis import compare_sweeps
from src.config import identity
from src.errors import UserError
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.sweeps.console import Board, show_failures
from src.sweeps.plan import Planned
from src.sweeps.sweeper import PlannedSweeper
from tests.conftest import FAST


class Launcher:
    """Trains what it can, as a worker does, after the second run's folder was locked up."""

    def launch_runs(self, runs, board):
        runs[1].folder.path.chmod(0)
        return [self.outcome(run) for run in runs]

    def outcome(self, run):
        try:
            return run.finished(train_run(run.config, run.folder.path))
        except UserError as error:
            return run.lost(str(error))


def test_a_sweep_ends_as_it_should_though_nobody_may_read_a_run(unprivileged, composed, capsys):
    folder, bound = unprivileged
    runs = []
    for seed in (0, 1, 2):
        config = composed(*FAST, "epochs=1", f"seed={seed}")
        place = RunFolder(folder / f"r{seed}")
        hydras = OmegaConf.create(config.plain())
        runs.append(Planned([], hydras, config, identity(config), code_of(config), place))
        place.path.mkdir()
    runs[2].differs, runs[2].mark = {"files": "but metrics.csv is empty"}, "incomplete"
    (folder / ".stale").mkdir(mode=0o500)  # so that nothing can be set aside
    train_run(runs[0].config, runs[0].folder.path)
    compare_sweeps([folder])
    capsys.readouterr()
    sweeper = PlannedSweeper()
    sweeper.launcher, sweeper.folder = Launcher(), folder
    sweeper.compare = sweeper.started = True
    with bound():
        results = sweeper.launch(runs, Board())
        show_failures(list(zip(runs[1:], results[1:], strict=True)))
        sweeper.write_comparison()
    assert [result.status.name for result in results] == ["COMPLETED", "FAILED", "FAILED"]
    said = capsys.readouterr()
    assert "2 runs without a result" in said.out and "Traceback" not in said.out + said.err
    assert "r1/.lock: Permission denied" in said.out
    assert "cannot be set aside: " in said.out
    assert "arcface, the only setting" in said.out and f"{folder / 'r1'}: skipped" in said.out
