"""What the authors' public code computes, written anew from its behaviour, in float64.

Each reference gives (loss, logits) of one batch. `SOURCES` says which repository's it is, or that there
is only a paper. Angles come from arccos, gradients from autograd; what their code keeps from autograd is
detached here. Their constant factors on a loss are left out, and docs/losses_and_authors.md names them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PI = math.pi
SOURCES = {
    "arcface_now": "code: deepinsight/insightface, recognition/arcface_torch, today",
    "arcface_linear": "code: the same, in between; HuangYG123/CurricularFace and others have it too",
    "arcface_first": "code: the same, at first",
    "arcface_continuous": "code: wenet-e2e/wespeaker, ArcMarginProduct",
    "cosface": "code: deepinsight/insightface, recognition/arcface_torch",
    "combined": "paper: arXiv 1801.07698, printed; the code has only (1, m2, 0) and (1, 0, m3)",
    "combined_linear": "code: deepinsight/insightface, CombinedMarginLoss's two cases, at one time",
    "subcenter": "code: deepinsight/insightface, recognition/subcenter_arcface",
    "intertopk_subcenter": "code: wenet-e2e/wespeaker",
    "sphereface": "code: ydwen/opensphere",
    "sphereface_r": "code: ydwen/opensphere, its history of April 2022",
    "sphereface2": "code: ydwen/opensphere, main; A and M on branch SphereFace2_ICLR21",
    "sphereface2_c_exact": "code: ydwen/opensphere, branch SphereFace2_ICLR21",
    "asoftmax": "paper: arXiv 1704.08063, with the λ of wy1iu/sphereface",
    "asoftmax_layer": "code: wy1iu/sphereface, its CUDA layer for m 4, gradients as written there",
    "lsoftmax": "code: wy1iu/LargeMargin_Softmax_Loss",
    "curricularface": "code: HuangYG123/CurricularFace",
    "mv": "code: xiaoboCASIA/SV-X-Softmax, easy_margin",
    "magface": "code: IrvingMeng/MagFace, easy_margin",
    "magface_hard": "code: IrvingMeng/MagFace, without easy_margin",
    "adaface": "code: mk-minchul/AdaFace",
    "elasticface": "code: fdbtrs/ElasticFace",
    "uniface": "code: CVI-SZU/UniFace",
    "x2softmax": "code: XieZixiUSTC/X2-Softmax",
    "kappaface": "code: Leminhbinh0209/KappaFace",
    "kappaface_paper": "paper: arXiv 2201.07394",
    "circle": "paper: arXiv 2002.10857",
    "li_arcface": "paper: arXiv 1907.12256",
    "normface": "paper: arXiv 1704.06369",
    "p2sgrad": "paper: arXiv 1905.02479, equation 11",
    "arcnegface": "code: sciencefans/trojans-face-recognizer; the same in JDAI-CV/FaceX-Zoo",
    "dyn_arcface": "code: XieZixiUSTC/X2-Softmax",
    "adacos_dynamic": "code: JDAI-CV/FaceX-Zoo",
}


def all_cosines(x: Tensor, w: Tensor) -> Tensor:
    return (F.normalize(x) @ F.normalize(w).T).clamp(-1, 1)


def onto(c: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The cosines (B, C) with `target` (B,) in the places of the labels."""
    return torch.where(F.one_hot(y, c.size(1)).bool(), target[:, None], c)


def own(c: Tensor, y: Tensor) -> Tensor:
    return c[torch.arange(len(y)), y]


def detached(c: Tensor, changed: Tensor) -> Tensor:
    """`changed` in value, c in slope."""
    return c + (changed - c).detach()


