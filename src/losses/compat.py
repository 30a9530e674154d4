"""The interface of the small public repository that this project grew out of, with corrected losses."""

from typing import ClassVar

from torch import Tensor, nn

from .errors import BadArgument
from .margin import ArcFace, CosFace, SphereFace


class AngularPenaltySMLoss(nn.Module):
    """ArcFace, CosFace or SphereFace: `loss(x (B, D), labels (B,) int64)` is a scalar.

    `loss_type` is arcface, cosface or sphereface (any case). `s` and `m` default to that repository's
    values: 64 and 0.5, 30 and 0.4, 64 and 1.35; here m = 0 means 0, and a margin outside the loss's
    range raises ValueError (SphereFace's is a factor of the angle, at least 1). `eps` is accepted and
    not needed: the angle is exact to its ends. `self.head` is the member, with `logits` for inference.
    `fc.weight` (C, D) is the head's, and that repository's state dicts load. Its losses differ: there
    the class weights were never normalised, and cos φ rose again past π.
    Raises ValueError for an unknown `loss_type`, and for x and labels of other shapes or types.
    """

    DEFAULTS: ClassVar = {
        "arcface": (ArcFace, 64.0, 0.5),
        "cosface": (CosFace, 30.0, 0.4),
        "sphereface": (SphereFace, 64.0, 1.35),
    }

    def __init__(
        self,
        in_features: int,
        out_features: int,
        loss_type: str = "arcface",
        eps: float = 1e-7,
        s: float | None = None,
        m: float | None = None,
    ):
        super().__init__()
        if not isinstance(loss_type, str) or loss_type.lower() not in self.DEFAULTS:
            raise BadArgument("loss_type", loss_type, f"expected one of {', '.join(self.DEFAULTS)}")
        self.loss_type = loss_type.lower()
        member, scale, margin = self.DEFAULTS[self.loss_type]
        self.eps, self.in_features, self.out_features = eps, in_features, out_features
        self.s = scale if s is None else s
        self.m = margin if m is None else m
        self.head = member(in_features, out_features, margin=self.m, scale=self.s)
        self.register_load_state_dict_pre_hook(_read_the_originals)

    @property
    def fc(self) -> nn.Linear:
        """The class weights as the linear layer that they were there: it shares them with the head."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight = self.head.weight
        return layer

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) int64 in [0, C) -> mean loss, a scalar."""
        return self.head(x, labels)


def _read_the_originals(loss: AngularPenaltySMLoss, state_dict: dict, prefix: str, *_) -> None:
    """Turn the original's only entry, `fc.weight`, into the head's; keep margin and scale as given."""
    if f"{prefix}fc.weight" not in state_dict:
        return
    state_dict[f"{prefix}head.weight"] = state_dict.pop(f"{prefix}fc.weight")
    for name, value in loss.head.state_dict().items():
        state_dict.setdefault(f"{prefix}head.{name}", value)
