"""Every choice composes and is built; every mistake is named before training, with key, value and what
would be right."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from src.config import BadKey, computed
from src.config.classes import arguments, locate, parameters
from src.config.compose import CONF, check_command, check_group_values
from src.config.read import FIELDS, read_and_check
from src.config.tree import PACKAGES
from src.datasets import Augmentation
from src.errors import UserError
from src.losses import ArcFace, CombinedMargin, MarginHead
from src.run.build import build_head, build_run, check_config
from src.run.folder import RunFolder
from src.sweeps.plan import described
from tests.conftest import FAST, composer

GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
FILES = [(group, path) for group in GROUPS for path in sorted((CONF / group).glob("[!_]*.yaml"))]
OF_A_FILE = ("manifest", "embeddings")  # which dataset.file names
OF_MANY_FILES = ("recordio", "webdataset", "huggingface")
COSINE_OPTIONS = {
    "label_smoothing",
    "class_weights",
    "inter_topk",
    "inter_topk_margin",
    "tiling",
    "sample_rate",
}
BUILT = [
    (group, path.stem)
    for group, path in FILES
    if path.stem not in ("cuda", "mps", "original_demo", "fashion_mnist_sphere")
]


def checked(*overrides: str):
    """The configuration of some overrides, checked as a sweep's runs are."""
    return read_and_check(composer().compose(list(overrides)), overrides, check_config)


def mistakes_of(*overrides: str) -> list[str]:
    try:
        checked(*overrides)
    except UserError as refused:
        return str(refused).splitlines()
    return ["nothing is said"]


def test_a_file_opens_with_the_command_that_uses_it():
    for group, path in FILES:
        first = next(line for line in path.read_text().splitlines() if "@package" not in line)
        assert re.match(r"# (DATA_ROOT=\S+ )?python -m src\.(train|evaluate <run>) ", first), path
        assert f"{group}={path.stem}" in first or group in ("margin", "scale", "experiment_loss"), path


def test_a_group_without_a_class_has_a_file_for_each_choice():
    for group, key in (("scale", "kind"), ("device", "kind"), ("evaluation", "protocol")):
        values = {OmegaConf.load(path)[key] for g, path in FILES if g == group}
        assert values == set(FIELDS[f"{group}.{key}"].annotation.__args__)


def test_augmentations_are_those_that_there_are():
    keys = {key.partition(".")[2] for key in FIELDS if key.startswith("augment.")}
    assert keys == set(parameters(Augmentation)) - {"generator"}


def refuses_what_is_no_number_or_choice(config, group: str) -> None:
    for name in getattr(config, group).arguments:
        for value in (float("nan"), float("inf"), 10**400, "abc", {"a": 1}):
            with pytest.raises(UserError, match=f"^{group}.{name}="):
                check_config(config.replace(**{group: {name: value}}))


@pytest.mark.parametrize(("group", "choice"), BUILT)
def test_each_choice_is_built_and_refuses_wrong_arguments(group, choice, composed, tmp_path, request):
    overrides = ["model=mlp", "logger=csv", "batch_size=8"]
    overrides.append(f"{group}={choice}" if group != "experiment_loss" else "experiment=few_classes")
    if group == "experiment_loss":
        overrides.append(f"loss={choice.removeprefix('few_classes_')}")
    if choice in (
        "fashion_mnist",
        "fashion_mnist_small",
        "omniglot",
        "omniglot_open_set",
        "omniglot_short",
    ):
        overrides.append(f"dataset.root={request.getfixturevalue('data_root')}")
    if choice in ("image_folder", "faces_folder", "pairs"):
        overrides.append(f"dataset.root={request.getfixturevalue('faces')}")
    if choice in OF_A_FILE:
        overrides.append("dataset.file=x")
    if group == "evaluation":
        overrides.append("dataset=synthetic")  # which has classes for each
    if choice == "reality_check":
        overrides.remove("model=mlp")  # it trains one with learned weights
    if choice.startswith("iresnet"):
        overrides.append("model.width=8")
    config = check_config(composed(*overrides))
    if group in PACKAGES:
        module = locate(group, getattr(config, group).target).__module__
        assert module.startswith((f"{PACKAGES[group]}.", "functools")) and config.name(group) == choice
    if group in ("loss", "optimizer", "schedule"):
        refuses_what_is_no_number_or_choice(config, group)
    read_elsewhere = ("mnist", "kmnist", "cifar10", "cifar100", "omniglot", *OF_A_FILE, *OF_MANY_FILES)
    read_elsewhere += ("cub", "cars196", "sop", "inshop", "market1501", "lfw", "cfp_fp", "agedb")
    read_elsewhere += ("voxceleb_features", "ijbb", "ijbc", "gldv2", "reality_check")
    if choice in read_elsewhere and group != "evaluation":  # or their files are not among the test data
        return
    run = build_run(config, RunFolder(tmp_path))
    images, labels = run.data.train.batch(torch.arange(4))
    assert run.head(run.backbone(images), labels).isfinite()


