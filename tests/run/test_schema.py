"""Every choice composes and is built; every mistake is named before training."""

import re

import pytest
import torch

from src.arguments import parameters
from src.datasets import Augmentation
from src.errors import UserError
from src.evaluation import EVALUATIONS
from src.losses import MarginHead
from src.run.build import build_run, head_arguments
from src.config.compose import CONF, check_group_values
from src.run.keys import CHOICES, KEYS
from src.run.options import FILLED_IN
from src.run.schema import check_config
from src.run.targets import PACKAGES, locate
from tests.conftest import FAST

# Options that a cross entropy takes, and the members without one refuse.
COSINE_OPTIONS = {"label_smoothing", "class_weights", "inter_topk", "inter_topk_margin"}
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
FILES = [(group, path) for group in GROUPS for path in sorted((CONF / group).glob("[!_]*.yaml"))]
BUILT = [
    (g, path.stem)
    for g, path in FILES
    if path.stem not in ("cuda", "mps", "original_demo", "fashion_mnist_sphere")
]


OF_A_FILE = ("manifest", "embeddings")  # which dataset.file names
OF_MANY_FILES = ("recordio", "webdataset", "huggingface")


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_a_file_opens_with_the_command_that_uses_it(group, path):
    first = next(line for line in path.read_text().splitlines() if "@package" not in line)
    assert re.match(r"# (DATA_ROOT=\S+ )?python -m src\.train ", first)
    assert f"{group}={path.stem}" in first or group in ("margin", "scale")


@pytest.mark.parametrize("group", ["margin", "scale", "device", "logger", "evaluation"])
def test_a_group_without_a_class_has_a_file_for_each_choice(group, composed):
    choices = EVALUATIONS if group == "evaluation" else CHOICES[f"{group}.name"]
    assert {path.stem for g, path in FILES if g == group} == set(choices)


def test_augmentations_are_those_that_there_are():
    assert set(KEYS["augment"]) == set(parameters(Augmentation)) - {"generator"}


@pytest.mark.parametrize(("group", "choice"), [(g, p.stem) for g, p in FILES if g in PACKAGES])
def test_a_choice_names_its_class_and_itself(group, choice, composed):
    config = composed(f"{group}={choice}", *["dataset.file=x"] * (choice in OF_A_FILE))[group]
    assert locate(group, config["_target_"]).__module__.startswith((f"{PACKAGES[group]}.", "functools"))
    if choice not in ("torchvision", "timm"):  # whose name is the library's
        assert config["name"] == choice


@pytest.mark.parametrize(("group", "choice"), BUILT)
def test_each_choice_is_built(group, choice, composed, tmp_path, request):
    overrides = ["model=mlp", "logger=none", f"{group}={choice}", "batch_size=8"]
    if choice in ("fashion_mnist", "fashion_mnist_small", "omniglot", "omniglot_open_set"):
        overrides.append(f"dataset.root={request.getfixturevalue('data_root')}")
    if choice in ("image_folder", "faces_folder", "pairs"):
        overrides.append(f"dataset.root={request.getfixturevalue('faces')}")
    if choice in OF_A_FILE:
        overrides.append("dataset.file=x")
    if group == "evaluation":
        overrides.append("dataset=synthetic")  # which has classes for each
    if choice.startswith("iresnet"):
        overrides.append("model.width=8")
    config = composed(*overrides)
    check_config(config)
    read_elsewhere = ("mnist", "kmnist", "cifar10", "cifar100", "omniglot", *OF_A_FILE, *OF_MANY_FILES)
    if choice in read_elsewhere:  # or their files are not among the test data
        return
    run = build_run(config, tmp_path)
    images, labels = run.data.train.batch(torch.arange(4))
    assert run.head(run.backbone(images), labels).isfinite()


