"""Each member, by the options that docs/losses_and_authors.md names, is the loss that its authors' code
computes: values and gradients in float64, to 1e-6, from near the class to both seams and beyond."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src import losses
from tests.losses import authors
from tests.losses.reference import batch

PI = math.pi
SIZES = ((10, 16), (10, 512), (1000, 16), (1000, 512))
RANGES = {
    "near": np.linspace(0.15, 0.6, 8),
    "mid": np.linspace(1.0, 2.0, 8),
    "random": np.random.default_rng(1).uniform(0.1, 3.0, 8),
    "all": [
        1e-3,
        0.3,
        PI / 3,
        PI / 2 - 1e-3,
        PI / 2 + 1e-3,
        2.3,
        2.6,
        PI - 0.501,
        PI - 0.499,
        3.0,
        3.13,
    ],
}


def member(cls, reference, margin=None, scale=None, skip=(), **options):
    """A head by its options, its reference, and the ranges of angles where it is not theirs."""
    given = {k: v for k, v in {"margin": margin, "scale": scale}.items() if v is not None} | options
    return cls, given, reference, skip


def arc(form):
    return lambda x, h: authors.arcface(x, h.weight, h.labels, 64, h.margin, form)


def sub(form):
    return lambda x, h: authors.subcenter(x, h.weight, h.labels, 64, h.margin, form)


def revived(version, soft):
    return lambda x, h: authors.sphereface_r(
        x, h.weight, h.labels, h.scale.item(), h.margin.item(), version, soft
    )


def binary(kind, exact=False):
    return lambda x, h: authors.sphereface2(
        x, h.weight, h.labels, 40, h.margin.item(), h.bias, kind, exact
    )


def blended(name):
    return lambda x, h: authors.annealed_softmax(
        x, h.weight, h.labels, h.margin.item(), name, h.steps.item()
    )


def simple(function, *more):
    return lambda x, h: function(
        x, h.weight, h.labels, 64, *(b for n, b in h.named_buffers() if n == "margin"), *more
    )


L, D = losses, {"gradient": "detached"}
MEMBERS = {
    "normface": member(
        L.NormFace, lambda x, h: authors.cosface(x, h.weight, h.labels, 30, 0), scale=30.0
    ),
    "cosface": member(L.CosFace, simple(authors.cosface), 0.35, 64.0),
    "arcface_now": member(L.ArcFace, arc("now"), 0.5, 64.0, beyond_pi="paper", **D),
    "arcface_linear": member(L.ArcFace, arc("linear"), 0.5, 64.0, beyond_pi="linear"),
    "arcface_continuous": member(L.ArcFace, arc("continuous"), 0.5, 64.0, beyond_pi="continuous"),
    "arcface_first": member(L.ArcFace, arc("first"), 0.5, 64.0, beyond_pi="paper"),
    "combined": member(
        L.CombinedMargin, simple(authors.combined, "paper"), (0.9, 0.4, 0.15), 64.0, beyond_pi="paper"
    ),
    "combined_arcface": member(
        L.CombinedMargin, simple(authors.combined, "linear"), (1.0, 0.5, 0.0), 64.0, beyond_pi="linear"
    ),
    "combined_cosface": member(
        L.CombinedMargin, simple(authors.combined, "linear"), (1.0, 0.0, 0.4), 64.0, beyond_pi="linear"
    ),
    "combined_now": member(
        L.CombinedMargin,
        lambda x, h: authors.arcface(x, h.weight, h.labels, 64, h.margin[1], "now"),
        (1.0, 0.5, 0.0),
        64.0,
        beyond_pi="paper",
        **D,
    ),
    "subcenter": member(L.SubCenterArcFace, sub("cos"), 0.5, 64.0, beyond_pi="paper"),
    "subcenter_linear": member(L.SubCenterArcFace, sub("linear"), 0.5, 64.0, beyond_pi="linear"),
    "intertopk_subcenter": member(
        L.SubCenterArcFace,
        simple(authors.intertopk_subcenter),
        0.2,
        64.0,
        ("all", "random"),  # past π theirs has a form of its own
        inter_topk=5,
    ),
    "sphereface": member(
        L.SphereFace, lambda x, h: authors.sphereface(x, h.weight, h.labels, 30, 1.5), 1.5, 30.0, **D
    ),
    "sphereface_r_v0": member(L.SphereFaceR, revived("v0", False), 1.5, 30.0),
    "sphereface_r_v0_soft": member(L.SphereFaceR, revived("v0", True), 1.5, 30.0, norm="soft"),
    "sphereface_r_v1": member(L.SphereFaceR, revived("v1", False), 1.5, 30.0, beyond_pi="paper"),
    "sphereface_r_v2": member(L.SphereFaceR, revived("v2", False), 1.4, 60.0, version="v2"),
    "sphereface_r_v2_soft": member(
        L.SphereFaceR, revived("v2", True), 1.4, 60.0, version="v2", norm="soft"
    ),
    "sphereface2_c": member(L.SphereFace2, binary("C"), 0.4, 40.0),
    "sphereface2_c_exact": member(L.SphereFace2, binary("C", True), 0.4, 40.0, gradient="exact"),
    "sphereface2_a": member(L.SphereFace2, binary("A"), 0.4, 40.0, kind="A", beyond_pi="paper"),
    "sphereface2_m": member(L.SphereFace2, binary("M"), 1.4, 40.0, kind="M", beyond_pi="paper"),
    "asoftmax": member(L.ASoftmax, blended("asoftmax"), 4.0),
    "lsoftmax": member(L.LSoftmax, blended("lsoftmax"), 4.0),
    "curricularface": member(
        L.CurricularFace, simple(authors.curricularface, 0.0), 0.5, 64.0, beyond_pi="linear"
    ),
    "mv_arc": member(L.MVSoftmax, simple(authors.mv, "arc"), 0.35, 64.0, beyond_pi="easy"),
    "mv_am": member(L.MVSoftmax, simple(authors.mv, "am"), 0.35, 64.0, kind="am", beyond_pi="easy"),
    "magface": member(L.MagFace, simple(authors.magface, "easy"), (0.45, 0.8), 64.0, beyond_pi="easy"),
    "magface_hard": member(
        L.MagFace, simple(authors.magface, "linear"), (0.45, 0.8), 64.0, beyond_pi="linear"
    ),
    "adaface": member(
        L.AdaFace, simple(authors.adaface, 20.0, 100.0), 0.4, 64.0, ("all",), beyond_pi="paper"
    ),
    "elasticface_arc": member(L.ElasticFace, arc("first"), 0.5, 64.0, beyond_pi="paper"),
    "elasticface_cos": member(L.ElasticFace, simple(authors.cosface), 0.35, 64.0, kind="cos"),
    "uniface": member(
        L.UniFace,
        lambda x, h: authors.uniface(x, h.weight, h.labels, 64, h.margin, h.bias),
        0.4,
        64.0,
        ("all", "random"),  # their logits are cut at ±s, where the gradient ends
    ),
    "x2softmax": member(L.X2Softmax, simple(authors.x2softmax), None, 64.0, **D),
    "arcnegface": member(L.ArcNegFace, simple(authors.arcnegface), 0.5, 64.0, beyond_pi="linear"),
    "dyn_arcface": member(L.DynArcFace, simple(authors.dyn_arcface), 0.5, 64.0, beyond_pi="paper", **D),
    "circle": member(L.CircleLoss, simple(authors.circle), 0.25, 64.0),
    "li_arcface": member(L.LiArcFace, simple(authors.li_arcface), 0.45, 64.0),
    "p2sgrad": member(L.P2SGrad, lambda x, h: authors.p2sgrad(x, h.weight, h.labels)),
}


def close(found, expected):
    found, expected = torch.as_tensor(found).detach(), torch.as_tensor(expected).detach()
    return (found - expected).abs().max() <= 1e-6 * expected.abs().max().clamp_min(1e-9)


def gradients(loss, x, head):
    return torch.autograd.grad(loss, [x, *head.parameters()])


@pytest.mark.parametrize("name", MEMBERS)
def test_values_and_gradients_are_the_authors(name):
    cls, given, reference, skip = MEMBERS[name]
    crowded = [(1000, 3)] * name.startswith(
        ("curricular", "mv")
    )  # non-targets opposite, too: hard or not
    for classes, dimension in (*SIZES, *crowded):
        head = cls(dimension, classes, **given).eval()
        for where, thetas in RANGES.items():
            if where in skip:
                continue
            x = batch(np.random.default_rng(0), thetas, head).double().requires_grad_()
            head = head.double()
            loss, z = reference(x, head)
            if name != "p2sgrad":  # of which the gradient is published, not the loss
                assert close(head(x, head.labels), loss), (classes, dimension, where)
                assert close(head.margin_logits(x, head.labels), z), (classes, dimension, where)
            found, expected = gradients(head(x, head.labels), x, head), gradients(loss, x, head)
            for one, other in zip(found, expected, strict=True):
                assert close(one, other), (classes, dimension, where)


def train(loss_of, x, y, w, steps=30):
    """Losses of `steps` steps of plain gradient descent on the class weights."""
    found = []
    for step in range(steps):
        rows = torch.arange(16) + 16 * (step % 4)
        loss = loss_of(x[rows], y[rows], w)
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= 0.01 * gradient
        found.append(loss.item())
    return torch.tensor(found)


class Theirs:
    """The state that the authors' code carries from step to step."""

    def __init__(self, name, dimension=16, classes=10):
        self.name, self.step = name, 0
        self.t, self.mean, self.deviation = 0.0, 20.0, 100.0
        self.scale = math.sqrt(2) * math.log(classes - 1)
        self.means = torch.zeros(classes, dimension).double()
        self.counts = torch.zeros(classes).double()

    def __call__(self, x, y, w):
        self.step += 1
        c = authors.own(authors.all_cosines(x, w), y).detach()
        if self.name in ("asoftmax", "lsoftmax"):
            return authors.annealed_softmax(x, w, y, 4, self.name, self.step)[0]
        if self.name == "curricularface":
            self.t = 0.01 * c.mean() + 0.99 * self.t
            return authors.curricularface(x, w, y, 64, 0.5, self.t)[0]
        if self.name == "adacos_dynamic":
            cosines = authors.all_cosines(x, w)
            self.scale = authors.adacos_scale(cosines.detach(), y, self.scale)
            return F.cross_entropy(self.scale * cosines, y)
        if self.name == "adaface":
            norms = x.norm(dim=1).clamp(0.001, 100)
            self.mean = 0.01 * norms.mean() + 0.99 * self.mean
            self.deviation = 0.01 * norms.std() + 0.99 * self.deviation
            return authors.adaface(x, w, y, 64, 0.4, self.mean, self.deviation)[0]
        return self.kappaface(x, y, w)

    def kappaface(self, x, y, w):
        for label in y.unique():  # running means instead of an epoch's: the difference that is left
            rows = F.normalize(x[y == label])
            keep = 0.99 ** len(rows)
            self.means[label] = keep * self.means[label] + (1 - keep) * rows.mean(0)
            self.counts[label] += len(rows)
        resultants = self.means.norm(dim=1) / (1 - 0.99**self.counts)
        theirs = self.name == "kappaface"
        weights = authors.kappa_weights(resultants.nan_to_num(), self.counts, x.size(1), theirs)
        if theirs and self.counts.sum() <= 160:  # the first ten steps
            weights = torch.ones_like(weights)
        return authors.arcface(x, w, y, 64, 0.8 * weights[y], "first")[0]


