"""Every choice composes and is built; every mistake is named before training."""

import inspect
import re

import pytest
import torch

from src.config import CHOICES, check, check_group_values, config_hash
from src.datasets import READERS
from src.errors import UserError
from src.evaluation import EVALUATIONS
from src.losses import HEADS, MarginHead
from src.models import BACKBONES, LIBRARIES
from src.train import CONF, prepare
from src.training import OPTIMIZERS, SCHEDULES
from tests.conftest import FAST

# Options that a cross entropy takes, and the members without one do not use.
COSINE_OPTIONS = {"label_smoothing", "class_weights", "inter_topk", "inter_topk_margin"}
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
FILES = [(group, path) for group in GROUPS for path in sorted((CONF / group).glob("[!_]*.yaml"))]
BUILT = [(g, path.stem) for g, path in FILES if path.stem not in ("cuda", "mps", "fashion_mnist_sphere")]


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_a_file_opens_with_the_command_that_uses_it(group, path):
    first = next(line for line in path.read_text().splitlines() if "@package" not in line)
    assert re.match(r"# (DATA_ROOT=\S+ )?python -m src\.train ", first)
    assert f"{group}={path.stem}" in first or group in ("margin", "scale")


@pytest.mark.parametrize(
    ("group", "registry"),
    [
        ("loss", HEADS),
        ("model", (*BACKBONES, *LIBRARIES, "resnet18")),  # the last is torchvision's
        ("dataset", READERS),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("evaluation", EVALUATIONS),
        *((group, CHOICES[f"{group}.name"]) for group in ("margin", "scale", "device", "logger")),
    ],
)
def test_each_registered_name_has_a_file_and_each_file_a_name(group, registry, composed):
    assert {path.stem for g, path in FILES if g == group} == set(registry)
    if group not in ("margin", "scale"):
        for name in set(registry) - set(LIBRARIES):
            assert composed(f"{group}={name}")[group]["name"] == name


@pytest.mark.parametrize(("group", "choice"), BUILT)
def test_each_choice_is_built(group, choice, composed, tmp_path, request):
    overrides = ["model=mlp", "logger=none", f"{group}={choice}", "batch_size=8"]
    if choice in ("constant", "fixed") and group in ("margin", "scale"):
        overrides.append(f"{group}.value=0.3")
    if choice in ("fashion_mnist", "omniglot", "omniglot_open_set"):
        overrides.append(f"dataset.root={request.getfixturevalue('data_root')}")
    if choice in ("image_folder", "faces_folder", "pairs"):
        overrides.append(f"dataset.root={request.getfixturevalue('faces')}")
    if group == "evaluation":
        overrides.append("dataset=synthetic")  # which has classes for each
    if choice.startswith("iresnet"):
        overrides.append("model.options.width=8")
    config = composed(*overrides)
    check(config)
    if choice in ("mnist", "kmnist", "cifar10", "cifar100"):
        return  # their files are not among the test data; see test_datasets
    run = prepare(config, tmp_path)
    images, labels = run.data.train.batch(torch.arange(4))
    assert run.head(run.backbone(images), labels).isfinite()


def test_the_original_demos_setting_is_complete(composed):
    config = composed("experiment=fashion_mnist_sphere", "loss=cosface")
    check(config)
    assert (config["model"]["name"], config["dataset"]["name"]) == ("convnet", "fashion_mnist")
    assert (config["epochs"], config["batch_size"], config["optimizer"]["lr"]) == (40, 512, 0.01)
    assert config["schedule"] == {"name": "step", "options": {"every": 8, "factor": 0.25}}
    assert (config["optimizer"]["name"], config["model"]["embedding_dim"]) == ("adam", 3)


def test_the_command_line_beats_an_experiment(composed):
    assert composed("experiment=quick", "epochs=7")["epochs"] == 7


def test_zero_is_a_margin(composed, tmp_path):
    config = composed(*FAST, "loss=cosface", "margin.value=0")
    check(config)
    assert prepare(config, tmp_path).head.margin.item() == 0


def test_margin_and_scale_default_to_the_losss_published_ones(composed):
    config = composed("loss=sphereface")
    assert (config["margin"]["value"], config["scale"]["value"]) == (1.35, 64)
    config = composed("loss=combined", "margin.value=[1,0.5,0]", "scale.value=16")
    assert (config["margin"]["value"], config["scale"]["value"]) == ([1, 0.5, 0], 16)


def test_few_classes_takes_a_losss_own_settings_where_the_published_ones_fail(composed):
    config = composed("experiment=few_classes", "loss=uniface")
    assert (config["margin"]["value"], config["scale"]["value"]) == (0.2, 4)
    config = composed("experiment=few_classes", "loss=arcface")
    assert (config["margin"]["value"], config["scale"]["value"]) == (0.5, 64)
    assert composed("experiment=few_classes", "loss=arcface", "scale.value=9")["scale"]["value"] == 9
    check(composed("experiment=few_classes", "loss=softmax"))
    check(composed("experiment=few_classes", "loss=arcface", "scale=adacos"))


@pytest.mark.parametrize("loss", HEADS)
def test_each_losss_file_holds_its_heads_options_and_published_settings(loss, composed):
    config = composed(f"loss={loss}")
    head = HEADS[loss]
    assert (config["loss"]["scale"] is not None) == head.has_scale
    assert (config["loss"]["margin"] is not None) == issubclass(head, MarginHead)
    accepted = set()
    for member in head.__mro__:
        accepted |= set(inspect.signature(member.__init__).parameters)
    set_elsewhere = {"learnable_scale", "dynamic_scale", "scale", "margin", "self", "args", "options"}
    shared = {"embedding_dim", "num_classes", "kwargs"}
    unused = {} if head.softmax_type else COSINE_OPTIONS
    assert set(config["loss"]["options"]) == accepted - set_elsewhere - shared - set(unused)