def test_the_original_demos_setting_is_complete(composed):
    config = composed("experiment=original_demo", "loss=cosface")
    check_config(config)
    assert (config["model"]["name"], config["dataset"]["name"]) == ("convnet", "fashion_mnist")
    assert (config["epochs"], config["batch_size"], config["optimizer"]["lr"]) == (40, 512, 0.01)
    assert config["schedule"]["name"] == "step"
    assert config["schedule"]["options"] == {"every": 8, "factor": 0.25, "warmup": 0}
    assert (config["optimizer"]["name"], config["model"]["embedding_dim"]) == ("adam", 3)


def test_the_original_demo_put_right_differs_in_its_rate_alone(composed):
    first, second = (
        composed(f"experiment={name}") for name in ("original_demo", "fashion_mnist_sphere")
    )
    assert second["optimizer"]["lr"] == 0.003
    second["optimizer"]["lr"] = 0.01
    assert first == second


def test_the_command_line_beats_an_experiment(composed):
    assert composed("experiment=quick", "epochs=7")["epochs"] == 7


def test_zero_is_a_margin(composed, tmp_path):
    config = composed(*FAST, "loss=cosface", "margin.value=0")
    check_config(config)
    assert build_run(config, tmp_path).head.margin.item() == 0


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
    check_config(composed("experiment=few_classes", "loss=softmax"))
    check_config(composed("experiment=few_classes", "loss=arcface", "scale=adacos"))


@pytest.mark.parametrize("loss", [path.stem for group, path in FILES if group == "loss"])
def test_each_losss_file_holds_its_heads_options_and_published_settings(loss, composed):
    config = composed(f"loss={loss}")
    head = locate("loss", config["loss"]["_target_"])
    assert (config["loss"]["scale"] is not None) == head.has_scale
    assert (config["loss"]["margin"] is not None) == issubclass(head, MarginHead)
    refused = set() if head.softmax_type else COSINE_OPTIONS
    assert set(config["loss"]["options"]) == set(parameters(head)) - set(FILLED_IN["loss"]) - refused


