"""Folds, baselines and what a configuration file says of a sweep; nothing is trained in most of it."""

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from src.config.classes import checked, parameters
from src.config.compose import CONF, Composer
from src.config.tree import PACKAGES, leaves
from src.errors import UserError
from src.run.build import check_config
from src.run.lifecycle import train_run
from src.sweeps.baselines import baselines_of, further_rates
from src.sweeps.grid import GridSweeper, combinations, say_excluded
from src.sweeps.plan import assign_folders, described, runs_of
from tests.conftest import FAST, summary_of

from .conftest import finish, states


def parse(line: str):
    return OverridesParser.create().parse_overrides(line.split())


@pytest.fixture
def asked(tmp_path):
    """asked("loss=arcface,cosface", grids…) -> the runs of that sweep, and of its baselines, and why a
    baseline cannot run."""

    def of(line: str, *grids: str):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            arguments = [*line.split(), f"hydra.sweep.dir={tmp_path}"]
            master = hydra.compose_config("train", arguments, run_mode=RunMode.MULTIRUN)
            task = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
            grids = [*grids, *master.hydra.sweeper.grids]
            composer = Composer(hydra.config_loader, master, check_config)
            jobs = combinations(parse(" ".join(task)), [parse(grid) for grid in grids])
            runs, _ = described(composer, jobs)
            found, refused = baselines_of(composer, runs)
            assign_folders(composer, [*runs, *found])
            return runs, found, refused

    return of


def keys(runs, *names) -> list[tuple]:
    """What runs have for some keys, as dataset.fold, and for groups, whose choices these are."""
    found = []
    for run in runs:
        values = {leaf.key: leaf.value for leaf in leaves(run.config)}
        values |= {group: run.config.name(group) for group in PACKAGES}
        found.append(tuple(values.get(name) for name in names))
    return found


def test_folds_without_a_fold_are_a_run_each_one_fold_after_the_other(asked):
    runs, *_ = asked("dataset.folds=3 loss=arcface,cosface seed=0,1")
    assert len(runs) == 12 and len({run.identity for run in runs}) == 12
    assert [fold for (fold,) in keys(runs, "dataset.fold")] == [0] * 4 + [1] * 4 + [2] * 4
    some, *_ = asked("dataset.folds=3 dataset.fold=0,2 loss=arcface")
    assert keys(some, "dataset.fold") == [(0,), (2,)]
    assert {run.identity for run in some} < {run.identity for run in runs}
    of_text, *_ = asked("dataset.folds='3' loss=arcface")  # as from an environment variable
    assert [run.config.dataset.fold for run in of_text] == [0, 1, 2]
    with pytest.raises(UserError, match=r"dataset\.folds=1: expected an integer ≥ 2"):
        asked("dataset.folds=1")


def test_softmax_gets_the_seeds_and_folds_and_by_further_rates_as_many_settings_as_a_loss(asked):
    line = "dataset.folds=2 loss=arcface,cosface margin.value=0.2,0.4 scale.value=16"
    runs, beside, refused = asked(f"{line} optimizer.lr=0.1,0.3,0.2 seed=0,1 epochs=7 batch_size=32")
    assert len(runs) == 48 and not refused
    names = "loss", "model", "optimizer.lr", "seed", "dataset.fold"
    softmax = [run for run in beside if run.config.name("model") != "pixels"]
    rates = [0.1, 0.2, 0.3, *further_rates([0.1, 0.2, 0.3], 6)]
    assert sorted(keys(softmax, *names)) == [
        ("softmax", "small_cnn", lr, seed, fold)
        for lr in sorted(rates)
        for seed in (0, 1)
        for fold in (0, 1)
    ]
    assert set(keys(beside, "epochs", "batch_size")) == {(7, 32)}
    pixels = [run for run in beside if run not in softmax]
    assert sorted(keys(pixels, "seed", "dataset.fold", "loss", "optimizer.lr")) == [
        (seed, fold, "softmax", 0.2) for seed in (0, 1) for fold in (0, 1)
    ]


@pytest.mark.parametrize(
    ("rates", "wanted", "count"),
    [([0.003], 1, 0), ([0.003], 2, 1), ([0.003], 9, 8), ([0.001, 0.003, 0.01], 2, 0), ([0.01], 99, 11)],
)
def test_further_rates_lie_around_those_that_are_swept(rates, wanted, count):
    found = further_rates(rates, wanted)
    assert len(set(found)) == len(found) == count and not set(found) & set(rates)
    assert all(rates[0] / 5.1 <= rate <= rates[-1] * 5.1 for rate in found)


