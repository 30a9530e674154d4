"""What makes two runs one: the numbers that they compute, and the code that computes them."""

import subprocess
import sys

import pytest

from src.losses import MarginHead
from src.run import identity
from src.config.compose import CONF
from src.run.identity import (
    NAMES,
    code_of,
    computed,
    config_hash,
    normalised,
    same_sources,
    setting_hash,
)
from src.run.targets import locate
from tests.conftest import ROOT


def test_the_hash_names_what_a_run_computes(composed):
    base = config_hash(composed())
    where_and_how = ("logger=none", "device=cpu", "device.threads=1", "dataset.root=/elsewhere")
    for same in (*where_and_how, "plots.animate=true", "dataset.memory=1", "objective=worst_recall"):
        assert config_hash(composed(same)) == base, same
    for other in ("seed=1", "margin.value=0.4", "loss=cosface", "device.precision=bf16", "epochs=3"):
        assert config_hash(composed(other)) != base, other


@pytest.mark.parametrize(
    "same",
    [
        ("scale.value=64.0",),
        ("scale.value=6.4e1",),
        ("margin=paper", "margin.value=0.5"),
        ("margin.value=0.50000000000000004",),
        ("margin=few_classes", "scale=few_classes"),  # arcface has no settings of its own for those
        ("optimizer.head_lr=0.003",),  # null is the same rate
        ("augment.flip=0.0",),
        ("loss.label_smoothing=0.0",),
    ],
    ids=" ".join,
)
def test_one_computation_in_two_spellings_is_one_run(same, composed):
    assert config_hash(composed(*same)) == config_hash(composed())


def test_a_warm_up_from_no_margin_is_one_run_however_it_is_said(composed):
    for path in sorted((CONF / "loss").glob("[!_]*.yaml")):
        config = composed(f"loss={path.stem}", "margin=warmup")
        target = locate("loss", config["loss"]["_target_"])
        if not issubclass(target, MarginHead):
            continue
        start = normalised(target.no_margin)
        said = config | {"margin": config["margin"] | {"start": start}}
        assert config_hash(said) == config_hash(config), path.stem
        other = config | {"margin": config["margin"] | {"start": normalised(config["margin"]["value"])}}
        assert config_hash(other) != config_hash(config), path.stem
    m = composed("loss=sphereface2", "loss.kind=M", "margin=warmup", "margin.value=1.4")
    assert config_hash(m | {"margin": m["margin"] | {"start": 1.0}}) == config_hash(m)


@pytest.mark.parametrize("group", ["optimizer", "schedule"])
def test_the_name_of_an_optimizer_or_a_schedule_computes_nothing(group, composed):
    for path in sorted((CONF / group).glob("*.yaml")):
        config = composed(f"{group}={path.stem}")
        assert NAMES[config[group]["_target_"]] == path.stem  # so no run of before is orphaned
        renamed = config | {group: config[group] | {"name": "mine"}}
        assert config_hash(renamed) == config_hash(config)


def test_one_folder_in_two_spellings_is_one(composed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def of(root):
        return config_hash(composed("dataset=image_folder", f"dataset.root={root}"))

    assert of("faces") == of("faces/") == of("./faces") == of(tmp_path / "faces") != of("others")


def test_a_new_neutral_key_orphans_no_old_run(composed):
    config = composed()
    old = config_hash(config)
    config["augment"].clear()  # as if these keys had come later
    for key in ("label_smoothing", "class_weights", "inter_topk", "beyond_pi", "gradient"):
        del config["loss"]["options"][key]
    assert config_hash(config) == old
    config["optimizer"]["clip"] = None
    assert config_hash(config) == old


@pytest.mark.parametrize("target", [None, "somebody.reader"])
def test_folds_orphan_no_run_from_before_and_a_fold_is_a_repeat(target, composed):
    config = composed(*([f"dataset._target_={target}"] if target else []))
    whole = config_hash(config)
    dataset = config["dataset"]
    before = {key: value for key, value in dataset.items() if key not in ("folds", "fold")}
    assert config_hash(config | {"dataset": before}) == whole
    first, second, of_four = (
        config | {"dataset": dataset | {"folds": folds, "fold": fold}}
        for folds, fold in ((5, 0), (5, 1), (4, 0))
    )
    assert len({whole, *map(config_hash, (first, second, of_four))}) == 4
    assert setting_hash(first) == setting_hash(second) not in (whole, setting_hash(of_four))


def test_large_seeds_stay_apart_and_lists_are_normalised():
    assert identity.normalised(2**60) != identity.normalised(2**60 + 1)
    assert identity.normalised([1.0, 0.1 + 0.2, True, None]) == [1, 0.3, True, None]
    assert identity.normalised(True) is True


def test_a_setting_is_what_runs_have_in_common_but_for_the_seed(composed):
    first, second = (composed(f"seed={seed}") for seed in (0, 1))
    assert setting_hash(first) == setting_hash(second) != config_hash(first)
    assert "seed" not in computed(first | {"seed": None})


def test_sources_that_compute_make_the_code_and_others_do_not(tmp_path, monkeypatch, composed):
    for part in ("losses", "plots", "run"):
        (tmp_path / "src" / part).mkdir(parents=True)
        (tmp_path / "src" / part / "a.py").write_text("x = 1")
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    monkeypatch.setattr(identity, "COMPUTING", ("losses",))
    before = identity.computing_sources()
    (tmp_path / "src" / "plots" / "a.py").write_text("x = 2")
    assert identity.computing_sources() == before
    (tmp_path / "src" / "losses" / "a.py").write_text("x = 2")
    assert identity.computing_sources() != before


def test_somebody_elses_class_is_part_of_the_code(tmp_path, monkeypatch, composed):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_of_test.py").write_text("class A: ...")
    config = composed("loss._target_=mine_of_test.A")
    with_mine = code_of(config)
    assert not same_sources(code_of(composed()), with_mine)
    identity.foreign_sources.cache_clear()
    (tmp_path / "mine_of_test.py").write_text("class A: x = 1")
    assert not same_sources(code_of(config), with_mine)


def test_a_class_inside_a_class_is_found_in_its_file(tmp_path, monkeypatch, composed):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nested_of_test.py").write_text("class A:\n    class B: ...")
    assert "unknow" not in code_of(composed("loss._target_=nested_of_test.A.B"))["sources"]


def test_of_somebody_elses_class_no_value_is_known_to_be_neutral(composed):
    config = composed("loss._target_=somebody.A")
    with_value = config_hash(config)
    del config["loss"]["options"]["label_smoothing"]
    assert config_hash(config) != with_value


def test_code_is_described_with_and_without_git():
    code = {"sources": "a" * 12, "commit": None, "dirty": False}
    assert identity.describe_code(code) == "a" * 12
    with_git = code | {"commit": "b" * 12, "dirty": True}
    assert identity.describe_code(with_git) == f"{'a' * 12} (commit bbbbbbb, with changes)"
    assert identity.describe_code(None) == "unknown"


def test_identity_needs_no_torch():
    code = "import sys, src.run.identity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("loss=arcfac", "arcface"),
        ("epochz=3", "epochs"),
        ("epochs=0", "epochs=0: a whole number from 1"),
        ("device.precision=fp8", "device.precision=fp8: choose one of fp32, bf16, auto"),
        ("optimizer.lr=fast", "optimizer.lr=fast: a number above 0"),
    ],
)
def test_a_mistake_is_answered_without_torch(typed, said, tmp_path):
    code = (
        "import runpy, sys; sys.modules['torch'] = None; "
        "runpy.run_module('src.train', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, typed, f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()