def test_adacos_and_learnable_scales(composed, tmp_path):
    assert build_run(composed(*FAST, "scale=adacos"), tmp_path).head.scale.item() == pytest.approx(
        3.107, abs=1e-3
    )
    head = build_run(composed(*FAST, "scale=learnable", "scale.value=16"), tmp_path).head
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
        (["margin.value=???"], "margin.value has no value"),
        (["margin.name=warmup"], "margin.name=warmup: choose the whole group, margin=warmup"),
        (["margin.name=constant"], "margin.name=constant: choose one of paper, few_classes, warmup"),
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
        (["plots.figures={}"], "plots.figures={}: true or false"),
        (["device.graph=0"], "device.graph=0: auto or off"),
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
        (["loss._target_=src.losses.Arcface"], "loss._target_=src.losses.Arcface: cannot be imported"),
        (["loss._target_=src.losses.unit"], "loss._target_=src.losses.unit: "),
        (["loss._target_=3"], "loss._target_=3: name a class"),
        (["model._target_=os"], "model._target_=os: "),
        (["batch_size=1438"], "batch_size=1438: dataset=digits has 1295"),
        (
            ["+loss.k=3"],
            "loss.k=3: loss=arcface has no such option, there are beyond_pi",
        ),
        (
            ["+loss.beyondpi=easy"],
            "loss.beyondpi=easy: .* no such option, did you mean loss.beyond_pi",
        ),
        (["+optimizer.betas=1"], "optimizer.betas=1: a list of 2 values"),
        (
            ["+optimizer.weight_decay=0.5"],
            "nothing reads this key, did you mean optimizer.weight_decay",
        ),
        (["+stopping.patience=3"], "stopping.patience=3: nothing reads this key"),
        (["+epoch=3"], "epoch=3: nothing reads this key, did you mean epochs"),
        (["+schedule.rising=0.5"], "did you mean schedule.rising"),
        (["+margin.values=0.3"], "margin.values=0.3: nothing reads this key, did you mean margin.value"),
        (["+margin.epochs=0.3"], "margin.epochs=0.3: choose the whole group, margin=warmup"),
        (["+scale.val=8"], "did you mean scale.value"),
        (["+loss.beyond_pi=paper"], "did you mean loss.beyond_pi"),
        (["+evaluation.x=1"], "evaluation.x=1: nothing reads this key"),
        (["+evaluation.pairs=100"], "evaluation.pairs=100: nothing reads this key"),
        (["+logger.project=a"], "logger.project=a: nothing reads this key"),
        (["+plots.x=1"], "plots.x=1: nothing reads this key"),
        (["+device.thread=1"], "did you mean device.threads"),
        (["+dataset.sizes=3"], "dataset.sizes=3: dataset=digits has no such option"),
        (["+augment.blur=1"], "augment.blur=1: nothing reads this key"),
        (["model.hidden=-1"], "model.hidden=-1: a whole number from 1"),
        (["model.width=x", "model=small_cnn"], "model.width=x: "),
        (["model=pixels", "neck.norm=true"], "neck.norm=True: pixels has no neck"),
        (["augment=null"], "augment=None: give its keys"),
        (
            ["evaluation.protocol=open_set", "objective=auc"],
            "evaluation.protocol=open_set: choose the whole group",
        ),
        (["schedule=step", "schedule.every=0"], "schedule.every=0: epochs above"),
        (["optimizer.weight_decay=-1"], "optimizer.weight_decay=-1: Invalid"),
        (
            ["loss.label_smoothing=3"],
            "loss.label_smoothing=3: label_smoothing is from 0",
        ),
        (["schedule.rising=foo"], "schedule.rising=foo: a share"),
        (["+model.pretrained=true"], "model.pretrained=True: model=mlp has no such option"),
        (["+dataset.published=foo", "dataset=image_folder"], "dataset.published=foo: "),
        (["dataset.published=false"], "dataset.published=False: says whether"),
        (["+loss.margin=1"], "loss.margin=1: loss=arcface has no such option"),
        (["+optimizer.lr=1"], "optimizer.lr=1: optimizer=adam has no such option"),
        (["+model.architecture=alexnet", "model=torchvision"], "model.architecture=alexnet: "),
        (["+loss.few_classes=3"], "loss.few_classes=3: give its keys"),
        (["~loss.name"], "loss.name: missing"),
        (["~loss.options"], "loss.options: missing"),
        (["~neck.norm"], "neck.norm: missing"),
        (["~schedule.options"], "schedule.options: missing"),
        (["~device.threads"], "device.threads: missing"),
    ],
)
def test_each_mistake_is_one_line_naming_key_and_value(overrides, said, composed, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        config = composed(*FAST, *overrides)
        check_config(config)
        build_run(config, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss.label_smoothing=2"], "loss.label_smoothing=2: "),
        (["loss=curricularface", "loss.momentum=abc"], "momentum=abc: a finite number"),
        (["loss=adaface", "loss.h=abc"], "loss.h=abc: a finite number"),
        (["loss.class_weights=[0,1,1]"], r"class_weights=\[0, 1, 1\]: .* above 0"),
        (["loss.class_weights=[.nan,1]"], "class_weights="),
        (["loss.class_weights=[a,1]"], "class_weights=.*each a finite number"),
        (["loss=elasticface_arc", "loss.plus=no"], "loss.plus=no: true or false"),
        (["loss=elasticface_arc", "loss.plus=off"], "loss.plus=off: true or false"),
        (["optimizer=sgd", "optimizer.nesterov=off"], "nesterov=off: true or false"),
        (["+optimizer.amsgrad=no"], "amsgrad=no: true or false"),
        (["neck.norm=off"], "neck.norm=off: true or false"),
        (["plots.animate=no"], "plots.animate=no: true or false"),
        (["scale.value=1e39"], r"scale.value=1e\+39 .* float32"),
        (["loss=sphereface", "margin.value=1e39"], r"margin.value=1e\+39 .* finite"),
        (["schedule.rising=2"], "schedule.rising=2: a share from 0 to 1"),
        (["schedule=step", "schedule.factor=.nan"], "schedule.factor=.nan: above 0"),
        (["margin=warmup", "margin.shape=[1]"], r"margin.shape=\[1\]: choose one of"),
        (["optimizer.weight_decay=.inf"], "weight_decay=.inf: a finite number"),
    ],
)
def test_values_of_the_wrong_type_or_size_are_refused_before_anything_runs(overrides, said, composed):
    with pytest.raises(UserError, match=said):
        check_config(composed("logger=none", *overrides))


