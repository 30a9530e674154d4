"""Heads with a margin, and the members with one fixed margin: z_y = s (ψ(m1 θ_y + m2) − m3)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from .errors import BadArgument, check_number, check_whole, is_number
from .geometry import arccos, cosines, psi, random_directions, real, unit
from .head import CosineHead, check_shapes, full_precision, in_digits
from .targets import Targets

BeyondPi = Literal["monotone", "paper", "easy", "linear", "continuous"]


class MarginHead(CosineHead):
    """A cosine head whose target logit carries a margin.

    Args:
        margin: m; None is the published one. It is a buffer, so it can change during training
            (`head.margin.fill_(0.3)`), differ per sample (a tensor (B,)) and be saved. Call
            `margins_by_size` for another one for each class.

    Raises ValueError for a margin outside `margin_range`.
    """

    no_margin = 0.0
    margin_range = (0.0, math.pi)
    published_margin: float | tuple[float, ...] | None = None

    def __init__(self, *args, margin: float | Sequence[float] | None = None, **options):
        super().__init__(*args, **options)
        margin = self.published_margin if margin is None else margin
        self.register_buffer("margin", torch.tensor(self.check_margin(margin), dtype=real()))
        self.register_buffer("class_shares", None)  # (C,) of the margin above the floor
        self.register_buffer("floor", None)

    @torch.no_grad()
    def margins_by_size(self, labels: Tensor, power: float = 0.25, floor: float | None = None) -> None:
        """Give each class a margin (C,) by its number n of training labels (N,), as if a class without
        any had one: floor + (m − floor) (n / n_smallest)^−power, which is `margin` for the smallest
        class and goes to `floor` (None: no margin) for large ones. With CosFace, a power of 1/4 and no
        floor it is LDAM's (arXiv 1906.07413); dynamic margins for landmarks have a floor of 0.05 (arXiv
        2010.05350).

        Raises ValueError for a `power` that is not above 0, a `floor` that is no margin, labels outside
        the classes, and a margin of several numbers."""
        if self.margin.ndim:
            raise BadArgument("margin", tuple(self.margin.tolist()), "one number can differ by class")
        check_number("power", power, above=0)
        floor = self.no_margin if floor is None else self.check_margin(floor)
        counts = torch.bincount(labels, minlength=self.num_classes).clamp(min=1)
        if len(counts) > self.num_classes:
            why = f"expected labels below {self.num_classes}, the number of classes"
            raise BadArgument("labels", int(labels.max()), why)
        self.class_shares = (counts / counts.min()).to(self.margin) ** -power
        self.floor = torch.full_like(self.margin, floor)

    @property
    def class_margins(self) -> Tensor | None:
        """The margin (C,) of each class; None if all have the same."""
        if self.class_shares is None:
            return None
        return self.floor + (self.margin - self.floor) * self.class_shares

    def _load_from_state_dict(self, state: dict, prefix: str, *more) -> None:
        for name in ("class_shares", "floor"):
            kept = state.get(prefix + name)
            if kept is not None:
                setattr(self, name, torch.empty_like(kept, device=self.margin.device))
        super()._load_from_state_dict(state, prefix, *more)

    @contextmanager
    def margins_of(self, labels: Tensor) -> Iterator[None]:
        """Within a block, let `margin` be that of each sample's class (B,)."""
        usual = self.margin
        self.margin = self.class_margins[labels]
        try:
            yield
        finally:
            self.margin = usual

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.class_shares is None or self.margin.ndim:  # or each sample has its own already
            return super().forward(embeddings, labels)
        check_shapes(self.embedding_dim, embeddings, labels)
        with self.margins_of(labels):
            return super().forward(embeddings, labels)

    def margin_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.class_shares is None or self.margin.ndim:
            return super().margin_logits(embeddings, labels)
        check_shapes(self.embedding_dim, embeddings, labels)
        with self.margins_of(labels):
            return super().margin_logits(embeddings, labels)

    def described(self) -> dict[str, object]:
        by_class = {} if self.class_shares is None else {"class_margins": in_digits(self.class_shares)}
        return super().described() | {"margin": in_digits(self.margin)} | by_class

    @property
    def column_margin(self) -> Tensor:
        """The margin, to act on the rows of (B, C): (B, 1) where each sample has its own."""
        return self.margin.unsqueeze(-1) if self.margin.ndim else self.margin

    @classmethod
    def check_margin(cls, margin: float) -> float:
        """Return the margin as a float. Raise BadArgument unless it is one number in `margin_range`."""
        low, high = cls.margin_range
        if not (is_number(margin) and low <= margin <= min(high, torch.finfo(torch.float32).max)):
            limit = "" if high == math.inf else f" and ≤ {high:.4g}"
            why = f"expected a finite number ≥ {low:g}{limit} for {cls.__name__}"
            raise BadArgument("margin", margin, why)
        return float(margin)


