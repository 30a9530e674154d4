"""The calls of the small public repository that this project grew out of, with right losses."""

from typing import ClassVar

from torch import Tensor, nn

from .margin import ArcFace, CosFace, SphereFace


class AngularPenaltySMLoss(nn.Module):
    """`AngularPenaltySMLoss(in_features, out_features, loss_type, eps, s, m)(x (B, D), labels (B,))`.

    `loss_type` is arcface, cosface or sphereface (any case). `s` and `m` default to that repository's
    values: 64 and 0.5, 30 and 0.4, 64 and 1.35; here m = 0 means 0, and a margin outside the loss's
    range raises ValueError (SphereFace's is a factor of the angle, at least 1). `eps` is accepted and
    not needed: the angle is exact to its ends. `self.head` is the member, with `logits` for inference.
    """

    DEFAULTS: ClassVar = {
        "arcface": (ArcFace, 64.0, 0.5),
        "cosface": (CosFace, 30.0, 0.4),
        "sphereface": (SphereFace, 64.0, 1.35),
    }

    def __init__(self, in_features, out_features, loss_type="arcface", eps=1e-7, s=None, m=None):
        super().__init__()
        loss_type = loss_type.lower()
        if loss_type not in self.DEFAULTS:
            raise ValueError(f"loss_type is one of {', '.join(self.DEFAULTS)}, got {loss_type!r}")
        member, scale, margin = self.DEFAULTS[loss_type]
        self.loss_type, self.eps = loss_type, eps
        self.in_features, self.out_features = in_features, out_features
        self.s = scale if s is None else s
        self.m = margin if m is None else m
        self.head = member(in_features, out_features, margin=self.m, scale=self.s)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.head(x, labels)
