"""What a sweep composes once for many runs is what Hydra composes for each."""

import re

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from src.config.compose import CONF, Composer
from tests.conftest import ROOT

MASTERS = {
    "plain": ["hydra.sweep.dir=/tmp/x", "hydra/job_logging=stdout", "hydra.launcher.workers=2"],
    "searchpath": [f"hydra.searchpath=[file://{ROOT}/tests/conf]", "hydra/sweeper=search"],
}
JOBS = [
    "",
    "loss=cosface seed=3",
    "seed=4 margin.value=0.1 loss=cosface",  # in any order
    "loss=arcface loss=cosface",  # the last counts
    "margin=warmup margin.value=[1,2] margin.start=null scale=adacos",
    "experiment=quick epochs=7",
    "experiment=few_classes loss=uniface",
    "experiment=faces_folder model.embedding_dim=7 dataset.root='/a/o\\'b?'",
    "dataset=image_folder evaluation=closed_set",
    "optimizer=faulty optimizer.lr=1",
    "~schedule",
    "+loss@other=cosface +other.x=1",
    "+loss.k=3 ++seed=7",
    "~augment ~neck.dropout ~optimizer.weight_decay",
    "+a.b.c=1 logger.tags=[a,b] seed='1'",
    "margin.value=${loss.scale} scale.value=${oc.env:HOME}",
    "optimizer={weight_decay:0.1} loss={scale:3}",
    "hydra.verbose=true +hydra.job.env_set.X=1 seed=2",
]
REFUSED = [
    "nothing=1",
    "~experiment",
    "~loss",
    "loss=nope",
    "+experiment=quick",
    "++loss=cosface",
    "evaluation@_global_.evaluation=open_set",
    "a@b=1",
    "margin.value",
    "seed=[1",
    "seed=1,2",
    "seed=choice(1,2)",
    "+seed=1",
    "~seed=5",
    "~nothing",
]


@pytest.fixture(scope="module", params=MASTERS)
def both(request):
    """Hydra's way and ours, in one sweep."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        master = hydra.compose_config("train", MASTERS[request.param], run_mode=RunMode.MULTIRUN)
        loader = hydra.config_loader
        ours = Composer(loader, master)
        yield lambda job: loader.load_sweep_config(master, job), ours.compose


def outcome(compose, job: list[str]):
    try:
        composed = compose(job)
    except Exception as error:
        return type(error), str(error)
    return OmegaConf.to_yaml(composed), OmegaConf.is_struct(composed)


def test_a_run_is_composed_as_hydra_composes_it(both):
    hydras, ours = both
    for job in JOBS:
        expected = outcome(hydras, job.split())
        assert type(expected[0]) is str or job.startswith("optimizer=faulty"), job
        assert outcome(ours, job.split()) == expected, job
        assert outcome(ours, job.split()) == expected, job  # the second time, from what was kept


def test_what_hydra_refuses_is_refused_and_the_key_named(both):
    hydras, ours = both
    for job in REFUSED:
        expected, found = outcome(hydras, job.split()), outcome(ours, job.split())
        assert issubclass(expected[0], Exception) and found[0] == expected[0], job
        named = expected[1] == found[1] or re.split(r"[@=]", job.strip("+~"))[0] in found[1]
        assert named, (job, found[1])


def test_runs_of_a_grid_do_not_share_what_they_change(both):
    _, ours = both
    first, second = ours(["seed=1"]), ours(["seed=2"])
    first.loss.label_smoothing = 0.5
    assert (first.seed, second.seed, second.loss.label_smoothing) == (1, 2, 0)


def test_a_grid_of_values_is_composed_by_hydra_once(both, monkeypatch):
    _, ours = both
    ours(["loss=combined", "seed=0"])
    monkeypatch.setattr(ours.__self__.loader, "load_sweep_config", None)
    for seed in range(100):
        assert ours(["loss=combined", f"seed={seed}"]).seed == seed