def test_in_an_open_set_pixels_run_once_for_each_fold_with_one_seed_and_one_epoch(asked, faces):
    line = f"dataset=image_folder dataset.root={faces} dataset.folds=2 loss=arcface optimizer.lr=0.1,0.2"
    _, beside, refused = asked(f"{line} seed=3,4 epochs=7 model=mlp neck.norm=true")
    pixels = [run for run in beside if run.config.name("model") == "pixels"]
    assert keys(pixels, "seed", "epochs", "dataset.fold") == [(3, 1, 0), (3, 1, 1)] and not refused
    assert len(beside) - len(pixels) == 8


def test_what_is_asked_for_is_no_baseline_too(asked):
    _, beside, _ = asked("loss=softmax,arcface seed=0,1")
    assert keys(beside, "model") == [("pixels",)] * 2
    assert not asked("loss=softmax model=pixels,mlp")[1]
    assert not asked("model=pixels seed=0,1")[1]


def test_an_experiment_for_other_losses_and_models_is_fitted_to_the_baselines(asked):
    line = "experiment=fashion_mnist_small margin.value=0.2,0.3 margin=warmup scale=learnable"
    runs, beside, refused = asked(f"{line} neck.norm=true loss.gradient=detached")
    assert len(runs) == 2 and not refused
    assert sorted(keys(beside, "model")) == [("pixels",), *[("tiny_cnn",)] * 2]


def test_pixels_have_nothing_of_the_options_that_an_experiment_gives_its_model(asked, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "narrow.yaml").write_text("# @package _global_\nmodel:\n  width: 8\n")
    line = f"hydra.searchpath=[file://{tmp_path}] experiment=narrow loss=arcface,cosface"
    runs, beside, refused = asked(line)
    assert not refused and keys(runs, "model.width") == [(8,)] * 2
    assert sorted(keys(beside, "model", "model.width")) == [
        ("pixels", None),
        ("small_cnn", 8),
    ]


@pytest.mark.parametrize("data", ["", "dataset=synthetic evaluation=open_set"])
def test_pixels_have_nothing_of_how_a_backbone_begins_and_trains(data, asked, tmp_path):
    torch.save({"0.1.weight": torch.zeros(2, 2)}, tmp_path / "weights.pt")
    line = "loss=arcface,cosface model=small_cnn schedule=cosine schedule.warmup=2"
    line += f" init.from={tmp_path}/weights.pt init.freeze=[0] ema.decay=0.9 neck.norm=true"
    line += " optimizer.layer_decay=0.5 optimizer.backbone_lr=0.001"
    runs, beside, refused = asked(f"{line} early_stopping.patience=3 {data}")
    assert not refused
    (softmax,), pixels = (
        [run for run in beside if (run.config.name("model") == "pixels") is plain]
        for plain in (False, True)
    )
    for run in (*runs, softmax):
        assert dict(run.config.init) == {"source": f"{tmp_path}/weights.pt", "freeze": ["0"]}
        assert run.config.optimizer.layer_decay == 0.5
    for run in pixels:
        assert dict(run.config.init) == {"source": None, "freeze": None}
        assert run.config.optimizer.backbone_lr is run.config.ema.decay is None
    assert len(pixels) == 1


def test_a_baseline_that_cannot_run_is_left_out_with_its_reason(asked, monkeypatch):
    def without_pixels(composer, overrides):
        if "model=pixels" in overrides:
            raise UserError("model=pixels: cannot be\nas planted")
        return runs_of(composer, overrides)

    monkeypatch.setattr("src.sweeps.baselines.runs_of", without_pixels)
    _, beside, refused = asked("loss=arcface,cosface")
    assert keys(beside, "loss", "model") == [("softmax", "small_cnn")]
    assert refused == {"pixels": "model=pixels: cannot be"}


def test_grids_that_the_command_line_excludes_are_named(capsys):
    grids = [parse(grid) for grid in ("loss=arcface epochs=5", "loss=cosface epochs=10,20", "seed=1")]
    say_excluded(parse("epochs=10.0 loss=cosface,arcface"), grids)
    said = capsys.readouterr().out
    assert said == "1 of 3 grids left out by epochs=10.0: epochs=5\n"
    say_excluded(parse("seed=0,1 batch_size=8"), grids[:2])
    assert not capsys.readouterr().out


