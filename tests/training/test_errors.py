"""Illegal arguments of training: errors say which argument, what it was, and what would be right."""

import re

import pytest
import torch
from torch import nn

from src.losses import ArcFace, BadArgument
from src.models import Pixels, build_backbone, mlp
from src.training import (
    adam,
    build_optimizer,
    choose_device,
    constant_rate,
    find_device,
    one_cycle,
    step_decay,
)
from src.training.device import check_compiler
from tests.signatures import check_signature

SHAPE = (1, 4, 4)


def optimizer(body: nn.Module, **rates):
    backbone = build_backbone(body, SHAPE, 8)
    return build_optimizer(adam, backbone, ArcFace(8, 3, margin=0.5, scale=8.0), lr=0.1, **rates)


def schedule(of, **options):
    return of(optimizer(mlp(SHAPE)), 4, 3, **options)


@pytest.mark.parametrize(
    ("call", "argument", "value", "why"),
    [
        (lambda: find_device("mps"), "kind", "mps", "sees none here, use cpu.* or auto"),
        (lambda: find_device("cpu", tf32=True), "tf32", True, "does nothing on cpu, only on cuda"),
        (lambda: find_device("cpu", deterministic=False), "deterministic", False, "does nothing"),
        (lambda: choose_device("cpu", 1, "fp32", graph="auto"), "graph", "auto", "does nothing"),
        (lambda: find_device("cpu", tf32=True, graph="auto"), "tf32", True, "does nothing"),
        (lambda: optimizer(Pixels(SHAPE), backbone_lr=0.2), "backbone_lr", 0.2, "no embedding layer"),
        (lambda: optimizer(Pixels(SHAPE), layer_decay=0.5), "layer_decay", 0.5, "no embedding layer"),
        (lambda: optimizer(nn.Flatten(), backbone_lr=0.2), "backbone_lr", 0.2, "nothing that trains"),
        (
            lambda: optimizer(nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), layer_decay=0.5),
            *("layer_decay", 0.5, "one layer before its embedding layer"),
        ),
        (lambda: schedule(constant_rate, warmup=3), "warmup", 3, "less than the 3 epochs"),
        (lambda: schedule(step_decay, every=0.1, factor=0.5), "every", 0.1, "1/4 of an epoch"),
    ],
)
def test_the_error_carries_the_argument_its_value_and_what_would_be_right(call, argument, value, why):
    with pytest.raises(BadArgument) as caught:
        call()
    assert (caught.value.argument, caught.value.value) == (argument, value)
    assert re.search(why, caught.value.why)


def test_where_torch_cannot_compile_compile_is_to_blame(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no compiler\nand a page of reasons")

    monkeypatch.setattr(torch, "compile", refuse)
    check_compiler.cache_clear()
    with pytest.raises(BadArgument, match=r"^compile=True: torch cannot compile here \(no compiler\)$"):
        choose_device("cpu", 1, "fp32", compile=True)


def test_every_option_of_every_schedule_has_a_type_and_a_legal_default():
    for target in (constant_rate, step_decay, one_cycle):
        check_signature(target, "optimizer", "steps", "epochs")
    check_signature(build_optimizer, "optimizer", "backbone", "head")
    check_signature(choose_device)
