"""Heads as a Case describes them."""

import pytest
import torch

from src.losses import MarginHead
from tests.losses.reference import HEADS


def build(case, classes: int, dimension: int, scale: float = 64.0, **options):
    """The head of a Case, in eval mode so that its state is the Case's."""
    member = HEADS[case.name]
    given = dict(case.options) | options
    if issubclass(member, MarginHead):
        given["margin"] = case.margin
    if member.has_scale:
        given["scale"] = scale
    head = member(dimension, classes, **given).eval()
    with torch.no_grad():
        if case.name == "softmax":
            head.bias.normal_()
        for name, value in case.state.items():
            getattr(head, name).fill_(value)
        if case.name == "kappaface":
            head.resultants.uniform_(0.3, 0.95)
            head.counts.random_(1, 500)
        if case.name != "subcenter_arcface":
            head.weight.mul_(torch.rand(classes, 1) * 2 + 0.5)  # of any length
    return head


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
