"""More members in float64, written from their papers or from what public code computes (said for each);
no formula is taken from src/losses."""

import math

import torch
from torch import Tensor

from src import losses
from tests.losses.reference import Case, psi

HEADS = {
    "sface": losses.SFace,
    "arcnegface": losses.ArcNegFace,
    "npcface": losses.NPCFace,
    "adam_softmax": losses.AdaMSoftmax,
    "dyn_arcface": losses.DynArcFace,
    "qamface": losses.QAMFace,
    "proxy_anchor": losses.ProxyAnchor,
    "soft_triple": losses.SoftTriple,
    "proxy_nca": losses.ProxyNCA,
}
CASES = [
    Case("sface"),
    Case("sface", options={"k": 5.0, "a": 0.4, "b": 2.0}),
    *(Case("arcnegface", m) for m in (0.0, 0.5)),
    Case("arcnegface", 0.5, {"alpha": 0.7, "sigma": 0.5}),
    Case("arcnegface", 0.5, {"beyond_pi": "easy"}),
    *(Case("npcface", m) for m in (0.0, 0.4)),
    Case("npcface", 0.4, {"beyond_pi": "easy"}),
    Case("npcface", 0.3, {"growth": 0.5, "hard_margin": 1.0, "factor": 1.3, "offset": -0.1}),
    Case("adam_softmax"),
    Case("adam_softmax", options={"first_margins": [0.0, 1.0], "margin_weight": 3.0}),
    *(Case("dyn_arcface", m) for m in (0.0, 0.5)),
    Case("dyn_arcface", 0.3, {"least_angle": 0.2, "growth": 0.4}),
    *(Case("qamface", m) for m in (0.0, 0.5, math.pi)),
    *(Case("proxy_anchor", m) for m in (0.0, 0.1, 1.0)),
    *(Case("soft_triple", m) for m in (0.0, 0.01)),
    Case("soft_triple", 0.2, {"centres": 3, "gamma": 0.5, "tau": 2.0}),
    Case("soft_triple", 0.2, {"centres": 1}),
    Case("proxy_nca"),
]
MEMBERS_WITH_STATE = [Case("adam_softmax")]


def loss_of(case: Case, x: Tensor, w: Tensor, head, y: Tensor) -> Tensor:
    """The loss of float64 embeddings and class weights; scale and learned margins are the head's."""
    s = head.scale.item()
    if case.name == "soft_triple":
        return soft_triple(x, w, y, s, case.margin, **case.options)
    x = x / x.norm(dim=1, keepdim=True)
    w = w / w.norm(dim=1, keepdim=True)
    c = (x @ w.T).clamp(-1, 1)
    hot = torch.nn.functional.one_hot(y, len(w)).bool()
    if case.name == "adam_softmax":
        return adam_softmax(c, hot, y, s, head.margins.detach().double(), **case.options)
    if case.name == "proxy_nca":
        return proxy_nca(x, w, y, s)
    if case.name == "dyn_arcface":
        return dyn_arcface(c, w.detach(), hot, y, s, case.margin, **case.options)
    arguments = (c, hot, y, s) if case.margin is None else (c, hot, y, s, case.margin)
    return globals()[case.name](*arguments, **case.options)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return (z.logsumexp(1) - z[range(len(y)), y]).mean()


def t_of(theta: Tensor, m: Tensor, beyond_pi: str) -> Tensor:
    if beyond_pi == "easy":
        return torch.where(theta < math.pi / 2, torch.cos(theta + m), torch.cos(theta))
    return psi(theta + m)


def sface(c, hot, y, s, k=80.0, a=0.8, b=1.23):
    """The authors' code: SFace_torch/head/metrics.py of zhongyy/SFace."""
    theta = c.detach().acos()
    intra = 1 / (1 + torch.exp(-k * (theta - a)))
    inter = 1 / (1 + torch.exp(k * (theta - b)))
    own = -(intra * s * c * hot).sum(1)
    others = (inter * s * c * ~hot).sum(1)
    return own.mean() + others.mean()