def test_adacos_and_learnable_scales(composed, tmp_path):
    assert prepare(composed(*FAST, "scale=adacos"), tmp_path).head.scale.item() == pytest.approx(
        3.107, abs=1e-3
    )
    head = prepare(composed(*FAST, "scale=learnable", "scale.value=16"), tmp_path).head
    assert head.scale.item() == pytest.approx(16) and head.log_scale.requires_grad


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss=softmax", "margin.value=0.3"], "margin.value=0.3: loss=softmax has no margin"),
        (["loss=normface", "margin.value=0"], "margin.value=0: loss=normface has no margin"),
        (["loss=softmax", "margin=warmup"], "margin=warmup: loss=softmax has no margin"),
        (["margin.value=-0.1"], "margin.value=-0.1 with loss=arcface.* ≥ 0"),
        (["margin.value=nan"], "margin.value=nan.*finite"),
        (["margin.value=inf", "loss=cosface"], "margin.value=inf.*finite"),
        (["margin.value=abc"], "margin.value=abc.*one number"),
        (["margin.value=0.5", "loss=sphereface"], "margin.value=0.5 with loss=sphereface.* ≥ 1"),
        (["margin.value=0.5", "loss=combined"], "three finite numbers"),
        (["margin=constant"], "margin.value has no value"),
        (["margin=warmup", "margin.start=-1"], "margin.start=-1"),
        (["margin=warmup", "margin.shape=square"], "linear, exponential, cosine"),
        (["margin=warmup", "margin.epochs=0"], "margin.epochs=0"),
        (["scale.value=0"], "scale.value=0 .*above 0"),
        (["scale.value=-1"], "scale.value=-1 .*above 0"),
        (["loss=softmax", "scale.value=3"], "scale.value=3: loss=softmax has no scale"),
        (["loss=softmax", "scale=learnable"], "scale=learnable: loss=softmax has no scale"),
        (["scale=adacos", "scale.value=3"], "scale=adacos computes it"),
        (["loss=uniface", "scale=adacos"], "scale=adacos: made for softmax, loss=uniface has none"),
        (["dataset.val_fraction=1"], "dataset.val_fraction=1: a share"),
        (["plots.animate=2"], "plots.animate=2: true or false"),
        (["model.embedding_dim=1"], "model.embedding_dim=1: a whole number from 2"),
        (["epochs=0"], "epochs=0: a whole number from 1"),
        (["epochs=1.5"], "epochs=1.5: a whole number from 1"),
        (["batch_size=0"], "batch_size=0"),
        (["seed=-1"], "seed=-1"),
        (["optimizer.lr=0"], "optimizer.lr=0"),
        (["optimizer.head_lr=-1"], "optimizer.head_lr=-1"),
        (["objective=loss"], "objective=loss: choose one of accuracy"),
        (["device.precision=fp8"], "fp32, bf16"),
        (["device.threads=0"], "device.threads=0"),
        (["loss.name=circles"], "loss.name=circles: choose one of softmax"),
        (["batch_size=1438"], "batch_size=1438: dataset=digits has 1295"),
        (["+loss.options.k=3"], "loss.options=.*'k'"),
        (["model.options.hidden=-1"], "model.options="),
        (["model.options.hidden=0"], "model.options="),
        (["model.name=pixels", "model.norm=true"], "model.norm=True: model=pixels has no neck"),
        (["augment=null"], "augment=None: give what is wanted"),
        (
            ["evaluation.name=open_set", "objective=auc"],
            "evaluation.name=open_set: choose the whole group",
        ),
        (["schedule=step", "schedule.options.every=0"], "schedule.options=.*every"),
        (["optimizer.options.weight_decay=-1"], "optimizer.options=.*weight_decay"),
    ],
)
def test_each_mistake_is_one_line_naming_key_and_value(overrides, said, composed, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        config = composed(*FAST, *overrides)
        check(config)
        prepare(config, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named(composed, tmp_path):
    with pytest.raises(UserError, match="device=cuda"):
        prepare(composed(*FAST, "device=cuda"), tmp_path)


def test_adacos_for_two_classes_is_refused_by_name(composed):
    from src.config import head_options

    with pytest.raises(UserError, match=r"scale=adacos.*C = 2"):
        head_options(composed("scale=adacos"), 2)


@pytest.mark.parametrize(
    "override", ["margin=0.3", "margin=0", "margin=-1", "margin=0.1,0.3", "scale=16"]
)
def test_a_number_for_a_group_is_answered_with_the_key(override):
    group, _, value = override.partition("=")
    with pytest.raises(UserError, match=f"{group}.value={value}"):
        check_group_values(["-m", override], CONF)
    with pytest.raises(UserError, match=r"a folder goes to dataset.root, as in .* dataset.root=/a/b"):
        check_group_values(["dataset=/a/b"], CONF)
    check_group_values(["margin.value=0.3", "loss=arcface", "seed=0", "-m"], CONF)


def test_the_hash_names_what_a_run_computes(composed):
    base = config_hash(composed())
    where_and_how = ("logger=none", "device=cpu", "device.threads=1", "dataset.root=/elsewhere")
    for same in where_and_how:
        assert config_hash(composed(same)) == base, same
    for other in ("seed=1", "margin.value=0.4", "loss=cosface", "device.precision=bf16", "epochs=3"):
        assert config_hash(composed(other)) != base, other