STATEFUL = {
    "asoftmax": (L.ASoftmax, {"margin": 4.0}),
    "lsoftmax": (L.LSoftmax, {"margin": 4.0}),
    "curricularface": (L.CurricularFace, {"margin": 0.5, "scale": 64.0, "beyond_pi": "linear"}),
    "adacos_dynamic": (
        L.NormFace,
        {"scale": math.sqrt(2) * math.log(9), "dynamic_scale": True},
    ),
    "adaface": (L.AdaFace, {"margin": 0.4, "scale": 64.0, "beyond_pi": "paper"}),
    "kappaface": (
        L.KappaFace,
        {"margin": 0.8, "scale": 64.0, "beyond_pi": "paper", "first_samples": 160},
    ),
    "kappaface_paper": (
        L.KappaFace,
        {"margin": 0.8, "scale": 64.0, "beyond_pi": "paper", "formula": "paper"},
    ),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_thirty_steps_of_training_are_the_authors(name):
    cls, given = STATEFUL[name]
    torch.manual_seed(0)
    head = cls(16, 10, **given).double().train()
    with torch.no_grad():  # numbers that float32 rounded when they were buffers
        if hasattr(head, "margin"):
            head.margin.fill_(given["margin"])
        if "scale" in given:
            head.fixed_scale.fill_(given["scale"])
    x = 10 * torch.randn(64, 16).double()
    y = torch.randint(10, (64,))
    w = head.weight.detach().clone().requires_grad_()
    expected = train(Theirs(name), x, y, w)
    found = train(lambda x, y, w: head(x, y), x, y, head.weight)
    assert close(found, expected) and close(head.weight, w)
    assert (found.diff() != 0).all()


def test_asoftmax_has_the_values_of_the_authors_layer_and_of_its_gradients_only_one():
    """The layer's gradients are not the derivatives of its values: see docs/losses_and_authors.md."""
    head = L.ASoftmax(16, 10).double().eval()
    head.steps.fill_(5000)
    plain = L.ASoftmax(16, 10, **D).double().eval()
    plain.load_state_dict(head.state_dict())
    x = 3 * batch(np.random.default_rng(0), RANGES["mid"], head).double().requires_grad_()
    y, w = head.labels, head.weight.detach()
    w /= w.norm(dim=1, keepdim=True)
    with torch.no_grad():
        loss, z, of_x, of_w = authors.asoftmax_layer(x, w, y, head.annealing.item())
    assert close(head(x, y), loss) and close(head.margin_logits(x, y), z)
    of_w = of_w - (of_w * w).sum(1, keepdim=True) * w  # the part along w goes when w is scaled again
    assert close(gradients(plain(x, y), x, plain)[1], of_w)
    exact_x, exact_w = gradients(head(x, y), x, head)
    assert (exact_w - of_w).norm() > 0.1 * of_w.norm() and (exact_x - of_x).norm() > 0.1 * of_x.norm()


def test_lsoftmax_anneals_as_its_authors_do():
    head = L.LSoftmax(3, 4, margin=4.0)
    for steps in (0, 1, 1000, 8000, 50_000):
        head.steps.fill_(steps)
        assert head.annealing.item() == pytest.approx(authors.annealed("lsoftmax", steps), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "margin"), [("C", 0.4), ("A", 0.4), ("A", 2.0), ("M", 1.4), ("M", 3.0)]
)
def test_sphereface2_starts_its_bias_where_they_do(kind, margin):
    form = {} if kind == "C" else {"beyond_pi": "paper"}
    head = L.SphereFace2(3, 1000, margin=margin, scale=40.0, kind=kind, **form)
    expected = authors.sphereface2_bias(1000, 40.0, margin, kind)
    assert head.bias.item() == pytest.approx(expected, rel=1e-5)