def arcnegface(c, hot, y, s, m, alpha=1.2, sigma=2.0, beyond_pi="monotone"):
    """The authors' code, EfficientPolyFace/loss.py of sciencefans/trojans-face-recognizer; past π, ψ."""
    t = t_of(c[hot].acos(), m, beyond_pi)
    w = alpha * torch.exp(-((c - t[:, None]).detach() ** 2) / sigma)
    return cross_entropy(s * torch.where(hot, t[:, None], w * c + w - 1), y)


def npcface(c, hot, y, s, m, growth=0.2, hard_margin=0.5, factor=1.1, offset=0.2, beyond_pi="monotone"):
    """The authors' code, head/NPCFace.py of JDAI-CV/FaceX-Zoo, with beyond_pi=easy; else with ψ."""
    theta = c[hot].acos()
    moved = (theta + hard_margin).detach()
    least = torch.cos(moved) if beyond_pi == "easy" else psi(moved)
    hard = (c.detach() > least[:, None]) & ~hot
    mean = torch.stack(
        [
            row[mask].mean() if mask.any() else row.new_zeros(())
            for row, mask in zip(c, hard, strict=True)
        ]
    ).detach()
    t = t_of(theta, m + growth * mean, beyond_pi)
    others = torch.where(hard, factor * c + offset, c)
    return cross_entropy(s * torch.where(hot, t[:, None], others), y)


def adam_softmax(c, hot, y, s, margins, margin_weight=70.0, first_margins=None):
    """head/AdaM_Softmax.py of JDAI-CV/FaceX-Zoo, and its training loop, which adds the second term."""
    z = s * (c - hot * margins[y][:, None])
    return cross_entropy(z, y) + margin_weight * (1 - margins.sum() / len(margins))


def dyn_arcface(c, w, hot, y, s, m, least_angle=1.0, growth=0.1):
    """loss.py of XieZixiUSTC/X2-Softmax, with the exact gradient; past π, ψ."""
    between = (w @ w.T).clamp(-1, 1)
    between.fill_diagonal_(-1)
    nearest = between.max(1).values[y].acos()
    margin = (nearest - least_angle).clamp_min(0) * growth + m
    margin = margin + 0.03 * m / (1 + ((nearest - least_angle).abs() * 20) ** 1.1)
    return cross_entropy(s * torch.where(hot, psi(c[hot].acos() + margin)[:, None], c), y)


def qamface(c, hot, y, s, m):
    """The authors' code: model.py of MccreeZhao/QAMFace."""
    theta = c.acos()
    return cross_entropy(s * (2 * math.pi - (theta + m * hot)) ** 2, y)


def proxy_anchor(c, hot, y, s, m):
    """The paper's equation 4, as written: float64 holds these exponentials."""
    pull = torch.log(1 + (torch.exp(-s * (c - m)) * hot).sum(0))
    push = torch.log(1 + (torch.exp(s * (c + m)) * ~hot).sum(0))
    return pull.sum() / len(set(y.tolist())) + push.sum() / c.size(1)


def soft_triple(x, w, y, s, m, centres=10, gamma=0.1, tau=0.2):
    """The authors' code, loss/SoftTriple.py of idstcv/SoftTriple; its network gives unit embeddings."""
    x, w = x / x.norm(dim=1, keepdim=True), w / w.norm(dim=2, keepdim=True)
    c = torch.einsum("bd,ckd->bck", x, w)
    soft = (torch.softmax(c / gamma, 2) * c).sum(2)
    hot = torch.nn.functional.one_hot(y, len(w))
    loss = cross_entropy(s * (soft - m * hot), y)
    pairs = [(k, j) for k in range(centres) for j in range(k + 1, centres)]
    apart = [(2 + 1e-5 - 2 * (w[:, k] * w[:, j]).sum(1)).sqrt().sum() for k, j in pairs]
    return loss + tau * sum(apart) / (len(w) * centres * (centres - 1)) if pairs else loss


def proxy_nca(x, w, y, s):
    """The authors' code, loss.py of euwern/proxynca_pp: squared distances at length √(s/2)."""
    x, w = math.sqrt(s / 2) * x, math.sqrt(s / 2) * w
    return cross_entropy(-((x[:, None] - w[None]) ** 2).sum(2), y)