def test_the_original_demos_setting_is_complete_and_put_right_in_its_rate_alone(composed):
    config = check_config(composed("experiment=original_demo", "loss=cosface"))
    names = [config.name(group) for group in ("model", "dataset", "optimizer", "schedule")]
    assert names == ["convnet", "fashion_mnist", "adam", "step"]
    assert (config.epochs, config.batch_size, config.optimizer.lr) == (40, 512, 0.01)
    assert config.schedule.arguments == {"every": 8, "factor": 0.25, "warmup": 0}
    assert config.model.embedding_dim == 3
    mended = composed("experiment=fashion_mnist_sphere", "loss=cosface")
    assert mended.optimizer.lr == 0.003
    assert computed(mended.replace(optimizer={"lr": 0.01})) == computed(config)


def test_what_is_null_is_filled_in_from_the_loss_the_data_and_the_evaluation(composed):
    config = composed("loss=sphereface")
    assert (config.margin.value, config.scale.value) == (1.35, 64)
    assert (config.model.embedding_dim, config.objective) == (3, "accuracy")
    config = composed("loss=combined", "margin.value=[1,0.5,0]", "scale.value=16", "dataset=omniglot")
    assert (config.margin.value, config.scale.value) == ([1, 0.5, 0], 16)
    assert (config.model.embedding_dim, config.objective) == (128, "map_at_r")
    assert composed("scale=adacos").scale.value is None
    assert composed("loss.scale=8").scale.value == 8


def test_an_experiment_changes_settings_of_one_loss_and_the_command_line_beats_it(composed):
    assert composed("experiment=quick", "epochs=7").epochs == 7
    few = ("experiment=few_classes", "loss=uniface")
    assert (composed(*few).margin.value, composed(*few).scale.value) == (0.2, 4)
    assert composed(*few, "scale.value=9").scale.value == 9
    config = composed("experiment=few_classes", "loss=arcface")
    assert (config.margin.value, config.scale.value) == (0.5, 64)
    check_config(composed("experiment=few_classes", "loss=softmax"))


def test_zero_is_a_margin(composed, tmp_path):
    config = check_config(composed(*FAST, "loss=cosface", "margin.value=0"))
    assert build_run(config, RunFolder(tmp_path)).head.margin.item() == 0


def test_a_losss_file_holds_its_heads_arguments_and_published_settings(composed):
    for group, path in FILES:
        if group == "loss":
            loss = composed(f"loss={path.stem}").loss
            head = locate("loss", loss.target)
            assert (loss.scale is not None) == head.has_scale, path
            assert (loss.margin is not None) == issubclass(head, MarginHead), path
            refused = set() if head.softmax_type else COSINE_OPTIONS
            assert set(loss.arguments) == set(arguments("loss", head)) - refused, path


def test_a_head_has_its_files_margin_and_scale_by_default_and_shows_them(composed):
    published = {}
    for group, path in FILES:
        if group == "loss":
            loss = composed(f"loss={path.stem}").loss
            head = locate("loss", loss.target)
            default = [getattr(head, f"published_{what}", None) for what in ("margin", "scale")]
            default = [list(value) if isinstance(value, tuple) else value for value in default]
            published.setdefault(head, []).append([loss.margin, loss.scale] == default)
    assert all(map(any, published.values())), published  # of several choices of a class, one
    shown = repr(ArcFace(512, 1000))
    assert "margin=0.5" in shown and "scale=64" in shown and "beyond_pi=monotone" in shown
    assert "margin=(1, 0.3, 0.2)" in repr(CombinedMargin(8, 4))


