"""The losses as their papers print them, in float64; no formula is taken from src/losses.

Angles come from arccos and gradients from autograd, which is exact enough in float64 everywhere but at
angles of exactly 0 and π; what a paper holds constant is detached here as it is there.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from src import losses

# The names of the Cases below.
HEADS = {
    "softmax": losses.Softmax,
    "normface": losses.NormFace,
    "lsoftmax": losses.LSoftmax,
    "asoftmax": losses.ASoftmax,
    "sphereface": losses.SphereFace,
    "sphereface_r": losses.SphereFaceR,
    "sphereface2": losses.SphereFace2,
    "cosface": losses.CosFace,
    "arcface": losses.ArcFace,
    "liarcface": losses.LiArcFace,
    "combined": losses.CombinedMargin,
    "subcenter_arcface": losses.SubCenterArcFace,
    "curricularface": losses.CurricularFace,
    "mv_arc": losses.MVSoftmax,
    "mv_am": losses.MVSoftmax,
    "magface": losses.MagFace,
    "elasticface_arc": losses.ElasticFace,
    "elasticface_cos": losses.ElasticFace,
    "adaface": losses.AdaFace,
    "circle": losses.CircleLoss,
    "uniface": losses.UniFace,
    "kappaface": losses.KappaFace,
    "x2softmax": losses.X2Softmax,
    "p2sgrad": losses.P2SGrad,
}


@dataclass(frozen=True)
class Case:
    """A member with its margin, options and the state of its buffers."""

    name: str
    margin: object = None
    options: dict = field(default_factory=dict)
    state: dict = field(default_factory=dict)

    def __str__(self) -> str:
        settings = {"margin": self.margin} | self.options
        return "-".join([self.name, *(f"{k}={v}" for k, v in settings.items() if v is not None)])


PI = math.pi
SPHERE = (1.0, 1.35, 4.0)
CASES = [
    Case("softmax"),
    Case("normface"),
    *(Case("lsoftmax", m, state={"steps": steps}) for m in SPHERE for steps in (0.0, 5000.0)),
    Case("lsoftmax", 4.0, {"lambda_base": 0.0}),
    *(Case("asoftmax", m, state={"steps": steps}) for m in SPHERE for steps in (0.0, 5000.0)),
    *(Case("sphereface", m) for m in SPHERE),
    *(
        Case("sphereface_r", m, {"version": version, "norm": norm, "gradient": "exact"})
        for m in SPHERE
        for version in ("v1", "v2")
        for norm in ("hard", "soft")
    ),
    *(Case("sphereface2", m, {"kind": "C", "gradient": "exact"}) for m in (0.0, 0.4, 2.0)),
    *(Case("sphereface2", m, {"kind": "A", "gradient": "exact"}) for m in (0.0, 0.4, PI)),
    *(Case("sphereface2", m, {"kind": "M", "gradient": "exact"}) for m in SPHERE),
    *(Case("cosface", m) for m in (0.0, 0.35, 2.0)),
    *(Case("arcface", m) for m in (0.0, 0.5, PI)),
    *(Case("liarcface", m) for m in (0.0, 0.45, PI)),
    *(Case("combined", m) for m in ((1.0, 0.0, 0.0), (1.0, 0.3, 0.2), (0.9, 0.4, 0.15), (1.5, PI, 2.0))),
    *(Case("subcenter_arcface", m, {"centres": 3}) for m in (0.0, 0.5, PI)),
    *(Case("curricularface", m, state={"easiness": 0.3}) for m in (0.0, 0.5, PI)),
    *(Case("mv_arc", m, {"kind": "arc"}) for m in (0.0, 0.35, PI)),
    *(Case("mv_am", m, {"kind": "am"}) for m in (0.0, 0.35, PI)),
    *(Case("magface", m, {"l_a": 2.0, "u_a": 15.0}) for m in ((0.0, 0.0), (0.45, 0.8), (PI, PI))),
    *(Case("elasticface_arc", m, {"kind": "arc"}) for m in (0.0, 0.5, PI)),
    *(Case("elasticface_cos", m, {"kind": "cos"}) for m in (0.0, 0.35, PI)),
    *(
        Case("adaface", m, {"h": h}, {"mean": 9.0, "deviation": 5.0})
        for m in (0.0, 0.4, 1.0)
        for h in (0.333, 2.0)
    ),
    *(Case("circle", m) for m in (0.0, 0.25, 1.0)),
    *(Case("uniface", m) for m in (0.0, 0.4, 2.0)),
    *(Case("kappaface", m, {"formula": form}) for m in (0.0, 0.8, PI) for form in ("authors", "paper")),
    Case("x2softmax"),
    Case("p2sgrad"),
    Case("normface", options={"inter_topk": 1, "inter_topk_margin": 0.06}),
    Case("arcface", 0.5, {"inter_topk": 1, "inter_topk_margin": 0.3, "label_smoothing": 0.1}),
    Case("cosface", 0.35, {"label_smoothing": 0.2}),
]


def psi(phi: Tensor) -> Tensor:
    k = torch.floor(phi / PI)
    return torch.where(k % 2 == 0, 1.0, -1.0) * torch.cos(phi) - 2 * k


def g(c: Tensor, power: float = 3.0) -> Tensor:
    return 2 * ((c + 1) / 2) ** power - 1


def loss_and_logits(case: Case, x: Tensor, head) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, logits with margin, and the float64 weights that a gradient may be asked for; `x` float64,
    parameters and buffers taken from `head` and written into the formulas."""
    number = {k: v.detach().double() for k, v in head.state_dict().items() if isinstance(v, Tensor)}
    w, y = number["weight"].requires_grad_(), head.labels
    s = number.get("fixed_scale", torch.tensor(1.0).double())
    m, o = case.margin, case.options
    rows = torch.arange(len(x))

    length = x.norm(dim=1)
    x_hat, w_hat = x / length[:, None], w / w.norm(dim=-1, keepdim=True)
    c = torch.einsum("bd,cd->bc", x_hat, w_hat) if w.dim() == 2 else None
    if c is None:
        c = torch.einsum("bd,ckd->bck", x_hat, w_hat).max(2).values
    c = c.clamp(-1, 1)
    cy, theta = c[rows, y], torch.acos(c[rows, y])
    factor, others, extra = s, c, 0.0

    name = case.name
    if name == "softmax":
        z = x @ w.T + number["bias"]
        return torch.nn.functional.cross_entropy(z, y), z, w
    if name in ("normface", "p2sgrad"):
        t = cy
    elif name == "lsoftmax":
        plain = o.get("lambda_base", 1000) * (1 + 2.5e-5 * number["steps"].item()) ** -35
        t, factor = (plain * cy + psi(m * theta)) / (1 + plain), length[:, None] * w.norm(dim=1)
    elif name == "asoftmax":
        plain = max(5.0, 1000 / (1 + 0.12 * case.state["steps"]))
        t, factor = (plain * cy + psi(m * theta)) / (1 + plain), length[:, None]
    elif name == "sphereface":
        t = psi(m * theta)
    elif name == "sphereface_r":
        t = psi(m * theta) if o["version"] == "v1" else cy
        others = c if o["version"] == "v1" else torch.cos(torch.acos(c) / m)
        if o["norm"] == "soft":
            factor, extra = length[:, None], 0.01 * (length - s).abs().mean()
    elif name == "sphereface2":
        if o["kind"] == "C":
            t, others = g(cy) - m, g(c) + m
        else:
            moved = psi(theta + m if o["kind"] == "A" else m * theta)
            odd = torch.sign(moved + 1) * ((moved + 1).abs() / 2) ** 3
            t, others = 2 * odd - 1, g(c)
    elif name in ("cosface", "uniface", "elasticface_cos"):
        t = cy - m
    elif name in ("arcface", "subcenter_arcface", "elasticface_arc"):
        t = psi(theta + m)
    elif name == "liarcface":
        t, others = (PI - 2 * (theta + m)) / PI, (PI - 2 * torch.acos(c)) / PI
    elif name == "combined":
        t = psi(m[0] * theta + m[1]) - m[2]
    elif name == "curricularface":
        t = psi(theta + m)
        others = torch.where(c > t[:, None], c * (case.state["easiness"] + c), c)
    elif name in ("mv_arc", "mv_am"):
        t = psi(theta + m) if name == "mv_arc" else cy - m
        others = torch.where(c > t[:, None], 1.2 * c + 0.2, c)
    elif name == "magface":
        a = length.clamp(o["l_a"], o["u_a"])
        t = psi(theta + m[0] + (m[1] - m[0]) * (a - o["l_a"]) / (o["u_a"] - o["l_a"]))
        extra = 35 * (a / o["u_a"] ** 2 + 1 / a).mean()
    elif name == "adaface":
        z_hat = o["h"] * (length.detach().clamp(0.001, 100) - 9.0) / (5.0 + 1e-3)
        z_hat = z_hat.clamp(-1, 1)
        t = psi(theta - m * z_hat) - (m + m * z_hat)
    elif name == "circle":
        t = (1 + m - cy).clamp_min(0).detach() * (cy - 1 + m)
        others = (c + m).clamp_min(0).detach() * (c - m)
    elif name == "kappaface":
        r, n, d = number["resultants"], number["counts"], x.size(1)
        kappa = r * (d - r**2) / (1 - r**2)
        theirs = o["formula"] == "authors"
        kappa = (kappa - kappa.mean()) / kappa.std(correction=1 if theirs else 0)
        rare = (torch.cos(PI * n / (n.max() * (1.05 if theirs else 1))) + 1) / 2
        dense = torch.sigmoid(0.4 * kappa)
        weight = 0.7 * (1 - dense) + 0.3 * rare if theirs else 0.7 * rare + 0.3 * (1 - dense)
        if theirs and n.sum() <= 100 * len(n):
            weight = torch.ones_like(weight)
        t = psi(theta + m * weight[y])
    elif name == "x2softmax":
        t = -0.9 * theta**2 + 0.65

    if o.get("inter_topk"):  # the hardest non-target alone, in all cases here
        rivals = c.detach().clone()
        rivals[rows, y] = -9
        hardest = rivals.argmax(1)
        others = others.clone()
        others[rows, hardest] = psi(torch.acos(c[rows, hardest]) - o["inter_topk_margin"])

    factor = factor.expand_as(c)
    z = factor * others
    z = z.index_put((rows, y), factor[rows, y] * t)
    return _loss(name, z, c, y, s, number, o) + extra, z, w