class AngularMarginHead(MarginHead):
    """A margin inside the cosine: z_y = s cos φ, where a member defines the angle φ. Past π, cos φ would
    rise again and reward the worst samples.

    Args:
        beyond_pi: the target's logit, divided by s, where φ passes π. monotone: ψ(φ), which keeps
            falling. paper: the formula of the paper or its authors' code, for most members cos φ.
            easy: cos φ where the sample is within 90° of its class, cos θ elsewhere. linear: cos θ − m
            sin m, which keeps falling after a jump. continuous: cos θ − (1 − cos m), without the jump.

    Raises ValueError for a `beyond_pi` that is not among the member's `forms`.
    """

    forms = ("monotone", "paper", "easy")

    def __init__(self, *args, beyond_pi: BeyondPi = "monotone", **options):
        super().__init__(*args, **options)
        self.beyond_pi = beyond_pi
        self.check_form(self.forms)

    def described(self) -> dict[str, object]:
        return super().described() | {"beyond_pi": self.beyond_pi}

    def check_form(self, forms: tuple[str, ...], why: str = "") -> None:
        if self.beyond_pi not in forms:
            listed = f"{', '.join(forms[:-1])} or {forms[-1]}" if len(forms) > 1 else forms[0]
            expected = f"expected {listed} for {type(self).__name__}{why}"
            raise BadArgument("beyond_pi", self.beyond_pi, expected)

    def angle_with_margin(self, targets: Targets) -> Tensor:
        """φ (B,) in radians."""
        raise NotImplementedError

    def published_cosine(self, phi: Tensor) -> Tensor:
        """t (B,) of φ (B,) as the paper or its code has it."""
        return torch.cos(phi)

    def target_cosine(self, targets: Targets) -> Tensor:
        if self.beyond_pi in ("linear", "continuous"):
            m = self.added_angle(targets)  # which is asked for once: it may be drawn
            phi = targets.angle + m
            drop = m * torch.sin(m) if self.beyond_pi == "linear" else 1 - torch.cos(m)
            return torch.where(phi > math.pi, targets.cosine - drop, torch.cos(phi))
        phi = self.angle_with_margin(targets)
        if self.beyond_pi == "monotone":
            return psi(phi)
        if self.beyond_pi == "paper":
            return self.published_cosine(phi)
        return torch.where(targets.cosine > 0, torch.cos(phi), targets.cosine)  # easy


class AddedMarginHead(AngularMarginHead):
    """φ = θ + m; a member returns m (B,) as `added_angle`, in radians.

    Args:
        margin: m in [0, π] radians, added to the target's angle.
    """

    forms = ("monotone", "paper", "easy", "linear", "continuous")

    def added_angle(self, targets: Targets) -> Tensor:
        """m, a number or (B,), in radians."""
        return self.margin

    def angle_with_margin(self, targets: Targets) -> Tensor:
        return targets.angle + self.added_angle(targets)


