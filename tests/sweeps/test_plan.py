"""Which runs a sweep has, what they are called, and which it refuses; nothing is trained here."""

import json
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from src.config.compose import CONF, Composer, quoted
from src.errors import UserError
from src.run import data as run_data
from src.run.build import check_config
from src.run.summary import Summary
from src.sweeps.grid import combinations
from src.sweeps.plan import LONGEST_NAME, NAME_LENGTH, plan, run_name


def parse(line: str):
    return OverridesParser.create().parse_overrides(line.split())


@pytest.fixture
def planned(tmp_path):
    """planned("loss=arcface,cosface seed=0", grids…) -> the runs of that sweep into tmp_path."""

    def of(line: str, *grids: str, then=(), stale: str = "auto"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            arguments = [*line.split(), f"hydra.sweep.dir={tmp_path}", *then]
            master = hydra.compose_config("train", arguments, run_mode=RunMode.MULTIRUN)
            task = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
            grids = [*grids, *master.hydra.sweeper.grids]
            jobs = combinations(parse(" ".join(task)), [parse(grid) for grid in grids])
            return plan(Composer(hydra.config_loader, master, check_config), jobs, stale)

    return of


def name_of(*overrides: str, but: str = "") -> str:
    """The name of a run in whose sweep all its overrides differ, `but` for one."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return run_name(parsed, {override.key_or_group for override in parsed} - {but})


def names(runs) -> list[str]:
    return [run.name for run in runs]


def finish_by(run, code=None, **more) -> Summary:
    """Leave a run as if `code` had finished it."""
    run.folder.path.mkdir(exist_ok=True)
    summary = Summary.of(run.config, code or run.code)
    summary = summary.model_copy(update={"metrics": {"accuracy": 0.9}, **more})
    run.folder.write_summary(summary)
    return summary


def test_names_say_what_differs_without_where_and_how():
    where = ["logger=csv", "logger.project=x", "plots.figures=false", "hydra.verbose=true"]
    what = ["seed=1", "margin.value=0.3", "loss=arcface"]
    assert name_of(*where, *what) == "loss=arcface,margin=0.3,seed=1"
    assert name_of(*where, *what, but="seed") == "loss=arcface,margin=0.3"
    assert name_of("+loss.k=3", "device.precision=bf16") == "device.precision=bf16,loss.k=3"
    assert name_of("margin.value=[1,0.3,0.2]") == "margin=1_0.3_0.2"
    assert name_of("logger=csv") == name_of("seed=1", but="seed") == "run"


def test_long_names_are_cut_and_still_differ():
    long = [f"model.an_option_with_a_long_name_{i}=1" for i in range(9)]
    first, second = name_of(*long, "seed=0"), name_of(*long, "seed=1")
    assert first != second and max(len(first), len(second)) <= LONGEST_NAME + 9


def test_a_name_shows_what_differs_in_its_sweep_alone(planned):
    long = "model=small_cnn dataset.val_fraction=0.25 optimizer.weight_decay=0.001 batch_size=32"
    long += " augment.rotate=10 augment.shift=0.1 augment.zoom=0.1 neck.dropout=0.1"
    runs = planned(f"{long} schedule.rising=0.2,0.3 seed=0,1 margin.value=0.1,0.2")
    assert len({run.name for run in runs}) == 8
    for run in runs:
        rising = run.config.schedule.arguments["rising"]
        assert (
            run.name
            == f"margin={run.config.margin.value},schedule.rising={rising},seed={run.config.seed}"
        )


def test_what_differs_is_shown_even_where_that_alone_is_long():
    typed = [f"model.an_option_with_a_long_name_{i}={'x' * 60}{i}" for i in range(4)]
    name = name_of(*typed, "seed=3")
    assert name.startswith("seed=3,an_option_with_a_long_name_0=xxx") and len(name) <= LONGEST_NAME + 9
    assert all(f"an_option_with_a_long_name_{i}=" in name for i in range(3))
    shorter = name_of(*(word[:45] for word in typed), "seed=3")
    assert shorter.startswith("seed=3,model.an_option_with_a_long_name_0=xxx")
    assert NAME_LENGTH < len(shorter) <= LONGEST_NAME + 9


def test_runs_stay_when_values_are_added(planned):
    before = planned("loss=arcface,cosface margin.value=0.1")
    after = planned("loss=arcface,cosface margin.value=0.1,0.2 seed=0,1")
    assert names(before) == ["loss=arcface", "loss=cosface"]
    assert len(after) == 8 and len(set(names(after))) == 8
    assert {run.identity for run in before} < {run.identity for run in after}


def test_a_finished_run_is_found_under_any_name_and_an_unfinished_one_goes_on_in_place(planned):
    first, second = planned("loss=arcface,cosface")
    finish_by(first)
    second.folder.path.mkdir()
    second.folder.begin(Summary.of(second.config, second.code))
    again = planned("loss=arcface,cosface seed=0,1")
    assert [run.objective for run in again] == [0.9, None, None, None]
    assert again[0].folder == first.folder and again[2].folder == second.folder
    assert names(again)[1::2] == ["loss=arcface,seed=1", "loss=cosface,seed=1"]


def test_a_name_that_another_run_took_is_not_used(planned, tmp_path):
    (run,) = planned("loss=arcface")
    finish_by(run, identity="f" * 16)
    (again,) = planned("loss=arcface")
    assert again.name == f"run,{again.identity[:6]}"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "summary.json").write_text("{torn")
    assert planned("loss=arcface")[0].name == again.name


def test_a_process_that_is_lost_after_its_run_finished_loses_nothing(planned):
    done, cut = planned("seed=0,1")
    finished = finish_by(done)
    cut.folder.path.mkdir()
    assert done.lost("killed").objective == 0.9 and done.folder.summary() == finished
    assert "once the run was finished, killed" in (done.folder.path / "train.log").read_text()
    assert cut.lost("killed").failed
    assert cut.folder.summary().state == "failed" and cut.folder.summary().error == "killed"
    assert "killed" in (cut.folder.path / "train.log").read_text()


def test_runs_asked_for_twice_run_once(planned):
    assert names(planned("seed=0,0,1")) == ["seed=0", "seed=1"]


def test_senseless_runs_are_refused_all_at_once_and_named(planned, tmp_path):
    with pytest.raises(UserError) as refused:
        planned("loss=arcface,softmax,sphereface margin.value=0.3,1.2,wide scale.value=30,0")
    said = str(refused.value).splitlines()
    assert said[0].startswith("no run was started")
    for what in (
        "margin.value=0.3: loss=softmax has no margin",
        "margin.value=wide: expected a number",
        "margin.value=0.3: expected a finite number ≥ 1 for SphereFace (loss=sphereface)",
        "scale.value=0: expected a finite number above 0, in float32's range (loss=arcface)",
    ):
        assert sum(what in line for line in said) == 1, (what, said)
    with pytest.raises(UserError, match=r"epochs=few: expected an integer ≥ 1 \(2 runs\)"):
        planned("epochs=few,3 seed=0,1")
    with pytest.raises(UserError, match=r"loss=arcfac: did you mean loss=arcface\?"):
        planned("loss=arcface,arcfac")
    assert not list(tmp_path.iterdir())


def test_grids_are_united_and_crossed_with_the_command_line(planned):
    runs = planned("seed=0,1", "loss=softmax", "loss=arcface margin.value=0.1,0.3")
    assert sorted(names(runs)) == [
        *("loss=arcface,margin=0.1,seed=0", "loss=arcface,margin=0.1,seed=1"),
        *("loss=arcface,margin=0.3,seed=0", "loss=arcface,margin=0.3,seed=1"),
        *("loss=softmax,seed=0", "loss=softmax,seed=1"),
    ]


@pytest.mark.parametrize("value", ["${hydra:job.num}", "${hydra.job.num}"])
def test_a_number_that_a_run_has_once_it_starts_is_no_part_of_what_it_computes(value, planned):
    said = r"\n  seed=\$\{hydra.job.num\}: what Hydra says of a run that starts is no part of .*"
    with pytest.raises(UserError, match=said):
        planned(f"seed={value}")


def test_the_command_line_narrows_a_grid(planned):
    runs = planned("loss=arcface,softmax experiment=margins")
    assert {run.config.name("loss") for run in runs} == {"arcface", "softmax"}
    assert [run.config.margin.value for run in runs] == [None, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_grid_of_nothing_is_refused_and_numbers_are_compared_as_numbers(planned):
    with pytest.raises(UserError, match=r"loss=magface.*: no grid in hydra\.sweeper\.grids has these"):
        planned("experiment=margins loss=magface")
    (run,) = planned("loss=arcface margin.value=0.10", "loss=arcface margin.value=0.1,0.2")
    assert run.config.margin.value == 0.1


def test_the_margins_experiment_has_no_senseless_pair(planned):
    runs = planned("experiment=margins")
    assert len(runs) == 22
    assert {run.config.name("loss") for run in runs} == {
        *("softmax", "normface", "arcface", "cosface", "sphereface", "combined", "adaface")
    }


def test_a_range_is_for_a_search(planned):
    with pytest.raises(UserError, match="hydra/sweeper=search"):
        planned("margin.value=interval(0.1,0.5)")


def test_a_range_of_steps_is_a_grid(planned):
    assert len(planned("margin.value=range(0.1,0.5,0.1)")) == 4


def test_every_launcher_and_sweeper_names_its_class_and_its_command():
    import hydra_plugins.angular_penalty as plugins

    for path in sorted(Path(CONF, "hydra").glob("[ls]*er/[!_]*.yaml")):
        text = path.read_text()
        assert text.startswith("# python -m src.train -m "), path
        module, _, name = OmegaConf.load(path)._target_.rpartition(".")
        assert module == plugins.__name__ and hasattr(plugins, name), path


def test_a_finished_run_of_other_code_counts_only_if_it_computes_alike_or_is_kept(planned):
    (run,) = planned("seed=0")
    for change, counts in (
        ({}, {"auto": True, "keep": True, "rerun": True}),
        ({"commit": "0" * 12}, {"auto": True, "keep": True, "rerun": False}),
        ({"sources": "0" * 12}, {"auto": False, "keep": True, "rerun": False}),
    ):
        finish_by(run, run.code.model_copy(update=change))
        for stale, counted in counts.items():
            (again,) = planned("seed=0", stale=stale)
            assert (again.objective is not None) == counted, (change, stale)
            assert bool(again.differs) == bool(change), (change, stale)


def test_a_finished_run_that_says_no_code_is_none(planned):
    (run,) = planned("seed=0")
    finish_by(run)
    summary = run.folder.path / "summary.json"
    without = json.loads(summary.read_text())
    del without["code"]
    summary.write_text(json.dumps(without))
    assert planned("seed=0", stale="keep")[0].objective is None


def test_one_value_in_two_spellings_is_one_run(planned):
    assert len(planned("scale.value=64,64.0,6.4e1 seed=0,1")) == 2
    assert len(planned("margin.value=0.5,0.50 margin=paper,warmup")) == 2
    assert names(planned("margin.value=range(0.2,0.4,0.1)")) == ["margin=0.2", "margin=0.3"]
    exactly = planned("margin.value=0.3,0.30000000000000004")
    assert len(exactly) == 1


def test_an_objective_that_finished_runs_lack_names_each_of_them(planned):
    for run in planned("seed=0,1"):
        finish_by(run)
    with pytest.raises(UserError) as refused:
        planned("seed=0,1,2 objective=worst_recall")
    first, *lines = str(refused.value).splitlines()
    assert first == "no run was started, because finished ones lack the objective:"
    assert [line.split(":")[0].strip() for line in lines] == ["seed=0", "seed=1"]
    assert "objective=worst_recall: the finished run has no such metric, but accuracy" in lines[0]
    (run, *_) = planned("seed=0")
    assert run.objective == 0.9
    run.config = run.config.replace(objective="worst_recall")  # as if its process were lost just now
    assert run.lost("killed").failed


def test_a_finished_run_whose_metrics_are_not_numbers_runs_again(planned):
    (run,) = planned("seed=0")
    for split in ("metrics", "validation"):
        finish_by(run, **{split: {"accuracy": 0.1, "target_angle_mean": float("nan")}})
        for stale in ("auto", "keep"):
            assert planned("seed=0", stale=stale)[0].objective is None


def test_a_finished_run_that_lost_a_file_runs_again_and_is_kept(planned):
    (run,) = planned("seed=0")
    finish_by(run, files=["metrics.csv"])
    for state in ("missing", "empty"):
        if state == "empty":
            (run.folder.path / "metrics.csv").touch()
        for stale, counted in {"auto": False, "keep": True, "rerun": False}.items():
            (again,) = planned("seed=0", stale=stale)
            assert (again.objective is not None) == counted
            assert again.differs == {"files": f"but metrics.csv is {state}"}
            assert again.mark == "incomplete"
    (run.folder.path / "metrics.csv").write_text("epoch,loss\n1,2\n")
    assert planned("seed=0")[0].objective == 0.9


def test_a_finished_run_on_other_images_runs_again_and_is_kept(planned, folder_of):
    root = folder_of("people")
    line = f"dataset=image_folder dataset.root={root} evaluation=closed_set dataset.val_fraction=0.4"
    (run,) = planned(line)
    run_data._fingerprints.clear()
    finish_by(run, data=run_data.data_fingerprint(run.config))
    assert planned(line)[0].objective == 0.9

    changed = root / "p03" / "p03_0002.png"  # the same name, another picture
    changed.write_bytes((root / "p05" / "p05_0002.png").read_bytes())
    run_data._fingerprints.clear()
    for stale, counted in {"auto": False, "keep": True, "rerun": False}.items():
        (again,) = planned(line, stale=stale)
        assert (again.objective is not None) == counted
        assert again.differs["images"].startswith("on other images (") and again.mark == "other-images"
    root.rename(root.with_name("elsewhere"))  # nobody can say now
    run_data._fingerprints.clear()
    assert planned(line)[0].objective == 0.9


def test_the_same_images_in_another_place_are_the_same_runs(planned, folder_of):
    root = folder_of("people")
    line = "dataset=image_folder evaluation=closed_set dataset.root="
    (run,) = planned(f"{line}{root}")
    run_data._fingerprints.clear()
    finish_by(run, data=run_data.data_fingerprint(run.config))
    moved, link = root.rename(root.with_name("moved")), root.with_name("link")
    link.symlink_to(moved)
    for place in (moved, link):
        (again,) = planned(f"{line}{place}")
        assert again.folder.path == run.folder.path and again.objective == 0.9
    with pytest.raises(UserError, match=r"moved and .*link: a sweep is of one data set"):
        planned(f"{line}{moved},{link}")


def test_a_folder_with_odd_characters_is_quoted_for_hydra(tmp_path):
    folder = f"{tmp_path}/o'brien, what? 50% {{x}} [1]"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        master = hydra.compose_config("train", [f"hydra.sweep.dir={quoted(folder)}"], RunMode.MULTIRUN)
        (run, _) = plan(Composer(hydra.config_loader, master, check_config), [["seed=1"], ["seed=2"]])
        again = hydra.config_loader.load_sweep_config(master, run.overrides)  # as Hydra's launchers do
    assert again.hydra.sweep.dir == folder and again.hydra.sweep.subdir == "seed=1"
    assert quoted("outputs/2026-01-01/a") == "outputs/2026-01-01/a"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("model=pixels model.embedding_dim=8", "model.embedding_dim=8: model=pixels has as many dim"),
        (
            "scale=adacos loss.scale=8",
            "loss.scale=8: nothing reads this key here, scale=adacos computes it",
        ),
        ("margin.value=0.3 loss.margin=0.2", "loss.margin=0.2: nothing reads this key here"),
        (
            "experiment=few_classes loss=uniface loss.scale=9",
            "loss.scale=9: nothing reads this key",
        ),
        ("model.embedding_dim=4 dataset.embedding_dim=5", "dataset.embedding_dim=5: nothing reads"),
        ("objective=worst_recall evaluation.objective=accuracy", "evaluation.objective=accuracy: noth"),
    ],
)
def test_a_typed_key_that_the_chosen_groups_do_not_read_is_refused(line, said, planned):
    with pytest.raises(UserError, match=said):
        planned(line)


def test_a_typed_key_that_is_read_through_another_is_kept(planned):
    assert planned("loss.scale=8 loss.margin=0.2")[0].config.scale.value == 8
    (run,) = planned("experiment=few_classes loss=uniface scale.value=9")
    assert run.config.scale.value == 9 and run.config.margin.value == 0.2


def test_mistakes_of_all_runs_are_said_each_once(planned):
    with pytest.raises(UserError) as refused:
        planned("loss=arcface,cosface margin.value=0.1,9 scale.value=1e39 epochs=0 neck.norm=maybe")
    lines = [line.strip().split(":")[0] for line in str(refused.value).splitlines()]
    assert set(lines[1:]) == {"margin.value=9", "scale.value=1e+39", "epochs=0", "neck.norm=maybe"}


def test_a_folder_of_something_else_is_left_alone_whatever_it_is_called(planned, tmp_path):
    (run, _) = planned("seed=0,1")
    run.folder.path.mkdir(parents=True)
    (run.folder.path / "metrics.csv").write_text("mine")
    assert planned("seed=0,1")[0].folder.path == run.folder.path.with_name(
        f"{run.name},{run.identity[:6]}"
    )