def test_adacos_and_learnable_scales(composed, tmp_path):
    folder = RunFolder(tmp_path)
    adacos = build_run(composed(*FAST, "scale=adacos"), folder).head.scale.item()
    assert adacos == pytest.approx(3.107, abs=1e-3)
    head = build_run(composed(*FAST, "scale=learnable", "scale.value=16"), folder).head
    assert head.scale.item() == pytest.approx(16) and head.log_scale.requires_grad
    with pytest.raises(UserError, match=r"scale.kind=adacos.*C = 2"):
        build_head(composed("scale=adacos"), 2, 2)


REFUSED = [  # overrides, and a part of the one line that answers them
    ("loss=softmax margin.value=0.3", "margin.value=0.3: loss=softmax has no margin"),
    ("loss=normface margin.value=0", "margin.value=0: loss=normface has no margin"),
    ("loss=softmax margin=warmup", "margin.epochs=5: loss=softmax has no margin"),
    ("margin.value=-0.1", "margin.value=-0.1: expected a finite number ≥ 0"),
    ("margin.value=nan", "margin.value=nan: expected a number"),
    ("margin.value=inf loss=cosface", "margin.value=inf: expected a number"),
    ("margin.value=abc", "margin.value=abc: expected a number"),
    ("margin.value=true", "margin.value=true: expected a number"),
    ("margin.value=0.5 loss=sphereface", "margin.value=0.5: expected a finite number ≥ 1"),
    ("margin.value=0.5 loss=combined", "three finite numbers"),
    ("margin.value=1e39 loss=sphereface", "margin.value=1e+39: expected a number in float32's range"),
    ("margin.value=???", "margin.value: has no value, give one, as in margin.value=0.3"),
    ("margin.start=0.1", "margin.start=0.1: only margin=warmup reads it"),
    ("margin.shape=cosine", "margin.shape=cosine: only margin=warmup reads it"),
    ("margin=warmup margin.start=-1", "margin.start=-1: expected a finite number ≥ 0"),
    ("margin=warmup margin.shape=square", "margin.shape=square: expected one of linear, exponential"),
    ("margin=warmup margin.shape=[1]", "margin.shape=[1]: expected one of linear"),
    ("margin=warmup margin.epochs=0", "margin.epochs=0: expected a number > 0"),
    ("scale.value=0", "scale.value=0: expected a finite number above 0"),
    ("scale.value=-1", "scale.value=-1: expected a finite number above 0"),
    ("scale.value=1e39", "scale.value=1e+39: expected a number in float32's range"),
    ("loss=softmax scale.value=3", "scale.value=3: loss=softmax has no scale"),
    ("loss=softmax scale=learnable", "scale.kind=learnable: loss=softmax has no scale"),
    ("scale=adacos scale.value=3", "scale.value=3: scale=adacos computes it"),
    ("scale=adacos loss.scale=3", "loss.scale=3: nothing reads this key here"),
    ("scale.value=9 loss.scale=3", "loss.scale=3: nothing reads this key here, scale.value has its"),
    ("model.embedding_dim=8 dataset.embedding_dim=4", "dataset.embedding_dim=4: nothing reads"),
    ("objective=accuracy evaluation.objective=worst_recall", "evaluation.objective=worst_recall: noth"),
    ("loss=uniface scale=adacos", "scale.kind=adacos: made for softmax, which loss=uniface does not"),
    ("scale.kind=large", "scale.kind=large: expected one of fixed, learnable, adacos, adacos_dynamic"),
    ("dataset.val_fraction=1", "dataset.val_fraction=1: expected a number ≥ 0, < 1"),
    ("dataset.root=2024", "dataset.root=2024: expected text"),
    ("plots.animate=2", "plots.animate=2: expected true or false"),
    ("plots.figures={}", "plots.figures={}: expected true or false"),
    ("device.graph=0", "device.graph=0: expected one of auto, off"),
    ("device.precision=fp8", "device.precision=fp8: expected one of fp32, bf16, auto"),
    ("device.threads=0", "device.threads=0: expected an integer ≥ 1 or null"),
    ("model.embedding_dim=1", "model.embedding_dim=1: expected an integer ≥ 2"),
    ("epochs=0", "epochs=0: expected an integer ≥ 1"),
    ("epochs=1.5", "epochs=1.5: expected an integer ≥ 1"),
    ("epochs=true", "epochs=true: expected an integer ≥ 1"),
    ("batch_size=0", "batch_size=0: expected an integer ≥ 1"),
    ("seed=-1", "seed=-1: expected an integer ≥ 0"),
    ("optimizer.lr=0", "optimizer.lr=0: expected a number > 0, < 1e6"),
    ("optimizer.head_lr=-1", "optimizer.head_lr=-1: expected a number > 0, < 1e6 or null"),
    ("objective=loss", "objective=loss: choose one of accuracy"),
    ("early_stopping.patience=30", "early_stopping.patience=30: training ends after epochs=30 anyway"),
    (
        "init.freeze=body optimizer.layer_decay=0.5",
        "optimizer.layer_decay=0.5: init.freeze=body leaves nothing to train",
    ),
    ("init.freeze=[]", "init.freeze=[]: expected body, norms or a list of layers or null"),
    ("dataset=omniglot dataset.size=112", "dataset.size=112: expected height and width, 4 to 4096 pix"),
    ("dataset=omniglot dataset.size=[3,3]", "dataset.size=[3,3]: expected height and width, 4 to 4096"),
    ("init.from=/nowhere", "init.from=/nowhere: neither a run's folder nor a file of weights"),
    ("sampler.kind=classes", "sampler.samples_per_class=null: sampler.kind=classes needs it"),
    ("sampler.samples_per_class=2", "sampler.samples_per_class=2: only sampler.kind=classes reads it"),
    ("evaluation.pairs=100", "evaluation.pairs=100: evaluation=closed_set draws no pairs"),
    ("dataset=synthetic evaluation=open_set evaluation.pairs=3", "evaluation.pairs=3: expected an int"),
    ("logger.project=a", "logger.project=a: nothing reads it with logger.mode=disabled"),
    ("logger.timeout=0", "logger.timeout=0: expected a number > 0"),
    ("logger.mode=onlin", "logger.mode=onlin: expected one of auto, online, offline, disabled"),
    ("logger.tags=mine", "logger.tags=mine: expected a list of values, each text"),
    ("loss._target_=src.losses.Arcface", "cannot be imported (No module named 'src.losses.Arcface'); d"),
    ("loss._target_=src.losses.Arcface", "did you mean src.losses.ArcFace?"),
    ("loss._target_=src.losses.unit", "loss._target_=src.losses.unit: "),
    ("loss._target_=torch.nn.Linear", "not a subclass of src.losses.Head"),
    ("loss._target_=3", "loss._target_=3: expected text"),
    ("model._target_=os", "model._target_=os: neither a class nor a function"),
    ("+loss.k=3", "loss.k=3: ArcFace takes no such argument, there are loss.beyond_pi"),
    ("+loss.beyondpi=easy", "ArcFace takes no such argument, did you mean loss.beyond_pi?"),
    ("+loss.num_classes=1", "loss.num_classes=1: ArcFace takes no such argument"),
    ("loss.beyond_pi=papr", "loss.beyond_pi=papr: expected one of monotone, paper, easy, linear"),
    ("loss=sphereface loss.beyond_pi=linear", "loss.beyond_pi=linear: "),
    ("loss.label_smoothing=2", "loss.label_smoothing=2: "),
    ("loss.inter_topk_margin=0.1", "loss.inter_topk_margin=0.1: changes nothing with inter_topk=0"),
    ("loss=curricularface loss.momentum=abc", "loss.momentum=abc: expected a number"),
    ("loss=adaface loss.h=abc", "loss.h=abc: expected a number"),
    ("loss.class_weights=[0,1,1]", "loss.class_weights=[0,1,1]: expected "),
    ("loss.class_weights=[.nan,1]", "loss.class_weights="),
    ("loss.class_weights=[a,1]", "loss.class_weights=[a,1]: expected "),
    ("loss=elasticface_arc loss.plus=2", "loss.plus=2: expected true or false"),
    ("+optimizer.betas=1", "optimizer.betas=1: expected a list of 2 values"),
    ("+optimizer.foreach=true", "optimizer.foreach=true: Adam takes no such argument"),
    ("+optimizer.weight_deca=0.5", "did you mean optimizer.weight_decay?"),
    ("optimizer.weight_decay=-1", "optimizer=adam: Invalid weight_decay value: -1"),
    ("optimizer.weight_decay=.inf", "optimizer.weight_decay=.inf: expected a number"),
    ("+stopping.patience=3", "stopping.patience=3: nothing reads this key"),
    ("+start=abc", "start=abc: nothing reads this key, did you mean margin.start?"),
    ("+epoch=3", "epoch=3: nothing reads this key, did you mean epochs?"),
    ("+schedule.risin=0.5", "did you mean schedule.rising?"),
    ("~schedule.rising", "schedule.rising: no value, and one_cycle needs one"),
    ("+margin.values=0.3", "margin.values=0.3: nothing reads this key, did you mean margin.value?"),
    ("+scale.val=8", "did you mean scale.value?"),
    ("+device.thread=1", "did you mean device.threads?"),
    ("+plots.x=1", "plots.x=1: nothing reads this key"),
    ("+augment.blur=1", "augment.blur=1: nothing reads this key"),
    ("augment.flip=2", "augment.flip=2: expected a number ≥ 0, ≤ 1"),
    ("augment=null", "augment=null: expected its keys, as in augment.flip=…"),
    ("+dataset.sizes=3", "dataset.sizes=3: digits takes no such argument"),
    ("model=mlp model.hidden=-1", "model.hidden=-1: expected an integer ≥ 1"),
    ("model=small_cnn model.width=x", "model.width=x: "),
    ("model=pixels neck.norm=true", "neck.norm=true: model=pixels has no embedding layer"),
    ("+model.pretrained=true model=mlp", "model.pretrained=true: mlp takes no such argument"),
    (
        "model=torchvision model.architecture=resnet",
        "model.architecture=resnet: torchvision has no architecture",
    ),
    ("neck.dropout=1", "neck.dropout=1: expected a number ≥ 0, < 1"),
    ("schedule=step schedule.every=0", "schedule.every=0: expected a number > 0"),
    ("schedule=step schedule.factor=.nan", "schedule.factor=.nan: expected a number > 0, ≤ 1"),
    ("schedule.rising=foo", "schedule.rising=foo: expected a number ≥ 0, ≤ 1"),
    ("schedule=cosine schedule.warmup=99", "schedule.warmup=99: "),
    ("dataset.folds=5", "dataset.folds=5: choose the fold to test, dataset.fold=0 to 4, or run all"),
    ("dataset.folds=1 dataset.fold=0", "dataset.folds=1: expected an integer ≥ 2 or null"),
    ("dataset.folds=few dataset.fold=0", "dataset.folds=few: expected an integer ≥ 2 or null"),
    ("dataset.fold=1", "dataset.fold=1: give the number of folds too, as in dataset.folds=5"),
    ("dataset.folds=3 dataset.fold=3", "dataset.fold=3: expected one of 0 to 2 (dataset.folds=3)"),
    ("dataset.folds=3 dataset.fold=-1", "dataset.fold=-1: expected an integer ≥ 0 or null"),
    ("dataset.folds=3 dataset.fold=0 dataset=pairs", "dataset.folds=3: dataset=pairs tests pairs"),
    (
        "dataset.folds=3 dataset.fold=0 dataset=image_folder dataset.test_fraction=0.5",
        "dataset.test_fraction=0.5: one of dataset.folds=3 is tested, leave it out",
    ),
]