def with_margin(c: Tensor, y: Tensor, m, past_pi: str) -> Tensor:
    """cos(θ_y + m), by the addition theorem as most of them do; θ_y > π − m differs."""
    cy = own(c, y)
    m = torch.as_tensor(m, dtype=c.dtype)
    moved = cy * torch.cos(m) - torch.sqrt(1 - cy**2) * torch.sin(m)
    if past_pi == "easy":
        return torch.where(cy > 0, moved, cy)
    if past_pi == "linear":
        return torch.where(cy > torch.cos(PI - m), moved, cy - torch.sin(PI - m) * m)
    if past_pi == "continuous":
        return torch.where(cy > torch.cos(PI - m), moved, cy - (1 + torch.cos(PI - m)))
    return moved


def psi(phi: Tensor) -> Tensor:
    k = (phi / PI).floor()
    return (1 - 2 * (k % 2)) * torch.cos(phi) - 2 * k


def annealed(kind: str, step: int) -> float:
    base, gamma, power, least = {"asoftmax": (1000, 0.12, 1, 5), "lsoftmax": (1000, 2.5e-5, 35, 0)}[kind]
    return max(least, base * (1 + gamma * step) ** -power)


def arcface(x, w, y, s, m, form: str):
    c = all_cosines(x, w)
    z = onto(c, y, with_margin(c, y, m, form))
    z = s * (detached(c, z) if form == "now" else z)
    return F.cross_entropy(z, y), z


def cosface(x, w, y, s, m):
    c = all_cosines(x, w)
    z = s * (c - m * F.one_hot(y, c.size(1)))
    return F.cross_entropy(z, y), z


def combined(x, w, y, s, m, form: str):
    c, (m1, m2, m3) = all_cosines(x, w), m
    moved = (
        with_margin(c, y, m2, "linear") if form == "linear" else torch.cos(m1 * own(c, y).acos() + m2)
    )
    z = s * onto(c, y, moved - m3)
    return F.cross_entropy(z, y), z


def subcenter(x, w, y, s, m, form: str):
    c = torch.stack([all_cosines(x, w[:, k]) for k in range(w.size(1))]).amax(0)
    z = s * onto(c, y, with_margin(c, y, m, form))
    return F.cross_entropy(z, y), z


def sphereface(x, w, y, s, m):
    c = all_cosines(x, w)
    z = s * detached(c, onto(c, y, psi(m * own(c, y).acos())))
    return F.cross_entropy(z, y), z


def sphereface_r(x, w, y, s, m, version: str, soft: bool):
    c, length = all_cosines(x, w), x.norm(dim=1, keepdim=True)
    theta = c.acos()
    changed = {
        "v0": onto(c, y, psi(m * own(theta, y))),
        "v1": onto(c, y, torch.cos((m * own(theta, y)).clamp(max=PI))),
        "v2": onto(torch.cos(theta / m), y, own(c, y)),
    }[version]
    z = (length if soft else s) * detached(c, changed)
    return F.cross_entropy(z, y) + (0.01 * (length - s).abs().mean() if soft else 0), z


def sphereface2(x, w, y, s, m, bias, kind: str, exact: bool = False):
    c = all_cosines(x, w)
    hot = F.one_hot(y, c.size(1)).to(c.dtype)
    theta = own(c, y).acos()
    if kind != "C":
        moved = onto(c, y, torch.cos((theta + m if kind == "A" else theta * m).clamp(max=PI)))
    g = 2 * (((c if kind == "C" else moved) + 1) / 2) ** 3 - 1
    g = g - m * (2 * hot - 1) if kind == "C" else g
    z = s * (g if exact else detached(c, g))
    weight = 0.7 * hot + 0.3 * (1 - hot)
    each = F.binary_cross_entropy_with_logits(z + bias, hot, weight=weight, reduction="none")
    return each.mean() * c.size(1) / s, z


def sphereface2_bias(classes: int, s: float, m: float, kind: str) -> float:
    """Where they start b."""
    angle = {"C": PI / 2, "A": min(PI, PI / 2 + m), "M": min(PI, PI / 2 * m)}[kind]
    own_z = s * (2 * ((math.cos(angle) + 1) / 2) ** 3 - 1 - (m if kind == "C" else 0))
    other_z = s * (2 * 0.5**3 - 1 + (m if kind == "C" else 0))
    z = 0.7 / (0.3 * (classes - 1))
    return (
        math.log(2 * z)
        - other_z
        - math.log(1 - z + math.sqrt((1 - z) ** 2 + 4 * z * math.exp(own_z - other_z)))
    )


