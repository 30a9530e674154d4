"""Training as people do it: samplers, averaged weights, frozen and slower layers, warm-up, accumulation.

What each computes is compared with loops that are written out here.
"""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from src.config import BadKey, Config, identity
from src.errors import UserError
from src.losses import ArcFace
from src.run.build import build_model, build_run, check_device, warn_of_few_dimensions, warn_of_scale
from src.run.causes import smaller_batch
from src.run.data import steps_in
from src.run.epochs import train
from src.run.folder import RunFolder
from src.run.init import freeze
from src.run.lifecycle import train_run
from src.run.load import load_trained
from src.tracking import Tracker
from src.training import (
    Average,
    Step,
    bf16_cost,
    build_optimizer,
    choose_device,
    load_checkpoint,
    sgd,
)
from src.training.device import check_compiler
from src.training.optimizers import layers_of
from tests.conftest import FAST, rows_of, summary_of
from tests.run.test_best_epoch import cut_after

EACH = {
    "balanced": ["sampler.kind=balanced"],
    "classes": ["sampler.kind=classes", "sampler.samples_per_class=8"],
    "ema": ["ema.decay=0.9"],
    "accumulate": ["optimizer.accumulate=2"],
    "warmup": ["schedule=cosine", "schedule.warmup=1.5"],
    "layers": ["model=small_cnn", "optimizer.backbone_lr=0.001", "optimizer.layer_decay=0.5"],
    "freeze": ["init.freeze=body"],
    "class_weights": ["loss.class_weights=balanced"],
}
ALL_AT_ONCE = ["sampler.kind=balanced", "checkpoint.keep=both", *EACH["ema"], *EACH["accumulate"]]
ALL_AT_ONCE += [*EACH["warmup"], *EACH["layers"], *EACH["class_weights"], "model=small_cnn"]
ALL_AT_ONCE += ["init.freeze=[0,1]"]