def test_each_mistake_is_one_line_with_key_value_and_what_would_be_right():
    wrong = []
    for typed, said in REFUSED:
        lines = mistakes_of("logger=csv", *typed.split())
        if len(lines) > 1 or said not in lines[0]:
            wrong.append((typed, said, lines))
    assert not wrong


def test_what_only_the_data_tell_is_one_line_too(composed, tmp_path, folder_of):
    with pytest.raises(BadKey, match="batch_size=1438: dataset=digits has 1295"):
        build_run(composed(*FAST, "batch_size=1438"), RunFolder(tmp_path))
    if not torch.cuda.is_available():
        with pytest.raises(BadKey, match=r"^device\.kind=cuda: "):
            build_run(composed(*FAST, "device=cuda"), RunFolder(tmp_path))
    root = folder_of("few/train", people=1, images=20)
    folder_of("few/test", people=1)
    given = "dataset=image_folder", f"dataset.root={root.parent}", "evaluation=closed_set"
    with pytest.raises(UserError, match=r"^dataset=image_folder: one class to train on \(p00\)"):
        build_run(composed(*FAST, *given, "batch_size=2"), RunFolder(tmp_path))


def test_all_mistakes_are_said_at_once():
    lines = mistakes_of(
        *("logger=csv", "epochs=0", "margin.value=9", "optimizer.lr=-1", "objective=x"),
        *("optimizer.weight_decay=abc", "schedule.rising=2", "augment.flip=3", "model.width=0"),
        *("loss.label_smoothing=abc", "+epoch=1", "+scale.val=1", "scale.value=0"),
    )
    assert {line.partition("=")[0] for line in lines} == {
        *("epochs", "margin.value", "optimizer.lr", "objective", "optimizer.weight_decay"),
        *("schedule.rising", "augment.flip", "model.width", "loss.label_smoothing", "epoch"),
        *("scale.val", "scale.value"),
    }


