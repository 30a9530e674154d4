"""What makes two runs one: the numbers that they compute, and the code that computes them."""

import subprocess
import sys

import pytest

from src.config import Config, computed, identity, setting
from src.config.identity import normalised
from src.run import code
from src.run.code import Code, code_of
from tests.conftest import ROOT


def test_the_identity_names_what_a_run_computes(composed):
    base = identity(composed())
    where_and_how = ("logger=csv", "device=cpu", "device.threads=1", "dataset.root=/elsewhere")
    reported = ("plots.animate=true", "dataset.memory=1", "objective=worst_recall", "device.graph=auto")
    for same in (*where_and_how, *reported):
        assert identity(composed(same)) == base, same
    for other in (
        *("seed=1", "margin.value=0.4", "loss=cosface", "device.precision=bf16", "epochs=3"),
        *("neck.norm=true", "model.embedding_dim=4", "scale=learnable", "margin=warmup"),
        *("dataset.val_fraction=0", "optimizer.head_lr=0.01", "loss.beyond_pi=paper", "ema.decay=0.9"),
    ):
        assert identity(composed(other)) != base, other


def test_one_computation_in_two_spellings_is_one_run(composed):
    for same in (
        ["scale.value=64.0"],
        ["scale.value=6.4e1"],
        ["margin=paper", "margin.value=0.5"],
        ["margin.value=0.50000000000000004"],
        ["loss.margin=0.5"],
        ["experiment=few_classes", "dataset.val_fraction=0.1"],  # which changes nothing for arcface
        ["optimizer.head_lr=0.003"],  # null is the same rate
        ["augment.flip=0.0"],
        ["loss.label_smoothing=0.0"],
        ["loss.label_smoothing='0'"],
        ["seed=${oc.env:NO_SUCH_VARIABLE,0}", "epochs='30'", "margin.value='0.5'"],
        ["optimizer.head_lr=${oc.env:NO_SUCH_VARIABLE,0.003}"],
    ):
        assert identity(composed(*same)) == identity(composed()), same


def test_where_images_lie_is_no_part_of_the_run(composed):
    for same in (
        ["dataset=image_folder"],
        ["dataset=manifest", "dataset.file=a/labels.csv"],
        ["dataset=embeddings", "dataset.file=x.npy", "dataset.labels=y.npy"],
        ["dataset._target_=somebody.reader"],
    ):
        there = [
            word.replace("=a/", "=/b/").replace("=x", "=b/x").replace("=y", "=b/y") for word in same
        ]
        assert identity(composed(*same)) == identity(composed(*there, "dataset.root=elsewhere")), same
    named = ("dataset=manifest", "dataset.file=a.csv")
    assert identity(composed(*named)) != identity(composed(*named, "dataset.label_column=kind"))
    foreign = ("dataset._target_=somebody.reader", "+dataset.file=a.csv")
    assert identity(composed(*foreign)) != identity(composed(foreign[0], "+dataset.file=b.csv"))


def test_a_new_key_orphans_no_old_run(composed):
    config = composed()
    old = config.plain()
    del old["augment"], old["neck"], old["ema"]  # as if these keys had come later
    for name in ("label_smoothing", "class_weights", "inter_topk", "beyond_pi", "gradient"):
        del old["loss"][name]
    assert identity(Config.model_validate(old)) == identity(config)


def test_of_somebody_elses_class_no_default_is_known(composed):
    config = composed("loss._target_=somebody.A")
    plain = config.plain()
    del plain["loss"]["label_smoothing"]
    assert identity(Config.model_validate(plain)) != identity(config)


def test_a_seed_and_a_fold_are_repeats_of_a_setting(composed):
    for target in ([], ["dataset._target_=somebody.reader"]):
        whole = composed(*target)
        first, second, of_four = (
            composed(*target, f"dataset.folds={folds}", f"dataset.fold={fold}", f"seed={fold}")
            for folds, fold in ((5, 0), (5, 1), (4, 0))
        )
        assert len({*map(identity, (whole, first, second, of_four))}) == 4
        assert setting(first) == setting(second)
        assert len({*map(setting, (whole, first, of_four))}) == 3
    assert "seed" in computed(composed())


def test_large_seeds_stay_apart_and_lists_are_normalised():
    assert normalised(2**60) != normalised(2**60 + 1)
    assert normalised([1.0, 0.1 + 0.2, True, None]) == [1, 0.3, True, None]
    assert normalised(True) is True


def test_a_choice_counts_by_its_class_and_not_by_its_name(composed):
    typed = composed("loss._target_=src.losses.ArcFace")
    assert typed.name("loss") == "ArcFace" and composed().name("loss") == "arcface"
    assert identity(typed) == identity(composed())


# ---------------------------------------------------------------------------------------------- the code


def test_sources_that_compute_make_the_code_and_others_do_not(tmp_path, monkeypatch):
    for part in ("losses", "plots", "sweeps", "run"):
        (tmp_path / "src" / part).mkdir(parents=True)
        (tmp_path / "src" / part / "a.py").write_text("x = 1")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    before = code.computing_sources()
    for part in ("plots", "sweeps"):
        (tmp_path / "src" / part / "a.py").write_text("x = 2")
    assert code.computing_sources() == before
    for name in ("losses/a.py", "run/a.py", "durable.py"):
        (tmp_path / "src" / name).write_text("x = 2")
        assert code.computing_sources() != before, name
        before = code.computing_sources()


def test_somebody_elses_class_is_part_of_the_code(tmp_path, monkeypatch, composed):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_of_test.py").write_text("class A:\n    class B: ...")
    config = composed("loss._target_=mine_of_test.A.B")  # a class inside a class
    with_mine = code_of(config).sources
    assert "unknow" not in with_mine and with_mine != code_of(composed()).sources
    code.foreign_sources.cache_clear()
    (tmp_path / "mine_of_test.py").write_text("class A:\n    class B: x = 1")
    assert code_of(config).sources != with_mine


def test_code_is_described_with_and_without_git():
    assert str(Code(sources="a" * 12, commit=None, dirty=False)) == "a" * 12
    with_git = Code(sources="a" * 12, commit="b" * 12, dirty=True)
    assert str(with_git) == f"{'a' * 12} (commit bbbbbbb, with changes)"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("loss=arcfac", "did you mean loss=arcface?"),
        ("los=arcface", "did you mean loss?"),
        ("epochz=3", "did you mean epochs?"),
        ("hydra.launcher.n_jobs=2", "there are hydra.launcher._target_, hydra.launcher.timeout"),
        ("epochs=0", "epochs=0: expected an integer ≥ 1"),
        ("device.precision=fp8", "device.precision=fp8: expected one of fp32, bf16, auto"),
        ("optimizer.lr=fast", "optimizer.lr=fast: expected a number > 0"),
    ],
)
def test_a_mistake_is_answered_without_torch(typed, said, tmp_path):
    without_torch = (
        "import runpy, sys; sys.modules['torch'] = None; "
        "runpy.run_module('src.train', run_name='__main__', alter_sys=True)"
    )
    given = ["experiment=quick", typed, f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "-c", without_torch, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and "experiment=quick:" not in done.stderr
    assert not (tmp_path / "run").exists()