def _loss(name, z, c, y, s, number, o) -> Tensor:
    rows, log1pexp = torch.arange(len(y)), lambda v: torch.logaddexp(v, torch.zeros_like(v))
    hot = torch.zeros_like(z).index_put((rows, y), torch.ones(len(y)).double())
    if name == "p2sgrad":
        return ((c - hot) ** 2).sum() / (2 * len(y))
    if name == "uniface":
        b = number["bias"]
        return (hot * log1pexp(b - z) + (1 - hot) * log1pexp(z - b)).sum(1).mean()
    if name == "sphereface2":
        z = z + number["bias"]
        return (hot * 0.7 * log1pexp(-z) + (1 - hot) * 0.3 * log1pexp(z)).sum(1).mean() / s
    log_p = z - z.logsumexp(1, keepdim=True)
    smooth = o.get("label_smoothing", 0.0)
    return -(((1 - smooth) * hot + smooth / z.size(1)) * log_p).sum(1).mean()


def batch(rng: np.random.Generator, thetas, head, one_class: bool = False):
    """Float32 embeddings of any length (B, D) at the angles `thetas` to their own class's weights;
    sets `head.labels`. The references run on the float64 values of the rounded numbers."""
    y = rng.integers(1 if one_class else head.num_classes, size=len(thetas))
    w = head.weight.detach().double().numpy()
    w = w[:, 0] if w.ndim == 3 else w
    own = w[y] / np.linalg.norm(w[y], axis=1, keepdims=True)
    side = rng.normal(size=own.shape)
    side -= (side * own).sum(1, keepdims=True) * own
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    thetas = np.asarray(thetas)[:, None]
    lengths = rng.uniform(0.5, 20, size=(len(thetas), 1))
    head.labels = torch.from_numpy(y)
    x = (np.cos(thetas) * own + np.sin(thetas) * side) * lengths
    return torch.from_numpy(x.astype(np.float32))


MEMBERS_WITH_STATE = [
    Case("asoftmax", 4.0),
    Case("lsoftmax", 4.0),
    Case("subcenter_arcface", 0.5, {"centres": 3}),
    Case("curricularface", 0.5),
    Case("elasticface_arc", 0.5, {"kind": "arc"}),
    Case("elasticface_arc", 0.5, {"kind": "arc", "plus": True, "sigma": 0.0175}),
    Case("elasticface_cos", 0.35, {"kind": "cos"}),
    Case("adaface", 0.4),
    Case("kappaface", 0.8),
    Case("arcface", 0.5, {"dynamic_scale": True}),
]