def test_params_are_overrides_and_the_command_line_wins(monkeypatch):
    params = {
        "loss": "arcface,cosface",
        "seed": "range(3)",
        "+loss.k": 1,
        "optimizer.head_lr": None,
    }
    sweeper = GridSweeper([], False, "auto", True, False, False, False, params)
    monkeypatch.setattr(sweeper, "parse", OverridesParser.create().parse_overrides)
    line = [override.input_line for override in sweeper.parse_line(["seed=7", "epochs=2"])]
    assert line == [
        "loss=arcface,cosface",
        "+loss.k=1",
        "optimizer.head_lr=null",
        "seed=7",
        "epochs=2",
    ]
    given = {"grids": [], "compare": False, "stale": "auto", "baselines": True, "params": "loss=arcface"}
    with pytest.raises(UserError, match=r"hydra\.sweeper\.params=loss=arcface: expected keys with val"):
        checked(GridSweeper, parameters(GridSweeper), given, "hydra.sweeper.")


def test_pixels_in_an_open_set_do_not_depend_on_training(composed, folder_of, tmp_path):
    root = folder_of("people", people=12, images=6)
    data = ("dataset=image_folder", f"dataset.root={root}", "batch_size=8", "evaluation.pairs=200")
    found = []
    for name, other in (("a", ["epochs=1"]), ("b", ["epochs=3", "seed=5", "loss=arcface"])):
        train_run(composed(*FAST, *data, "model=pixels", "loss=softmax", *other), tmp_path / name)
        metrics = summary_of(tmp_path / name)["metrics"]
        found.append({key: v for key, v in metrics.items() if not key.startswith("prototype_")})
    assert found[0] == found[1] and len(found[0]) > 5


def test_a_sweep_with_folds_runs_its_baselines_once(sweep, tmp_path):
    arguments = ["loss=cosface", "dataset.folds=2", "epochs=1", "hydra.sweeper.baselines=true"]
    code, out, err = finish(sweep(*arguments))
    assert code == 0, err
    assert "2 runs and 4 of baselines -> " in out and "6/6" in out
    assert list(states(tmp_path).values()) == ["finished"] * 6
    code, out, err = finish(sweep(*arguments))
    assert code == 0 and "2 runs and 4 of baselines, 6 finished already, 0 to go" in out, err


def test_one_run_has_no_baselines_and_params_make_it_three(sweep, tmp_path):
    code, out, err = finish(sweep("epochs=1", "hydra.sweeper.baselines=true"))
    assert code == 0 and "1 run -> " in out, err
    code, out, err = finish(sweep("experiment=params", "hydra.sweeper.baselines=some"))
    assert code == 1 and "hydra.sweeper.baselines=some: expected true or false" in err
    code, out, err = finish(sweep("experiment=params", "epochs=1"))  # which says 2
    assert code == 0 and "3 runs, 1 finished already, 2 to go" in out, err


def test_a_search_repeats_folds_within_a_trial_and_ends_with_its_baselines(sweep, tmp_path):
    arguments = [
        *("hydra/sweeper=search", "hydra.sweeper.trials=1", "hydra.sweeper.baselines=true", "epochs=1"),
        *("margin.value=interval(0.1,0.6)", "dataset.folds=2"),
    ]
    code, out, err = finish(sweep(*arguments))
    assert code == 0, err
    assert "1 trial × 1 seed × 2 folds, then baselines beside the best -> " in out
    found = states(tmp_path)
    assert len(found) == 6 and set(found.values()) == {"finished"}
    assert sum("model=pixels" in name for name in found) == 2
    assert sum("loss=softmax" in name for name in found) == 4
    code, out, err = finish(sweep(*arguments))
    assert code == 0 and "1 done" in out and states(tmp_path) == found, err


def test_pixels_put_no_more_into_the_names_of_other_runs(asked):
    """They have one epoch in an open set, where the others have what was typed."""
    runs, beside, _ = asked("dataset=synthetic evaluation=open_set epochs=5 loss=arcface,cosface")
    names = sorted(run.name for run in [*runs, *beside])
    assert names == ["loss=arcface", "loss=cosface", "loss=softmax", "loss=softmax,model=pixels"]