def annealed_softmax(x, w, y, m, kind: str, step: int):
    c, lam = all_cosines(x, w), annealed(kind, step)
    factor = x.norm(dim=1, keepdim=True) * (w.norm(dim=1) if kind == "lsoftmax" else 1)
    z = factor * onto(c, y, (lam * own(c, y) + psi(m * own(c, y).acos())) / (1 + lam))
    return F.cross_entropy(z, y), z


def curricularface(x, w, y, s, m, t):
    """`t` (a number) is their running target cosine after this batch."""
    c = all_cosines(x, w)
    hard = c > with_margin(c, y, m, "cos")[:, None]
    z = s * onto(torch.where(hard, c * (t + c), c), y, with_margin(c, y, m, "linear"))
    return F.cross_entropy(z, y), z


def mv(x, w, y, s, m, kind: str):
    c = all_cosines(x, w)
    cy = own(c, y)
    limit = with_margin(c, y, m, "cos") if kind == "arc" else cy - m
    t = torch.where(cy > 0, limit, cy)
    z = s * onto(torch.where(c > limit[:, None], 1.2 * c + 0.2, c), y, t)
    return F.cross_entropy(z, y), z


def magface(x, w, y, s, m, form: str, l_a=10.0, u_a=110.0):
    a = x.norm(dim=1).clamp(l_a, u_a)
    margin = (m[1] - m[0]) / (u_a - l_a) * (a - l_a) + m[0]
    c = all_cosines(x, w)
    z = s * onto(c, y, with_margin(c, y, margin, form))
    return F.cross_entropy(z, y) + 35 * (a / u_a**2 + 1 / a).mean(), z


def adaface(x, w, y, s, m, mean, deviation):
    """`mean` and `deviation` are theirs after this batch."""
    c = all_cosines(x, w).clamp(-1 + 1e-3, 1 - 1e-3)
    quality = (x.detach().norm(dim=1).clamp(0.001, 100) - mean) / (deviation + 1e-3) * 0.333
    quality = quality.clamp(-1, 1)
    phi = (own(c, y).acos() - m * quality).clamp(1e-3, PI - 1e-3)
    z = s * onto(c, y, torch.cos(phi) - (m + m * quality))
    return F.cross_entropy(z, y), z


def uniface(x, w, y, s, m, bias):
    c = all_cosines(x, w)
    hot = F.one_hot(y, c.size(1)).bool()
    positive = F.softplus(-(s * (c - m) - bias).clamp(-s, s))
    negative = F.softplus((s * c - bias).clamp(-s, s))
    return torch.where(hot, positive, negative).sum(1).mean(), s * torch.where(hot, c - m, c)


def x2softmax(x, w, y, s):
    c = all_cosines(x, w)
    z = s * detached(c, onto(c, y, -0.9 * own(c, y).acos() ** 2 + 0.65))
    return F.cross_entropy(z, y), z


def kappa_weights(resultants, counts, dimension: int, authors: bool) -> Tensor:
    resultants = resultants.clamp(max=1 - 1e-6)  # they replace an infinite κ by the largest finite one
    kappa = resultants * (dimension - resultants**2) / (1 - resultants**2)
    kappa = (kappa - kappa.mean()) / kappa.std(correction=int(authors))
    w_kappa = 1 - torch.sigmoid(0.4 * kappa)
    w_size = (torch.cos(PI * counts / (counts.max() * (1.05 if authors else 1))) + 1) / 2
    return 0.7 * w_kappa + 0.3 * w_size if authors else 0.7 * w_size + 0.3 * w_kappa


def circle(x, w, y, s, m):
    c = all_cosines(x, w)
    t = (1 + m - own(c, y)).clamp_min(0).detach() * (own(c, y) - 1 + m)
    z = s * onto((c + m).clamp_min(0).detach() * (c - m), y, t)
    return F.cross_entropy(z, y), z