@pytest.mark.parametrize("options", [*EACH.values(), ALL_AT_ONCE], ids=[*EACH, "all at once"])
def test_a_run_that_was_cut_short_goes_on_bit_for_bit(options, composed, tmp_path, monkeypatch):
    config = composed(*FAST, "epochs=4", *options)
    train_run(config, tmp_path / "whole")
    cut_after(2, tmp_path / "cut", monkeypatch, config)
    train_run(config, tmp_path / "cut")
    assert summary_of(tmp_path / "cut")["resumed_after_epoch"] == 2
    for name in ("metrics.csv", "embeddings.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_each_is_another_run_and_trains_another_model(options, composed, tmp_path):
    model = [option for option in options if option.startswith("model=")]
    config, plain = (composed(*FAST, "epochs=1", *some) for some in (options, model))
    if "schedule.warmup=1.5" in options:
        config, plain = (composed(*FAST, "schedule=cosine", *some) for some in (options[1:], []))
    assert identity(config) != identity(plain)
    for name, each in (("with", config), ("without", plain)):
        train_run(each, tmp_path / name)
    one, other = (load_trained(tmp_path / name).head.weight for name in ("with", "without"))
    assert not torch.equal(one, other)


def test_the_model_is_the_moving_average_of_the_weights(composed, tmp_path):
    run = build_run(composed(*FAST, "ema.decay=0.9"), RunFolder(tmp_path))
    parameters = [*run.backbone.parameters(), *run.head.parameters()]
    steps = []
    run.optimizer.register_step_post_hook(
        lambda *_: steps.append([parameter.detach().double() for parameter in parameters])
    )
    train(run, Tracker())
    average = steps[0]
    for weights in steps[1:]:
        average = [0.9 * a + 0.1 * w for a, w in zip(average, weights, strict=True)]
    backbone, head = run.model
    kept = [*backbone.parameters(), *head.parameters()]
    for ours, theirs, last in zip(kept, average, steps[-1], strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
        assert not torch.equal(ours.double(), last)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(saved["head"]["weight"], head.weight)
    assert torch.equal(saved["trained"]["head"]["weight"].double(), steps[-1][-1])


def test_what_is_loaded_measured_and_reported_is_the_average(composed, tmp_path):
    train_run(composed(*FAST, "ema.decay=0.9"), tmp_path)
    model, summary = load_trained(tmp_path), summary_of(tmp_path)
    data = model.data(model.config)
    with np.load(tmp_path / "embeddings.npz") as kept:
        np.testing.assert_array_equal(model.embed(data.test).numpy(), kept["embeddings"])
    predicted = model.head.logits(model.embed(data.val)).argmax(1)
    accuracy = (predicted == data.val.labels).float().mean().item()
    assert summary["validation"]["accuracy"] == pytest.approx(accuracy)
    last = (tmp_path / "metrics.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    assert float(row["accuracy"]) == pytest.approx(accuracy)


def test_a_step_of_accumulated_batches_is_one_of_their_mean_gradient(composed, tmp_path):
    options = ["epochs=1", "optimizer=sgd", "schedule=constant", "batch_size=32", "model=linear"]
    run = build_run(composed(*FAST, *options, "optimizer.accumulate=3"), RunFolder(tmp_path))
    # The same, written out: this model has no BatchNorm, so 96 at once have the same gradient.
    theirs = copy.deepcopy(run)
    order = torch.randperm(len(run.data.train), generator=torch.Generator().manual_seed(0))
    steps = len(order) // 96
    assert run.steps == steps > 3
    for images, labels in theirs.data.train.batches(order[: steps * 96], 96):
        theirs.optimizer.zero_grad()
        theirs.head(theirs.backbone(images), labels).backward()
        theirs.optimizer.step()
    train(run, Tracker())
    for ours, other in zip(run.backbone.parameters(), theirs.backbone.parameters(), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-4)


def test_what_is_frozen_stays_and_the_rest_trains(composed, tmp_path):
    run = build_run(composed(*FAST, "model=small_cnn", "init.freeze=body"), RunFolder(tmp_path))
    before = {key: value.clone() for key, value in run.backbone.state_dict().items()}
    train(run, Tracker())
    changed = {key for key, value in run.backbone.state_dict().items() if not value.equal(before[key])}
    assert changed == {"1.weight", "1.bias"}, "running statistics of frozen norms stay too"


def test_norms_are_frozen_with_their_statistics(composed, tmp_path):
    run = build_run(composed(*FAST, "model=small_cnn", "init.freeze=norms"), RunFolder(tmp_path))
    before = {key: value.clone() for key, value in run.backbone.state_dict().items()}
    train(run, Tracker())
    same = {key for key, value in run.backbone.state_dict().items() if value.equal(before[key])}
    norms = [name for name, one in run.backbone.named_modules() if isinstance(one, nn.BatchNorm2d)]
    assert same == {key for key in before if key.rpartition(".")[0] in norms} and len(norms) == 3
    with pytest.raises(UserError, match=r"init\.freeze=norms: the model has no normalisation layers"):
        freeze("norms", nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Linear(2, 2)))


def test_layers_are_frozen_by_name(composed, tmp_path):
    run = build_run(composed(*FAST, "model=small_cnn", "init.freeze=[0,1]"), RunFolder(tmp_path))
    frozen = {key for key, value in run.backbone.named_parameters() if not value.requires_grad}
    assert frozen == {"0.0.weight", "0.1.weight", "0.1.bias"}
    with pytest.raises(
        UserError, match=r"init\.freeze=stem: no parameter of the model begins with stem"
    ):
        build_run(composed(*FAST, "init.freeze=stem"), RunFolder(tmp_path))
    with pytest.raises(UserError, match=r"init\.freeze=body: for models with an embedding layer"):
        build_run(composed(*FAST, "init.freeze=body", "model=pixels"), RunFolder(tmp_path))


def test_the_rate_falls_from_layer_to_layer_towards_the_images():
    def layer(n_in: int, n_out: int) -> list[nn.Module]:
        return [nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]

    body = nn.Sequential(nn.Sequential(*layer(1, 2), *layer(2, 3), nn.Flatten()))
    assert [[tuple(p.shape) for p in own] for own in layers_of(body)] == [
        [(2, 1, 1, 1), (2,), (2,)],
        [(3, 2, 1, 1), (3,), (3,)],
    ]
    backbone, head = nn.Sequential(body, nn.Linear(3, 5)), nn.Linear(5, 4)
    optimizer = build_optimizer(
        sgd, backbone, head, lr=1.0, head_lr=3.0, backbone_lr=0.4, layer_decay=0.5
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.4, 1.0, 3.0]
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {*held} == {*backbone.parameters(), *head.parameters()} and len(held) == len({*held})


@pytest.mark.parametrize("model", ["small_cnn", "convnet", "mlp", "iresnet18", "resnet18"])
def test_every_model_has_layers_and_each_parameter_once(model, composed):
    size = (3, 112, 112) if model == "iresnet18" else (3, 32, 32)
    backbone = build_model(composed(f"model={model}"), size)
    head = nn.Linear(2, 2)
    groups = build_optimizer(sgd, backbone, head, lr=1.0, head_lr=None, layer_decay=0.5).param_groups
    held = [parameter for group in groups[:-1] for parameter in group["params"]]
    assert {*held} == {*backbone.parameters()} and len(held) == len({*held})
    rates = [group["lr"] for group in groups[:-2]]
    assert rates == sorted(rates) and rates[-1] == 1 and len(rates) > 1


def test_what_a_body_holds_itself_is_with_its_first_layer_and_blocks_are_layers():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            blocks = (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3))
            self.blocks = nn.ModuleList(blocks)

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Tokens()

    class Own(nn.Sequential):  # opened, its parameter would be nobody's
        def __init__(self):
            super().__init__(nn.Linear(4, 4), nn.Linear(4, 4))
            self.gain = nn.Parameter(torch.ones(4))

    for body in (Tokens(), Around(), Own(), nn.Sequential(Own()), nn.Sequential(Own(), nn.Linear(4, 4))):
        layers = layers_of(body)
        held = [parameter for layer in layers for parameter in layer]
        assert {*held} == {*body.parameters()} and len(held) == len({*held})
    assert [len(layer) for layer in layers_of(Tokens())] == [5, 4, 4]


def test_what_is_inside_a_frozen_module_trains_on():
    outer = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3))
    outer.register_parameter("token", nn.Parameter(torch.zeros(3), requires_grad=False))
    device = choose_device("cpu", 1, "fp32")
    optimizer = torch.optim.SGD([*outer.parameters()])
    step = Step(None, outer, nn.Linear(3, 2), optimizer, None, device)
    step.train_mode()
    assert not outer.training and outer[0].training and outer[1].training


