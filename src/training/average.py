"""Weights averaged over the steps of training, which are often better than those of the last step."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a `backbone` and its `head`: after each step, the average times
    `decay` plus the weights times 1 − decay; after the first, the weights. Running statistics of the
    backbone are averaged too. Whole numbers, and what a head counts and schedules, as its margin, are as
    after the last step.

    Not torch's AveragedModel: that rounds buffers of whole numbers, and fails for a model without any
    parameters, as pixels are."""

    def __init__(self, backbone: nn.Module, head: nn.Module, decay: float):
        self.backbone, self.head = copy.deepcopy(backbone), copy.deepcopy(head)
        self.decay, self.begun = decay, False

    @torch.no_grad()
    def update(self, backbone: nn.Module, head: nn.Module) -> None:
        """Update the average after a training step."""
        averaged, followed = [], []
        for own, theirs, buffers in ((self.backbone, backbone, True), (self.head, head, False)):
            pairs = zip(own.parameters(), theirs.parameters(), strict=True)
            averaged += pairs
            for pair in zip(own.buffers(), theirs.buffers(), strict=True):
                (averaged if buffers and pair[0].is_floating_point() else followed).append(pair)
        if not self.begun:
            averaged, followed, self.begun = [], averaged + followed, True
        if averaged:
            own, theirs = (list(side) for side in zip(*averaged, strict=True))
            torch._foreach_lerp_(own, theirs, 1 - self.decay)
        for own, theirs in followed:
            own.copy_(theirs)

    def load(self, backbone: dict[str, Tensor], head: dict[str, Tensor]) -> None:
        """Load the average from its state dicts."""
        self.backbone.load_state_dict(backbone)
        self.head.load_state_dict(head)
        self.begun = True
