"""Members that weigh the non-targets: those that compete with a sample's own class count for more."""

from typing import Literal

import torch
from torch import Tensor

from .errors import BadArgument
from .geometry import follow
from .margin import AddedMarginHead, ArcFace, MarginHead
from .targets import Targets


class CurricularFace(ArcFace):
    """ArcFace's target; a hard non-target (c_j > t) becomes c_j (e + c_j), where e, an average of the
    batches' mean target cosine (buffer `easiness`, weight 0.01), grows as training goes on.

    In the published forms hard is what exceeds cos(θ + m), whatever t is past π; the authors' code is
    beyond_pi=linear. Published m 0.5, s 64. Source: CurricularFace, arXiv 2004.00288.
    """

    published_margin = 0.5
    published_scale = 64.0

    def __init__(self, *args, momentum: float = 0.01, **options):
        super().__init__(*args, **options)
        self.momentum = momentum
        self.register_buffer("easiness", torch.tensor(0.0))

    def update_statistics(self, targets: Targets, cosine: Tensor) -> None:
        super().update_statistics(targets, cosine)
        follow(self.easiness, targets.cosine.mean(), self.momentum)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        limit = t if self.beyond_pi == "monotone" else torch.cos(self.angle_with_margin(targets))
        return torch.where(cosine > limit.unsqueeze(1), cosine * (self.easiness + cosine), cosine)


class MVSoftmax(AddedMarginHead):
    """`kind` arc: t = ψ(θ + m); am: t = cos θ − m. A hard non-target (c_j > t) becomes
    (1 + e) c_j + e with a fixed emphasis e. Published m 0.35, s 32, e 0.2.

    beyond_pi=easy is the authors' code by default, for both kinds: beyond 90° t = cos θ, while hard
    is still what exceeds cos(θ + m) or cos θ − m. am has no other form than that and monotone.
    Source: Mis-classified Vector Guided Softmax, arXiv 1912.00833.
    """

    published_margin = 0.35
    published_scale = 32.0

    def __init__(self, *args, kind: Literal["arc", "am"] = "arc", emphasis: float = 0.2, **options):
        super().__init__(*args, **options)
        if kind not in ("arc", "am"):
            raise BadArgument("kind", kind, "expected arc or am")
        self.kind, self.emphasis = kind, emphasis
        if kind == "am":
            self.check_form(("monotone", "easy"), " of kind am, which moves no angle")

    def target_cosine(self, targets: Targets) -> Tensor:
        if self.kind == "arc":
            return super().target_cosine(targets)
        moved = targets.cosine - self.margin
        return (
            torch.where(targets.cosine > 0, moved, targets.cosine) if self.beyond_pi == "easy" else moved
        )

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        limit = t
        if self.beyond_pi != "monotone" and self.kind == "arc":
            limit = torch.cos(self.angle_with_margin(targets))
        elif self.beyond_pi != "monotone":
            limit = targets.cosine - self.margin
        hard = cosine > limit.unsqueeze(1)
        return torch.where(hard, (1 + self.emphasis) * cosine + self.emphasis, cosine)


class CircleLoss(MarginHead):
    """Class-level circle loss: z_y = s [1 + m − c_y]₊ (c_y − 1 + m), z_j = s [c_j + m]₊ (c_j − m), the
    weights in brackets without gradient; m in [0, 1]. Published m 0.25, s 256.

    Source: Circle Loss, arXiv 2002.10857, section 3.
    """

    published_margin = 0.25
    published_scale = 256.0
    margin_range = (0.0, 1.0)

    def target_cosine(self, targets: Targets) -> Tensor:
        weight = (1 + self.margin - targets.cosine.detach()).clamp_min(0)
        return weight * (targets.cosine - 1 + self.margin)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return (cosine.detach() + self.column_margin).clamp_min(0) * (cosine - self.column_margin)