@pytest.mark.parametrize("decay", [0.9, 0.95, 0.9999])
def test_whole_numbers_are_not_averaged(decay):
    backbone, head = nn.Linear(2, 2), nn.Linear(2, 2)
    backbone.register_buffer("index", torch.arange(169))
    average = Average(backbone, head, decay)
    for _ in range(5):
        backbone.index += 1
        average.update(backbone, head)
    assert torch.equal(average.backbone.index, torch.arange(169) + 5)


def test_a_model_without_parameters_has_an_average_of_its_class_weights(composed, tmp_path):
    train_run(composed(*FAST, "ema.decay=0.9", "model=pixels"), tmp_path)
    assert summary_of(tmp_path)["state"] == "finished"


def test_a_run_that_starts_from_another_keeps_its_own_margin_scale_and_class_weights(composed, tmp_path):
    train_run(composed(*FAST, "epochs=1", "loss.class_weights=balanced"), tmp_path / "first")
    options = ["margin.value=0.1", "scale.value=16", "loss.class_weights=balanced"]
    options += ["dataset.val_fraction=0.4", f"init.from={tmp_path / 'first'}"]
    run = build_run(composed(*FAST, *options), RunFolder(tmp_path))
    first = load_trained(tmp_path / "first")
    assert torch.equal(run.head.weight, first.head.weight)
    assert run.head.margin == pytest.approx(0.1) and run.head.scale == 16
    counts = np.bincount(run.data.train.labels.numpy(), minlength=10)
    np.testing.assert_allclose(run.head.class_weights, counts.sum() / (10 * counts), rtol=1e-6)


