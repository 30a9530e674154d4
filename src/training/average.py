"""Weights averaged over the steps of training, which are often better than those of the last step."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """An exponential moving average of a backbone and its head: after each step, the average times
    `decay` plus the weights times 1 − decay. Running statistics of the backbone are averaged too; what a
    head counts and schedules, as its margin, is as in the last step."""

    def __init__(self, backbone: nn.Module, head: nn.Module, decay: float):
        how = get_ema_multi_avg_fn(decay)
        self._backbone = AveragedModel(backbone, multi_avg_fn=how, use_buffers=True)
        self._head = AveragedModel(head, multi_avg_fn=how)

    @property
    def backbone(self) -> nn.Module:
        return self._backbone.module

    @property
    def head(self) -> nn.Module:
        return self._head.module

    def update(self, backbone: nn.Module, head: nn.Module) -> None:
        """After a step; the first update copies the weights."""
        self._backbone.update_parameters(backbone)
        self._head.update_parameters(head)

    @torch.no_grad()
    def load(self, backbone: dict, head: dict) -> None:
        """Go on from the average's own state dicts."""
        self.backbone.load_state_dict(backbone)
        self.head.load_state_dict(head)
        for each in (self._backbone, self._head):
            each.n_averaged.fill_(1)