class CosFace(MarginHead):
    """Subtract a margin from the target's cosine. AM-Softmax is the same loss.

    Equation:
        z_y = s (cos θ_y − m)
        z_j = s cos θ_j

    Args:
        margin: m in [−1, 2], subtracted from the target's cosine. A negative one lets classes spread,
            which helped new classes of few samples (Liu et al., ECCV 2020).

    Source: CosFace, arXiv 1801.09414; AM-Softmax, arXiv 1801.05599.
    """

    published_margin = 0.35
    published_scale = 64.0
    in_tiles = True
    margin_range = (-1.0, 2.0)
    plain_slopes = True

    def target_cosine(self, targets: Targets) -> Tensor:
        return targets.cosine - self.margin


class ArcFace(AddedMarginHead):
    """Add a margin to the target's angle.

    Equation:
        z_y = s ψ(θ_y + m)
        z_j = s cos θ_j

    insightface's arcface_torch has beyond_pi=paper gradient=detached today, and had beyond_pi=linear
    or paper with the exact gradient before.

    Source: ArcFace, arXiv 1801.07698.
    """

    published_margin = 0.5
    published_scale = 64.0
    in_tiles = True


class LiArcFace(MarginHead):
    """Use logits that are linear in the angle, and add a margin to the target's angle.

    Equation:
        z_y = s (π − 2 (θ_y + m)) / π
        z_j = s (π − 2 θ_j) / π

    Both stay linear past π. `logits` are scaled cosines, as in every head: they rank the classes
    alike.

    Args:
        margin: m in [0, π] radians, added to the target's angle.

    Source: AirFace (Li-ArcFace), arXiv 1907.12256.
    """

    published_margin = 0.45
    published_scale = 64.0
    in_tiles = True
    other_logits = True

    def target_cosine(self, targets: Targets) -> Tensor:
        return linear(targets.angle + self.margin)

    def non_target_cosines(self, cosine: Tensor, targets: Targets, t: Tensor) -> Tensor:
        return linear(arccos(cosine))


def linear(phi: Tensor) -> Tensor:
    """(π − 2φ)/π: the cosine's values at 0, π/2 and π in a straight line; φ in radians, any shape."""
    return 1 - (2 / math.pi) * phi


class SphereFace(AngularMarginHead):
    """Multiply the target's angle by a margin, with normalised embeddings and a scale.

    Equation:
        z_y = s ψ(m θ_y)
        z_j = s cos θ_j

    This is ArcFace's reading of SphereFace. `ASoftmax` is the form of 2017, with ‖x‖ in the logits.

    Args:
        margin: m ≥ 1, a factor of the target's angle; 1 is no margin.

    Source: ArcFace, arXiv 1801.07698; after SphereFace, arXiv 1704.08063.
    """

    published_margin = 1.35
    published_scale = 64.0
    in_tiles = True
    no_margin = 1.0
    margin_range = (1.0, math.inf)

    def angle_with_margin(self, targets: Targets) -> Tensor:
        return self.margin * targets.angle