def test_a_rate_of_the_backbone_that_is_the_other_one_goes_on_with_the_same_run(
    composed, tmp_path, monkeypatch
):
    cut_after(1, tmp_path, monkeypatch, composed(*FAST))
    train_run(composed(*FAST, "optimizer.backbone_lr=0.003"), tmp_path)
    assert summary_of(tmp_path)["resumed_after_epoch"] == 1


def test_balanced_class_weights_are_by_the_training_images(composed, tmp_path):
    config = composed(*FAST, "loss.class_weights=balanced")
    run = build_run(config, RunFolder(tmp_path))
    counts = np.bincount(run.data.train.labels.numpy(), minlength=10)
    expected = counts.sum() / (10 * counts)
    np.testing.assert_allclose(run.head.class_weights.numpy(), expected, rtol=1e-6)
    train_run(config, tmp_path / "run")
    assert torch.equal(load_trained(tmp_path / "run").head.class_weights, run.head.class_weights)


def test_a_head_that_was_not_balanced_has_no_loss():
    head = ArcFace(4, 3, margin=0.5, scale=8.0, class_weights="balanced")
    embeddings, labels = torch.randn(4, 4), torch.tensor([0, 0, 0, 1])
    assert head(embeddings, labels).isnan()
    head.balance(labels)
    assert head.class_weights.tolist() == pytest.approx([4 / 9, 4 / 3, 4 / 3])
    assert head(embeddings, labels).isfinite()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["ema.decay=1"], "ema.decay=1: expected a number > 0, < 1 or null"),
        (["optimizer.accumulate=0"], "optimizer.accumulate=0: expected an integer ≥ 1"),
        (["optimizer.accumulate=100"], "optimizer.accumulate=100: .* 20 batches of 64; use at most"),
        (["optimizer.layer_decay=0"], "optimizer.layer_decay=0: expected a number > 0, ≤ 1"),
        (
            ["optimizer.backbone_lr=0.1", "model=pixels"],
            "optimizer.backbone_lr=0.1: this model has no e",
        ),
        (["optimizer.backbone_lr=0.1", "model=linear"], "backbone_lr=0.1: this model has nothing that"),
        (["optimizer.layer_decay=0.5", "model=linear"], "layer_decay=0.5: this model has nothing that"),
        (
            ["optimizer.layer_decay=0.5", "init.freeze=body"],
            "layer_decay=0.5: init.freeze=body leaves nothing",
        ),
        (["sampler.kind=random"], "sampler.kind=random: expected one of shuffled, balanced, classes"),
        (["sampler.samples_per_class=2"], "samples_per_class=2: only sampler.kind=classes reads it"),
        (["sampler.kind=classes"], "samples_per_class=null: sampler.kind=classes needs it"),
        (
            ["sampler.kind=classes", "sampler.samples_per_class=7"],
            "sampler.samples_per_class=7: does not divide a batch of 64",
        ),
        (["schedule=cosine", "schedule.warmup=2"], "schedule.warmup=2: expected less than the 2 epochs"),
        (["schedule=cosine", "schedule.warmup=-1"], "schedule.warmup=-1: expected a number ≥ 0"),
        (["init.freeze=[]"], re.escape("init.freeze=[]: expected body, norms or a list of layers")),
        (
            ["loss.class_weights=even"],
            "loss.class_weights=even: expected a list of numbers or balanced or null",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_training(asked, said, composed, tmp_path):
    with pytest.raises(UserError, match=said):
        train_run(composed(*FAST, "batch_size=64", *asked), tmp_path)


@pytest.mark.parametrize("choice", ["constant", "cosine", "step"])
def test_the_rate_rises_in_equal_steps_and_then_does_as_it_would(choice, composed, tmp_path):
    def rates(*options):
        run, seen = build_run(composed(*FAST, f"schedule={choice}", *options), RunFolder(tmp_path)), []
        for _ in range(run.steps * run.config.epochs):
            seen.append(run.optimizer.param_groups[-1]["lr"])
            run.optimizer.step()
            run.schedule.step()
        return np.array(seen)

    warm = rates("epochs=3", "schedule.warmup=1")
    steps = len(warm) // 3
    rising = 0.003 * np.arange(1, steps + 1) / (steps + 1)
    np.testing.assert_allclose(warm[:steps], rising, rtol=1e-6)
    np.testing.assert_allclose(warm[steps:], rates("epochs=2"), rtol=1e-6, atol=1e-9)


def test_values_that_do_nothing_are_the_same_run(composed):
    neutral = ["sampler.kind=shuffled", "optimizer.accumulate=1", "optimizer.layer_decay=1.0"]
    neutral += ["optimizer.backbone_lr=0.003", "ema.decay=null", "init.freeze=null"]
    assert identity(composed(*neutral)) == identity(composed())
    # and of a run from before the keys existed
    older = composed("schedule=cosine").plain()
    for group, key in (("optimizer", "accumulate"), ("optimizer", "layer_decay"), ("init", "freeze")):
        del older[group][key]
    del older["sampler"], older["ema"], older["optimizer"]["backbone_lr"]
    del older["schedule"]["warmup"]
    assert identity(Config.model_validate(older)) == identity(composed("schedule=cosine"))


@pytest.mark.parametrize(
    ("instructions", "cost", "chosen"),
    [((), 0.5, "fp32"), (("avx512_bf16",), 1.3, "fp32"), (("avx512_bf16",), 0.5, "bf16")],
)
def test_auto_takes_bf16_where_the_processor_has_it_and_is_faster(
    instructions, cost, chosen, composed, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    monkeypatch.setattr("src.training.device.bf16_cost", lambda: cost)
    config = composed(*FAST, "device.precision=auto")
    assert identity(config) != identity(composed(*FAST))
    cut_after(1, tmp_path, monkeypatch, config)
    # Another try could say otherwise: what the run began in stays.
    monkeypatch.setattr("src.training.device.bf16_cost", lambda: 1 / cost)
    train_run(config, tmp_path)
    assert summary_of(tmp_path)["precision"] == chosen
    train_run(composed(*FAST, f"device.precision={chosen}"), tmp_path / "asked")
    for name in ("metrics.csv", "embeddings.npz"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "asked" / name).read_bytes()
    assert load_trained(tmp_path).device.precision == chosen


def test_bf16_on_a_processor_that_is_slower_with_it_is_said(composed, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("src.run.advice.bf16_cost", lambda: 7.6)
    train_run(composed(*FAST, "epochs=1", "device.precision=bf16"), tmp_path)
    assert "device.precision=bf16: a convolution takes 7.6 times as long as in fp32" in caplog.text


def test_the_cost_of_bf16_is_measured():
    assert 0.05 < bf16_cost() < 1000 and bf16_cost() == bf16_cost()


@pytest.mark.parametrize("asked", ["tf32=true", "deterministic=false", "graph=auto"])
def test_what_does_nothing_on_a_processor_is_refused(asked, composed, tmp_path):
    with pytest.raises(UserError, match=f"device.{asked}: does nothing on cpu, only on cuda"):
        train_run(composed(*FAST, f"device.{asked}"), tmp_path)


def test_all_that_does_nothing_is_refused_at_once(composed):
    config = composed(*FAST, "device.tf32=true", "device.graph=auto")
    why = "does nothing on cpu, only on cuda; leave it out"
    said = rf"^device\.tf32=true: {why}\ndevice\.graph=auto: {why}$"
    with pytest.raises(UserError, match=said):
        check_device(config)


def test_a_compiled_backbone_trains_alike_and_is_another_run(composed, tmp_path):
    config, plain = composed(*FAST, "device.compile=true"), composed(*FAST)
    assert identity(config) != identity(plain)
    train_run(config, tmp_path / "compiled")
    train_run(plain, tmp_path / "plain")
    rows = [rows_of(tmp_path / name) for name in ("compiled", "plain")]
    losses = [[row["loss"] for row in each] for each in rows]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_without_a_compiler_nothing_is_compiled(composed, tmp_path, monkeypatch):
    def fails(function):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    check_compiler.cache_clear()
    with pytest.raises(UserError, match=r"device.compile=true: .* \(No working C\+\+ compiler found\)"):
        train_run(composed(*FAST, "device.compile=true"), tmp_path)
    check_compiler.cache_clear()


@pytest.mark.parametrize(
    ("scale", "classes", "said"),
    [(64, 10, "far above"), (1, 10, "too small for 10 classes"), (16, 10, None), (5, 1000, "too small")],
)
def test_a_scale_that_suits_no_such_number_of_classes_is_warned_of(scale, classes, said, caplog):
    warn_of_scale.cache_clear()  # once for all runs of a process
    warn_of_scale("arcface", ArcFace, scale, classes, 128)
    assert [said in line for line in caplog.messages] == [True] * (said is not None)


@pytest.mark.parametrize(("classes", "dimension", "warned"), [(10, 3, 0), (1000, 3, 1), (1000, 128, 0)])
def test_too_few_dimensions_for_the_classes_are_warned_of(classes, dimension, warned, caplog):
    warn_of_few_dimensions.cache_clear()
    warn_of_few_dimensions(classes, dimension)
    assert ["is too few for" in line for line in caplog.messages] == [True] * warned


def test_an_epoch_may_have_fewer_images(composed, tmp_path, caplog):
    run = build_run(composed(*FAST, "sampler.images=320", "batch_size=32"), RunFolder(tmp_path))
    first, second = run.order(run.shuffling), run.order(run.shuffling)
    assert run.steps == 10 and len(first) == 320 and first.tolist() != second.tolist()
    assert len(set(first.tolist())) == 320
    for asked, why in (
        ("10000", "use at most that"),
        ("3", "an epoch has sampler.images=3"),
    ):
        with pytest.raises(BadKey, match=why):
            build_run(composed(*FAST, f"sampler.images={asked}"), RunFolder(tmp_path))


def test_sampled_classes_need_a_batch_a_step(composed, tmp_path):
    options = ("loss.sample_rate=0.5", "optimizer.accumulate=2")
    with pytest.raises(BadKey, match=r"accumulate=2: with loss\.sample_rate each batch"):
        build_run(composed(*FAST, *options), RunFolder(tmp_path))


@pytest.mark.parametrize(
    "typed, steps, smaller",
    [
        ([], 15, 32),  # of the batches of an epoch, only whole ones are trained on
        (["batch_size=32"], 31, None),
        (["batch_size=32", "optimizer.accumulate=2"], 15, 16),
        (["batch_size=32", "sampler.images=500"], 15, 16),
    ],
)
def test_a_smaller_batch_is_advised_by_the_steps_that_are_trained(composed, typed, steps, smaller):
    config = composed("batch_size=64", *typed)
    assert steps_in(config, 1000) == steps and smaller_batch(config, 1000) == smaller
