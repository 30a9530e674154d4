"""Which runs a sweep has, what they are called, and which it refuses; nothing is trained here."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from src.errors import UserError
from src.run import data as run_data
from src.config.compose import CONF, quoted
from src.run.folder import read_summary, write_json
from src.sweeps.compose import Composer
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
            context = HydraContext(hydra.config_loader, Callbacks())
            return plan(Composer(context, master), jobs, stale)

    return of


def name_of(*overrides: str, varied=()) -> str:
    return run_name(OverridesParser.create().parse_overrides(list(overrides)), varied)


def names(runs) -> list[str]:
    return [run.name for run in runs]


def test_names_say_what_was_asked_for_without_where_and_how():
    where = ["logger=none", "device.threads=1", "dataset.root=/x", "hydra.verbose=true"]
    what = ["seed=1", "margin.value=0.3", "loss=arcface"]
    assert name_of(*where, *what) == "loss=arcface,margin=0.3,seed=1"
    assert name_of("+loss.k=3", "device.precision=bf16") == (
        "device.precision=bf16,loss.k=3"
    )
    assert name_of("margin.value=[1,0.3,0.2]") == "margin=1_0.3_0.2"
    assert name_of("logger=none") == "as-configured"


def test_long_names_are_cut_and_still_differ():
    long = [f"model.an_option_with_a_long_name_{i}=1" for i in range(9)]
    first, second = name_of(*long, "seed=0"), name_of(*long, "seed=1")
    assert first != second and max(len(first), len(second)) <= NAME_LENGTH + 9


def test_a_long_name_shows_what_differs_in_its_sweep_with_seed_and_margin_first(planned):
    long = "model=small_cnn dataset.val_fraction=0.25 optimizer.weight_decay=0.001 batch_size=32"
    long += " augment.rotate=10 augment.shift=0.1 augment.zoom=0.1 neck.dropout=0.1"
    runs = planned(f"{long} schedule.rising=0.2,0.3 seed=0,1 margin.value=0.1,0.2")
    assert len({run.name for run in runs}) == 8
    for run in runs:
        margin, seed, rising = (
            run.values["margin"]["value"],
            run.values["seed"],
            run.values["schedule"]["options"]["rising"],
        )
        shown = f"margin={margin},seed={seed},schedule.rising={rising},"
        assert run.name.startswith(shown) and len(run.name) <= NAME_LENGTH + 9


def test_what_differs_is_shown_even_where_that_alone_is_long():
    typed = [f"model.an_option_with_a_long_name_{i}={'x' * 60}{i}" for i in range(4)]
    name = name_of(*typed, "seed=3", varied={"seed", *(o.split("=")[0] for o in typed)})
    assert name.startswith("seed=3,an_option_with_a_long_name_0=xxx") and len(name) <= LONGEST_NAME + 9
    assert all(f"an_option_with_a_long_name_{i}=" in name for i in range(3))


def test_names_stay_when_values_are_added(planned):
    before = planned("loss=arcface,cosface margin.value=0.1")
    after = planned("loss=arcface,cosface margin.value=0.1,0.2 seed=0,1")
    assert names(before) == ["loss=arcface,margin=0.1", "loss=cosface,margin=0.1"]
    assert len(after) == 8 and len(set(names(after))) == 8
    assert {run.identity for run in before} < {run.identity for run in after}


def test_a_finished_run_is_found_under_any_name_and_an_unfinished_one_goes_on_in_place(
    planned, tmp_path
):
    first, second = planned("loss=arcface,cosface")
    first.folder.mkdir()
    write_json(
        first.folder / "summary.json",
        {
            "config_hash": first.identity,
            "code": first.code,
            "state": "finished",
            "metrics": {"accuracy": 0.9},
        },
    )
    (second.folder / ".hydra").mkdir(parents=True)
    values = OmegaConf.create(second.values)
    OmegaConf.save(values, second.folder / ".hydra" / "config.yaml")
    again = planned("loss=arcface,cosface seed=0,1")
    assert [run.objective for run in again] == [0.9, None, None, None]
    assert again[0].folder == first.folder and again[2].folder == second.folder
    assert names(again)[1::2] == ["loss=arcface,seed=1", "loss=cosface,seed=1"]


def test_a_name_that_other_defaults_took_is_not_used(planned, tmp_path):
    (run,) = planned("loss=arcface")
    run.folder.mkdir()
    write_json(run.folder / "summary.json", {"config_hash": "f" * 16, "state": "finished"})
    (again,) = planned("loss=arcface")
    assert again.name == f"loss=arcface,{again.identity[:6]}"
    run.folder = tmp_path / "foreign"
    run.folder.mkdir()
    (run.folder / "summary.json").write_text("{torn")
    assert planned("loss=arcface")[0].name == again.name


def test_a_process_that_is_lost_after_its_run_finished_loses_nothing(planned):
    done, cut = planned("seed=0,1")
    for run in (done, cut):
        run.folder.mkdir()
    finished = {"config_hash": done.identity, "state": "finished", "metrics": {"accuracy": 0.9}}
    write_json(done.folder / "summary.json", finished)
    assert done.lost("killed").return_value == 0.9 and read_summary(done.folder) == finished
    assert cut.lost("killed").status == JobStatus.FAILED
    assert read_summary(cut.folder)["state"] == "failed"
    assert "killed" in (cut.folder / "train.log").read_text()


def test_runs_asked_for_twice_run_once(planned):
    assert names(planned("seed=0,0,1")) == ["seed=0", "seed=1"]


def test_senseless_runs_are_refused_all_at_once_and_named(planned, tmp_path):
    with pytest.raises(UserError) as refused:
        planned("loss=arcface,softmax,sphereface margin.value=0.3,1.2,wide scale.value=30,0")
    said = str(refused.value).splitlines()
    assert said[0].startswith("no run was started")
    for what in (
        "margin.value=0.3: loss=softmax has no margin",
        "margin.value=wide with loss=arcface",
        "margin.value=0.3 with loss=sphereface",
        "scale.value=0 with loss=arcface",
    ):
        assert sum(what in line for line in said) == 1, (what, said)
    with pytest.raises(UserError, match=r"epochs=few: a whole number from 1 \(2 runs\)"):
        planned("epochs=few,3 seed=0,1")
    with pytest.raises(UserError, match=r"loss=arcfac: choose one of adaface, .*arcface"):
        planned("loss=arcface,arcfac")
    assert not list(tmp_path.iterdir())


def test_grids_are_united_and_crossed_with_the_command_line(planned):
    runs = planned("seed=0,1", "loss=softmax", "loss=arcface margin.value=0.1,0.3")
    assert sorted(names(runs)) == [
        *("loss=arcface,margin=0.1,seed=0", "loss=arcface,margin=0.1,seed=1"),
        *("loss=arcface,margin=0.3,seed=0", "loss=arcface,margin=0.3,seed=1"),
        *("loss=softmax,seed=0", "loss=softmax,seed=1"),
    ]


def test_the_command_line_narrows_a_grid(planned):
    runs = planned("loss=arcface,softmax experiment=margins")
    assert {run.values["loss"]["name"] for run in runs} == {"arcface", "softmax"}
    assert [run.values["margin"]["value"] for run in runs] == [None, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_grid_of_nothing_is_refused_and_numbers_are_compared_as_numbers(planned):
    with pytest.raises(UserError, match=r"loss=magface.*: no grid in hydra\.sweeper\.grids has these"):
        planned("experiment=margins loss=magface")
    assert names(planned("loss=arcface margin.value=0.10", "loss=arcface margin.value=0.1,0.2")) == [
        "loss=arcface,margin=0.1"
    ]


def test_the_margins_experiment_has_no_senseless_pair(planned):
    runs = planned("experiment=margins")
    assert len(runs) == 22
    assert {run.values["loss"]["name"] for run in runs} == {
        *("softmax", "normface", "arcface", "cosface", "sphereface", "combined", "adaface")
    }


def test_a_range_is_for_a_search(planned):
    with pytest.raises(UserError, match="hydra/sweeper=search"):
        planned("margin.value=interval(0.1,0.5)")


def test_a_range_of_steps_is_a_grid(planned):
    assert len(planned("margin.value=range(0.1,0.5,0.1)")) == 4


def test_every_launcher_and_sweeper_names_its_class_and_its_command():
    import hydra_plugins.angular_penalty as plugins

    for path in sorted(Path(CONF, "hydra").glob("[ls]*er/*.yaml")):
        text = path.read_text()
        assert text.startswith("# python -m src.train -m "), path
        module, _, name = OmegaConf.load(path)._target_.rpartition(".")
        assert module == plugins.__name__ and hasattr(plugins, name), path


def finish_by(run, code) -> None:
    run.folder.mkdir(exist_ok=True)
    summary = {"config_hash": run.identity, "state": "finished", "metrics": {"accuracy": 0.9}}
    write_json(run.folder / "summary.json", summary | {"code": code})


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, {"auto": True, "keep": True, "rerun": True}),
        ({"commit": "0" * 12}, {"auto": True, "keep": True, "rerun": False}),
        ({"sources": "0" * 12}, {"auto": False, "keep": True, "rerun": False}),
        (None, {"auto": False, "keep": True, "rerun": False}),  # from before code was recorded
    ],
)
def test_a_finished_run_of_other_code_counts_only_if_it_computes_alike_or_is_kept(
    change, counts, planned
):
    (run,) = planned("seed=0")
    finish_by(run, None if change is None else run.code | change)
    for stale, counted in counts.items():
        (again,) = planned("seed=0", stale=stale)
        assert (again.objective is not None) == counted, stale
        assert bool(again.differs) == (change != {}), stale


def test_one_value_in_two_spellings_is_one_run(planned, tmp_path):
    assert len(planned("scale.value=64,64.0,6.4e1 seed=0,1")) == 2
    assert len(planned("margin.value=0.5,0.50 margin=paper,warmup")) == 2
    assert names(planned("margin.value=range(0.2,0.4,0.1)")) == ["margin=0.2", "margin=0.3"]
    exactly = planned("margin.value=0.3,0.30000000000000004")
    assert len(exactly) == 1


def test_an_objective_that_finished_runs_lack_names_each_of_them(planned):
    for run in planned("seed=0,1"):
        finish_by(run, run.code)
    with pytest.raises(UserError) as refused:
        planned("seed=0,1,2 objective=worst_recall")
    first, *lines = str(refused.value).splitlines()
    assert first == "no run was started, because finished ones lack the objective:"
    assert [line.split(":")[0].strip() for line in lines] == ["seed=0", "seed=1"]
    assert "objective=worst_recall: the finished run has no such metric, but accuracy" in lines[0]
    (run, *_) = planned("seed=0")
    assert run.objective == 0.9
    run.values["objective"] = "worst_recall"  # as if its process were lost just now
    assert run.lost("killed").status == JobStatus.FAILED


def test_a_finished_run_whose_metrics_are_not_numbers_runs_again(planned):
    (run,) = planned("seed=0")
    finish_by(run, run.code)
    summary = read_summary(run.folder)
    for split in ("metrics", "validation"):
        values = {"accuracy": 0.1, "target_angle_mean": float("nan")}
        write_json(run.folder / "summary.json", summary | {split: values})
        for stale in ("auto", "keep"):
            assert planned("seed=0", stale=stale)[0].objective is None


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_finished_run_that_lost_a_file_runs_again_and_is_kept(planned, state):
    (run,) = planned("seed=0")
    finish_by(run, run.code)
    write_json(run.folder / "summary.json", read_summary(run.folder) | {"files": ["metrics.csv"]})
    if state == "empty":
        (run.folder / "metrics.csv").touch()
    for stale, counted in {"auto": False, "keep": True, "rerun": False}.items():
        (again,) = planned("seed=0", stale=stale)
        assert (again.objective is not None) == counted
        assert again.differs == {"files": f"but metrics.csv is {state}"} and again.mark == "incomplete"
    (run.folder / "metrics.csv").write_text("epoch,loss\n1,2\n")
    assert planned("seed=0")[0].objective == 0.9


def test_a_finished_run_on_other_images_runs_again_and_is_kept(planned, folder_of):
    root = folder_of("people")
    line = f"dataset=image_folder dataset.root={root} evaluation=closed_set dataset.val_fraction=0.4"
    (run,) = planned(line)
    finish_by(run, run.code)
    run_data._fingerprint.cache_clear()
    data = run_data.data_fingerprint(run.values)
    write_json(run.folder / "summary.json", read_summary(run.folder) | {"data": data})
    assert planned(line)[0].objective == 0.9

    changed = root / "p03" / "p03_0002.png"  # the same name, another picture
    changed.write_bytes((root / "p05" / "p05_0002.png").read_bytes())
    run_data._fingerprint.cache_clear()
    for stale, counted in {"auto": False, "keep": True, "rerun": False}.items():
        (again,) = planned(line, stale=stale)
        assert (again.objective is not None) == counted
        assert again.differs["images"].startswith("on other images (") and again.mark == "other-images"
    root.rename(root.with_name("elsewhere"))  # nobody can say now
    run_data._fingerprint.cache_clear()
    assert planned(line)[0].objective == 0.9


def test_a_folder_with_odd_characters_is_quoted_for_hydra(tmp_path):
    folder = f"{tmp_path}/o'brien, what? 50% {{x}} [1]"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        master = hydra.compose_config("train", [f"hydra.sweep.dir={quoted(folder)}"], RunMode.MULTIRUN)
        context = HydraContext(hydra.config_loader, Callbacks())
        (run,) = plan(Composer(context, master), [["seed=1"]])
        again = hydra.config_loader.load_sweep_config(master, run.overrides)  # as Hydra's launchers do
    assert again.hydra.sweep.dir == folder and again.hydra.sweep.subdir == "seed=1"
    assert quoted("outputs/2026-01-01/a") == "outputs/2026-01-01/a"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("model=pixels model.embedding_dim=8", "model.embedding_dim=8: model=pixels has as many as"),
        ("scale=adacos loss.scale=8", "loss.scale=8: nothing reads this key here, scale.value has"),
        ("margin.value=0.3 loss.margin=0.2", "loss.margin=0.2: nothing reads this key here"),
        ("+loss.few_classes.margin=0.1", "loss.few_classes.margin=0.1: nothing reads this key here"),
        ("loss=uniface loss.few_classes.scale=9", "loss.few_classes.scale=9: nothing reads"),
        ("model.embedding_dim=4 dataset.embedding_dim=5", "dataset.embedding_dim=5: nothing reads"),
        ("objective=worst_recall evaluation.objective=accuracy", "evaluation.objective=accuracy: noth"),
    ],
)
def test_a_typed_key_that_the_chosen_groups_do_not_read_is_refused(line, said, planned):
    with pytest.raises(UserError, match=said):
        planned(line)


def test_a_typed_key_that_is_read_through_another_is_kept(planned):
    assert planned("loss.scale=8 loss.margin=0.2")[0].values["scale"]["value"] == 8
    (run,) = planned("experiment=few_classes loss=uniface loss.few_classes.scale=9")
    assert run.values["scale"]["value"] == 9


def test_mistakes_of_all_runs_are_said_each_once(planned):
    with pytest.raises(UserError) as refused:
        planned("loss=arcface,cosface margin.value=0.1,9 scale.value=1e39 epochs=0 neck.norm=off")
    lines = [line.strip().split(":")[0].split(" with")[0] for line in str(refused.value).splitlines()]
    assert set(lines[1:]) == {"margin.value=9", "scale.value=1e+39", "epochs=0", "neck.norm=off"}
