"""Members that give non-targets more weight the more they compete with the target."""

from typing import Literal

import torch
from torch import Tensor

from .errors import check_choice, check_number
from .geometry import follow, real
from .margin import AddedMarginHead, ArcFace, MarginHead
from .targets import Targets


class CurricularFace(ArcFace):
    """ArcFace with an emphasis on hard non-targets that grows during training.

    Equation:
        z_y = s ψ(θ_y + m)
        z_j = s cos θ_j (e + cos θ_j)  if cos θ_j > ψ(θ_y + m)
        z_j = s cos θ_j                otherwise

    e is a running average of the batches' mean target cosine (buffer `easiness`). With another
    `beyond_pi` than monotone, a non-target is hard if it exceeds cos(θ_y + m). The authors' code is
    beyond_pi=linear.

    Args:
        momentum: weight of a batch in the running average, in (0, 1].

    Source: CurricularFace, arXiv 2004.00288.
    """

    published_margin = 0.5
    published_scale = 64.0
    in_tiles = True

    def __init__(self, *args, momentum: float = 0.01, **options):
        super().__init__(*args, **options)
        check_number("momentum", momentum, above=0, most=1)
        self.momentum = momentum
        self.register_buffer("easiness", torch.tensor(0.0, dtype=real()))

    def update_statistics(self, targets: Targets) -> None:
        super().update_statistics(targets)
        follow(self.easiness, targets.cosine.mean(), self.momentum)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        limit = t if self.beyond_pi == "monotone" else torch.cos(self.angle_with_margin(targets))
        return torch.where(cosine > limit.unsqueeze(1), cosine * (self.easiness + cosine), cosine)


class MVSoftmax(AddedMarginHead):
    """ArcFace or CosFace with a fixed emphasis on hard non-targets.

    Equation:
        kind arc: t = ψ(θ_y + m)
        kind am:  t = cos θ_y − m
        z_y = s t
        z_j = s ((1 + e) cos θ_j + e)  if cos θ_j > t
        z_j = s cos θ_j                otherwise

    beyond_pi=easy is the default of the authors' code, for both kinds: beyond 90° t = cos θ_y, and a
    non-target is hard if it exceeds cos(θ_y + m) or cos θ_y − m. Kind am has no other form than that
    and monotone.

    Args:
        margin: m in [0, π]; radians for kind arc, a difference of cosines for kind am.
        kind: arc adds the margin to the target's angle, am subtracts it from its cosine.
        emphasis: e ≥ 0, how much hard non-targets count in addition.

    Source: Mis-classified Vector Guided Softmax, arXiv 1912.00833.
    """

    published_margin = 0.35
    published_scale = 32.0
    in_tiles = True

    def __init__(self, *args, kind: Literal["arc", "am"] = "arc", emphasis: float = 0.2, **options):
        super().__init__(*args, **options)
        check_choice("kind", kind, "arc", "am")
        check_number("emphasis", emphasis, least=0)
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
    """Circle loss on class level: weigh each cosine by its distance from its optimum.

    Equation:
        z_y = s [1 + m − cos θ_y]₊ (cos θ_y − 1 + m)
        z_j = s [cos θ_j + m]₊ (cos θ_j − m)

    The weights in brackets have no gradient.

    Args:
        margin: m in [0, 1], a difference of cosines.

    Source: Circle Loss, arXiv 2002.10857, section 3.
    """

    published_margin = 0.25
    published_scale = 256.0
    in_tiles = True
    margin_range = (0.0, 1.0)

    def target_cosine(self, targets: Targets) -> Tensor:
        weight = (1 + self.margin - targets.cosine.detach()).clamp_min(0)
        return weight * (targets.cosine - 1 + self.margin)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return (cosine.detach() + self.column_margin).clamp_min(0) * (cosine - self.column_margin)