class CombinedMargin(AngularMarginHead):
    """Combine the margins of SphereFace, ArcFace and CosFace.

    Equation:
        z_y = s (ψ(m1 θ_y + m2) − m3)
        z_j = s cos θ_j

    Also published, with s 64: (1.5, 0, 0), (1.2, 0.4, 0), (1.1, 0, 0.35), (0.9, 0.4, 0.15).
    beyond_pi=linear and continuous need m1 = 1.

    Args:
        margin: (m1, m2, m3): m1 > 0, a factor of the target's angle; m2 in [0, π] radians, added to
            it; m3 in [0, 2], subtracted from its cosine. (1, 0, 0) is no margin.

    Source: ArcFace, arXiv 1801.07698, section 3.2.
    """

    published_margin = (1.0, 0.3, 0.2)
    published_scale = 64.0
    in_tiles = True
    no_margin = (1.0, 0.0, 0.0)
    forms = ("monotone", "paper", "easy", "linear", "continuous")

    def __init__(self, *args, margin: Sequence[float] | None = None, **options):
        super().__init__(*args, margin=margin, **options)
        if (self.published_margin if margin is None else margin)[0] != 1:
            self.check_form(AngularMarginHead.forms, " with m1 ≠ 1")

    @classmethod
    def check_margin(cls, margin: tuple[float, float, float]) -> tuple[float, float, float]:
        if isinstance(margin, (list, tuple)) and len(margin) == 3 and all(map(is_number, margin)):
            m1, m2, m3 = margin
            if 0 < m1 <= torch.finfo(torch.float32).max and 0 <= m2 <= math.pi and 0 <= m3 <= 2:
                return float(m1), float(m2), float(m3)
        why = "expected three finite numbers [m1, m2, m3] with m1 > 0, 0 ≤ m2 ≤ π, 0 ≤ m3 ≤ 2"
        raise BadArgument("margin", margin, f"{why} for CombinedMargin")

    def added_angle(self, targets: Targets) -> Tensor:
        return self.margin.unbind(-1)[1]

    def angle_with_margin(self, targets: Targets) -> Tensor:
        m1, m2, _ = self.margin.unbind(-1)
        return m1 * targets.angle + m2

    def target_cosine(self, targets: Targets) -> Tensor:
        t = super().target_cosine(targets)
        m1, m2, m3 = self.margin.unbind(-1)
        # An angle that does not move keeps its cosine to the last bit: (1, 0, m3) is CosFace exactly.
        return t.where((m1 != 1) | (m2 != 0), targets.cosine) - m3


class SubCenterArcFace(ArcFace):
    """ArcFace with K sub-centres per class.

    Equation:
        z_y = s ψ(θ_y + m)
        z_j = s cos θ_j
        cos θ_j = max_k cos θ_jk

    W is (C, K, D). `prototypes` has each class's dominant sub-centre, the one that was the nearest of
    most of its training samples (counted in the buffer `wins`).

    Args:
        centres: K, the number of sub-centres per class.

    Source: Sub-center ArcFace, ECCV 2020.
    """

    published_margin = 0.5
    published_scale = 64.0
    in_tiles = True

    def __init__(self, embedding_dim: int, num_classes: int, *, centres: int = 3, **options):
        check_whole("centres", centres, 1)
        self.centres = centres
        super().__init__(embedding_dim, num_classes, **options)
        weight = random_directions(num_classes * centres, embedding_dim)
        self.weight = nn.Parameter(weight.view(num_classes, centres, embedding_dim))
        self.register_buffer("wins", torch.zeros(num_classes, centres, dtype=torch.long))

    def prototypes_of(self, classes: slice) -> Tensor:
        rows = torch.arange(self.num_classes, device=self.weight.device)[classes]
        return unit(self.weight.detach()[rows, self.wins[classes].argmax(1)])[0]

    def _nearest(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, D) -> the cosines to the nearest sub-centres and which those are, both (B, C), the unit
        embeddings (B, D) and all unit sub-centres (C·K, D)."""
        cosine, x, w = cosines(embeddings, self.weight.flatten(0, 1))
        best, which = cosine.unflatten(1, self.wins.shape).max(2)
        return best, which, x, w

    @full_precision
    def cosines(self, embeddings: Tensor) -> Tensor:
        return self._nearest(embeddings)[0]

    def compare_with_weights(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cosine, which, x, w = self._nearest(embeddings)
        row = self._counted(labels, which.gather(1, labels.unsqueeze(1)).squeeze(1))
        return cosine, x, w.index_select(0, row)

    @torch.no_grad()
    def own_rows(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        own = self.weight.index_select(0, labels)  # (B, K, D)
        units = unit(own.flatten(0, 1))[0].view_as(own)
        return self._counted(labels, (units @ embeddings.unsqueeze(2)).squeeze(2).argmax(1))

    def _counted(self, labels: Tensor, nearest: Tensor) -> Tensor:
        """The rows (B,) of the labels' nearest sub-centres (B,), which training counts."""
        row = labels * self.centres + nearest
        if self.training:
            self.wins.view(-1).index_add_(0, row, torch.ones_like(row))
        return row