def test_a_mistake_says_what_it_is_about(composed):
    with pytest.raises(UserError) as refused:
        check_config(composed("logger=csv", "margin.value=4", "loss.label_smoothing=abc"))
    about = {(error.key, error.value) for error in refused.value.errors}
    assert about == {("margin.value", 4), ("loss.label_smoothing", "abc")}


def test_numbers_that_came_as_text_are_numbers(composed):
    config = checked("logger=csv", "margin.value='0.3'", "epochs='2'", "loss.label_smoothing='0.1'")
    assert (config.margin.value, config.epochs) == (0.3, 2)
    assert config.loss.arguments["label_smoothing"] == 0.1


TYPED = [  # what is typed, and the answer before Hydra is asked
    ("margin=0.3", "margin takes a name; for a value use margin.value=0.3"),
    ("margin=-1", "use margin.value=-1"),
    ("scale=16", "use scale.value=16"),
    ("margin=0.1,0.3", "use margin.value=0.1,0.3"),
    ("loss=null", "choose one of adaface"),
    ("dataset=/a/b", "a folder goes to dataset.root, as in dataset=image_folder dataset.root=/a/b"),
    ("loss = arcface", "no spaces"),
    ("loss=arcface, cosface", "no spaces"),
    ("-m --cfg job", "--multirun --cfg: give one of them"),
]


def test_what_hydra_would_answer_badly_is_answered_first():
    for typed, said in TYPED:
        with pytest.raises(UserError, match=re.escape(said)):
            check_command(typed.split())
    check_group_values(["margin.value=0.3", "loss=arcface", "seed=0", "-m"], Path(CONF))
    check_command(["-m", "--config-dir", "mine", "loss=arcface,cosface", "seed=0,1", "~dataset.size"])


def test_margins_that_do_not_suit_every_loss_are_refused_with_three_ways_out():
    jobs = [[f"loss={loss}", "margin.value=0.2", "logger=csv"] for loss in ("arcface", "sphereface")]
    with pytest.raises(UserError) as refused:
        described(composer(), jobs)
    said = str(refused.value)
    assert "margin.value=0.2: expected a finite number ≥ 1 for SphereFace" in said
    for way in ("hydra.sweeper.grids=", "experiment=margins", "margin.value=1.2,1.35"):
        assert way in said