def li_arcface(x, w, y, s, m):
    theta = all_cosines(x, w).acos()
    z = s * (PI - 2 * (theta + m * F.one_hot(y, theta.size(1)))) / PI
    return F.cross_entropy(z, y), z


def p2sgrad(x, w, y):
    """Their gradient, (c − 1[y]) ∂c, by a loss that has it: the bracket is constant to autograd."""
    c = all_cosines(x, w)
    bracket = (c - F.one_hot(y, c.size(1))).detach()
    return (bracket * c).sum() / len(y), c


def asoftmax_layer(x, w, y, lam: float):
    """Loss, logits, and the layer's gradients by x and w, for m 4, w of length 1, softmax loss on top.

    w's gradient is that of plain inner products: it knows no margin. x's has the two coefficients of ψ,
    of w_y and of x, divided by their root sum of squares. Both are without the gradient of the division
    by ‖w‖, which happens outside of autograd."""
    c, length = all_cosines(x, w), x.norm(dim=1, keepdim=True)
    cy = own(c, y)[:, None]
    sign3 = cy.sign() * (2 * cy**2 - 1).sign()
    sign4 = 2 * cy.sign() + sign3 - 3
    t = (lam * cy + sign3 * (8 * cy**4 - 8 * cy**2 + 1) + sign4) / (1 + lam)
    z = length * onto(c, y, t[:, 0])
    slope = (F.softmax(z, 1) - F.one_hot(y, c.size(1))) / len(y)
    of_w = sign3 * (32 * cy**3 - 16 * cy)
    of_x = -(sign3 * (24 * cy**4 - 8 * cy**2 - 1) - sign4) / length
    root = (of_w**2 + of_x**2).sqrt()
    margin = (of_w / root * w[y] + of_x / root * x + lam * w[y]) / (1 + lam)
    others = onto(slope, y, torch.zeros_like(own(slope, y)))
    return F.cross_entropy(z, y), z, others @ w + own(slope, y)[:, None] * margin, slope.T @ x


def arcnegface(x, w, y, s, m):
    c = all_cosines(x, w)
    t = with_margin(c, y, m, "linear")
    weight = 1.2 * torch.exp(-((c - t[:, None]) ** 2) / 2).detach()
    z = s * onto(weight * c + weight - 1, y, t)
    return F.cross_entropy(z, y), z


def dyn_arcface(x, w, y, s, m, least_angle=1.0, growth=0.1):
    c, between = all_cosines(x, w), all_cosines(w, w).fill_diagonal_(-1)
    beyond = between.amax(1).acos()[y] - least_angle
    margin = growth * beyond.clamp_min(0) + m + 0.03 * m / (1 + (20 * beyond.abs()) ** 1.1)
    z = s * detached(c, onto(c, y, torch.cos(own(c, y).acos() + margin)))
    return F.cross_entropy(z, y), z


def intertopk_subcenter(x, w, y, s, m, k=5, penalty=0.06):
    """Before θ + m = π, where theirs goes on with cos θ − (1 − cos m)."""
    c = torch.stack([all_cosines(x, w[:, centre]) for centre in range(w.size(1))]).amax(0)
    hardest = (c - 2 * F.one_hot(y, c.size(1))).topk(k, 1).indices
    nearer = c * math.cos(penalty) + (1 - c**2).sqrt() * math.sin(penalty)
    z = s * onto(c.scatter(1, hardest, nearer.gather(1, hardest)), y, with_margin(c, y, m, "cos"))
    return F.cross_entropy(z, y), z


def adacos_scale(c, y, s):
    """Their scale after a batch with these cosines."""
    others = torch.exp(s * c) * (1 - F.one_hot(y, c.size(1)))
    median = own(c, y).acos().median()
    return torch.log(others.sum() / len(y)) / torch.cos(median.clamp(max=PI / 4))