def test_uniface_starts_its_bias_where_they_do():
    head = L.UniFace(3, 1000, margin=0.4, scale=64.0, negative_weight=0.5, r=0.2)
    assert head.bias.item() == pytest.approx(math.log(10 * 0.2 * 1000))


EVERY = {name: (cls, given) for name, (cls, given, *_) in MEMBERS.items()} | STATEFUL
PLAIN = ("normface", "cosface", "elasticface_cos", "uniface", "p2sgrad", "adacos_dynamic")


@pytest.mark.parametrize("name", [name for name in EVERY if name not in PLAIN])
def test_a_detached_gradient_keeps_the_value_and_gives_every_logit_its_factor_as_slope(name):
    cls, given = EVERY[name]
    exact = cls(5, 7, **given | {"gradient": "exact"}).double().eval()
    through = cls(5, 7, **given | D).double().eval()
    through.load_state_dict(exact.state_dict())
    x, y = 5 * torch.randn(32, 5).double(), torch.randint(7, (32,))
    assert torch.equal(exact(x, y), through(x, y))
    x.requires_grad_()
    upstream = torch.randn(32, 7).double()
    z = through.margin_logits(x, y)
    factor = through.factor(x)
    plain = factor.detach() * through.cosines(x) + factor * (z / factor.detach()).detach()
    found = torch.autograd.grad((upstream * z).sum(), (x, through.weight))
    expected = torch.autograd.grad((upstream * plain).sum(), (x, through.weight))
    assert all(close(one, other) for one, other in zip(found, expected, strict=True))


def test_every_reference_says_whose_it_is():
    assert all(says.startswith(("paper: ", "code: ")) for says in authors.SOURCES.values())