@pytest.mark.parametrize("group", ["loss", "optimizer", "schedule"])
def test_no_option_takes_what_is_not_a_number_or_a_choice(group, composed):
    for path in sorted((CONF / group).glob("[!_]*.yaml")):
        config = composed("logger=none", "model=mlp", f"{group}={path.stem}")
        for key in config[group]["options"]:
            for value in (float("nan"), float("inf"), 10**400, "abc", "no", {"a": 1}):
                options = config[group]["options"] | {key: value}
                with pytest.raises(UserError, match=f"^{group}.{key}="):
                    check_config(config | {group: config[group] | {"options": options}})


def test_all_mistakes_are_said_at_once(composed):
    config = composed(
        *(
            "logger=none",
            "epochs=0",
            "margin.value=9",
            "scale.value=0",
            "optimizer.lr=-1",
            "objective=x",
        ),
        *("optimizer.weight_decay=abc", "schedule.rising=2", "augment.flip=3"),
        *("loss.label_smoothing=abc", "model.width=0", "+epoch=1", "+scale.val=1"),
    )
    with pytest.raises(UserError) as refused:
        check_config(config)
    assert {line.partition("=")[0] for line in str(refused.value).splitlines()} == {
        *("epochs", "margin.value", "scale.value", "optimizer.lr", "objective", "augment.flip"),
        *("optimizer.weight_decay", "schedule.rising"),
        *("loss.label_smoothing", "model.width", "epoch", "scale.val"),
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named(composed, tmp_path):
    with pytest.raises(UserError, match="device=cuda"):
        build_run(composed(*FAST, "device=cuda"), tmp_path)


def test_one_class_to_train_on_is_refused(composed, folder_of, tmp_path):
    root = folder_of("few/train", people=1, images=20)
    folder_of("few/test", people=1)
    given = "dataset=image_folder", f"dataset.root={root.parent}", "evaluation=closed_set"
    with pytest.raises(UserError, match=r"one class to train on \(p00\), two are wanted"):
        build_run(composed(*FAST, *given, "batch_size=2"), tmp_path)


def test_adacos_for_two_classes_is_refused_by_name(composed):
    with pytest.raises(UserError, match=r"scale=adacos.*C = 2"):
        head_arguments(composed("scale=adacos"), 2)


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


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["dataset.folds=5"],
            r"dataset\.folds=5: choose the fold to test, dataset\.fold=0 to 4, or run",
        ),
        (["dataset.folds=1", "dataset.fold=0"], r"dataset\.folds=1: a whole number from 2, or null"),
        (["dataset.folds=few", "dataset.fold=0"], r"dataset\.folds=few: a whole number from 2"),
        (["dataset.fold=1"], r"dataset\.fold=1: of how many is not said, give dataset\.folds=5 too"),
        (["dataset.folds=3", "dataset.fold=3"], r"dataset\.fold=3: one of 0 to 2 \(dataset\.folds=3\)"),
        (["dataset.folds=3", "dataset.fold=-1"], r"dataset\.fold=-1: a whole number from 0, or null"),
        (
            ["dataset.folds=3", "dataset.fold=0", "dataset=pairs"],
            r"dataset\.folds=3: dataset=pairs tests pairs",
        ),
        (
            ["dataset.folds=3", "dataset.fold=0", "dataset=image_folder", "dataset.test_fraction=0.5"],
            r"dataset\.test_fraction=0\.5: of dataset\.folds=3 one is tested",
        ),
    ],
)
def test_folds_that_cannot_be_are_refused_in_one_line(overrides, line, composed):
    with pytest.raises(UserError, match=line) as refused:
        check_config(composed(*overrides))
    assert len(str(refused.value).splitlines()) == 1
