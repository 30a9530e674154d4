"""Illegal arguments of heads: each error says which argument, what it was, and what would be right."""

import math
import pickle
import re

import numpy as np
import pytest
import torch

from docs.api import heads
from src import losses
from src.losses import BadArgument, MarginHead

# Where a row gives no margin.
MARGINS = {"SphereFace": 1.5, "SphereFaceR": 1.5, "LSoftmax": 4.0, "ASoftmax": 4.0}
MARGINS |= {"CombinedMargin": (1.0, 0.2, 0.0), "MagFace": (0.1, 0.2)}
BAD_MARGINS = [
    ("ArcFace", -0.1, "a finite number ≥ 0 and ≤ 3.142 for ArcFace"),
    ("ArcFace", 4.0, "≤ 3.142"),
    ("ArcFace", math.nan, "a finite number"),
    ("ArcFace", True, "a finite number"),
    ("ArcFace", [0.5], "a finite number"),
    ("LiArcFace", -0.1, "≥ 0"),
    ("LiArcFace", 4.0, "≤ 3.142"),
    ("CosFace", math.inf, "a finite number ≥ -1 and ≤ 2 for CosFace"),
    ("CosFace", 2.5, "≤ 2 "),
    ("SphereFace", 0.5, "a finite number ≥ 1 for SphereFace"),
    ("LSoftmax", 0.0, "≥ 1"),
    ("CombinedMargin", 0.5, "three finite numbers"),
    ("CombinedMargin", (1.0, 0.5), "three finite numbers"),
    ("CombinedMargin", (0.0, 0.5, 0.0), "m1 > 0"),
    ("CombinedMargin", (1.0, math.nan, 0.0), "three finite numbers"),
    ("MagFace", 0.5, "two numbers"),
    ("MagFace", (0.8, 0.45), "first ≤ second"),
    ("AdaFace", 1.5, "≤ 1 "),
    ("CircleLoss", 1.5, "≤ 1 "),
    ("KappaFace", -1.0, "≥ 0"),
    ("QAMFace", 4.0, "≤ 3.142"),
    ("ProxyAnchor", 1.5, "≤ 1 "),
]
# Of several options, the first is to blame.
BAD_OPTIONS = [
    *(
        ("NormFace", {"scale": scale}, "a finite number above 0")
        for scale in (0, -1.0, math.inf, math.nan, True)
    ),
    ("ArcFace", {"beyond_pi": "no"}, "monotone, paper, easy, linear or continuous for ArcFace"),
    ("AdaFace", {"beyond_pi": "easy"}, "monotone or paper"),
    ("SphereFace", {"beyond_pi": "linear"}, "monotone, paper or easy for SphereFace"),
    ("SphereFaceR", {"beyond_pi": "linear"}, "monotone, paper or easy"),
    ("SphereFaceR", {"beyond_pi": "paper", "version": "v2"}, "monotone for SphereFaceR v2"),
    ("ASoftmax", {"beyond_pi": "linear"}, "monotone, paper or easy"),
    ("CombinedMargin", {"beyond_pi": "linear", "margin": (1.1, 0.2, 0.0)}, "with m1 ≠ 1"),
    ("MVSoftmax", {"beyond_pi": "linear", "kind": "am"}, "monotone or easy .* of kind am"),
    ("MVSoftmax", {"beyond_pi": "paper", "kind": "am"}, "monotone or easy .* of kind am"),
    ("ElasticFace", {"beyond_pi": "paper", "kind": "cos"}, "monotone .* of kind cos"),
    ("SphereFace2", {"beyond_pi": "paper", "kind": "C"}, "monotone for kind C"),
    ("SphereFace2", {"beyond_pi": "easy", "kind": "A"}, "monotone or paper"),
    ("NPCFace", {"beyond_pi": "no"}, "monotone, paper or easy"),
    ("ArcFace", {"gradient": "none"}, "exact or detached"),
    ("NormFace", {"gradient": "detached"}, "changes nothing for NormFace"),
    ("CosFace", {"gradient": "detached"}, "changes nothing for CosFace"),
    ("UniFace", {"gradient": "detached"}, "changes nothing for UniFace"),
    ("ElasticFace", {"gradient": "detached", "kind": "cos"}, "changes nothing for ElasticFace"),
    ("KappaFace", {"formula": "none"}, "authors or paper"),
    ("KappaFace", {"first_samples": -1}, "a whole number from 0"),
    ("KappaFace", {"gamma": 1.5}, "≥ 0 and ≤ 1"),
    ("KappaFace", {"temperature": -0.4}, "above 0"),
    ("KappaFace", {"first_samples": 1, "formula": "paper"}, "changes nothing with formula=paper"),
    ("KappaFace", {"momentum": 0}, "above 0 and below 1"),
    ("LSoftmax", {"lambda_min": -1.0}, "≥ 0"),
    ("LSoftmax", {"lambda_base": -1.0}, "≥ 0"),
    ("ASoftmax", {"gamma": -1.0}, "≥ 0"),
    ("LSoftmax", {"power": -1.0}, "≥ 0"),
    ("UniFace", {"r": 0.0}, "above 0 and ≤ 1"),
    ("UniFace", {"negative_weight": 0.0}, "above 0"),
    ("SphereFaceR", {"version": "v3"}, "v1 or v2"),
    ("SphereFaceR", {"norm": "none"}, "hard or soft"),
    ("SphereFace2", {"kind": "B"}, "C, A or M"),
    ("SphereFace2", {"margin": 0.4, "kind": "M"}, "a finite number ≥ 1 for kind M"),
    ("SphereFace2", {"margin": 2.5, "kind": "C"}, "≥ 0 and ≤ 2 for kind C"),
    ("SphereFace2", {"alpha": 1.0}, "above 0 and below 1"),
    ("SphereFace2", {"power": 0.5}, "≥ 1"),
    ("SphereFace2", {"power": math.inf}, "a finite number"),
    ("MVSoftmax", {"kind": "cos"}, "arc or am"),
    ("ElasticFace", {"kind": "am"}, "arc or cos"),
    ("ElasticFace", {"sigma": -1.0}, "≥ 0"),
    ("ElasticFace", {"plus": "no"}, "true or false"),
    ("AdaFace", {"momentum": 2.0}, "above 0 and ≤ 1"),
    ("AdaFace", {"h": -1.0}, "≥ 0"),
    ("CurricularFace", {"momentum": 0}, "above 0 and ≤ 1"),
    ("MVSoftmax", {"emphasis": -0.2}, "≥ 0"),
    ("SphereFaceR", {"soft_weight": -0.1, "norm": "soft"}, "≥ 0"),
    ("MagFace", {"l_a": 0.0}, "above 0"),
    ("MagFace", {"u_a": 2.0, "l_a": 5.0}, "above 5"),
    ("MagFace", {"u_a": math.inf}, "a finite number"),
    ("MagFace", {"lambda_g": -5.0}, "≥ 0"),
    ("X2Softmax", {"a": 1.0}, "below 0"),
    ("X2Softmax", {"h": 1.0}, "≤ 0"),
    ("X2Softmax", {"a": -math.inf}, "a finite number"),
    ("X2Softmax", {"k": math.nan}, "a finite number"),
    ("SubCenterArcFace", {"centres": 0}, "a whole number from 1"),
    ("SubCenterArcFace", {"centres": 2.5}, "a whole number from 1"),
    ("ArcFace", {"label_smoothing": 1.0}, "≥ 0 and below 1"),
    ("UniFace", {"label_smoothing": 0.1}, "UniFace has no cross entropy to smooth"),
    ("UniFace", {"class_weights": "balanced"}, "UniFace has no cross entropy to weigh"),
    ("ArcFace", {"class_weights": [1.0]}, "10 finite numbers above 0"),
    ("ArcFace", {"class_weights": [0.0] * 10}, "10 finite numbers above 0"),
    ("ArcFace", {"inter_topk": -1}, "a whole number from 0 to 9"),
    ("ArcFace", {"inter_topk_margin": 4.0, "inter_topk": 2}, "≥ 0 and ≤ π"),
    ("ArcFace", {"inter_topk_margin": 0.3}, "changes nothing with inter_topk=0"),
    ("SphereFaceR", {"soft_weight": 0.1}, "changes nothing with norm=hard"),
    ("LSoftmax", {"power": 5.0, "lambda_base": 0.0}, "changes nothing unless lambda_base is above"),
    ("ASoftmax", {"gamma": 1.0, "lambda_base": 5.0}, "changes nothing unless lambda_base is above"),
    ("ElasticFace", {"plus": True, "sigma": 0.0}, "changes nothing with sigma=0"),
    ("ArcFace", {"dynamic_scale": True, "learnable_scale": True}, "not both"),
    ("ASoftmax", {"learnable_scale": True}, "changes nothing for ASoftmax, which has no scale"),
    ("LSoftmax", {"dynamic_scale": True}, "changes nothing for LSoftmax, which has no scale"),
    ("QAMFace", {"dynamic_scale": True}, "that of cosines, which the logits of QAMFace are not"),
    ("LiArcFace", {"dynamic_scale": True}, "that of cosines, which the logits of LiArcFace are not"),
    ("SFace", {"k": 0}, "a finite number above 0"),
    ("SFace", {"a": 4}, "≥ 0 and ≤ π"),
    ("SFace", {"b": -1}, "≥ 0 and ≤ π"),
    ("SFace", {"learnable_scale": True}, "scale, which is fixed"),
    ("SFace", {"dynamic_scale": True}, "scale, which is fixed"),
    ("ArcNegFace", {"alpha": 0}, "above 0"),
    ("ArcNegFace", {"sigma": math.nan}, "a finite number"),
    ("NPCFace", {"growth": -1}, "≥ 0 and ≤ π"),
    ("NPCFace", {"hard_margin": 4}, "≥ 0 and ≤ π"),
    ("NPCFace", {"factor": 0}, "above 0"),
    ("NPCFace", {"offset": math.inf}, "a finite number"),
    ("AdaMSoftmax", {"first_margins": 0.3}, "two numbers"),
    ("AdaMSoftmax", {"first_margins": [0.4, 0.3]}, "first ≤ second"),
    ("AdaMSoftmax", {"margin_weight": -1}, "≥ 0"),
    ("DynArcFace", {"least_angle": 4}, "≥ 0 and ≤ π"),
    ("DynArcFace", {"growth": -1}, "≥ 0"),
    ("SoftTriple", {"centres": 0}, "a whole number from 1"),
    ("SoftTriple", {"gamma": 0}, "above 0"),
    ("SoftTriple", {"tau": -1}, "≥ 0"),
    ("SoftTriple", {"tau": 0.5, "centres": 1}, "changes nothing with one centre"),
]


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [(name, {"margin": margin}, why) for name, margin, why in BAD_MARGINS] + BAD_OPTIONS,
)
def test_the_error_carries_the_argument_its_value_and_what_would_be_right(name, options, why):
    member = getattr(losses, name)
    given = {"scale": 64.0} if member.has_scale else {}
    if issubclass(member, MarginHead):
        given["margin"] = MARGINS.get(name, 0.4)
    with pytest.raises(BadArgument) as caught:
        member(3, 10, **given | options)
    argument, value = next(iter(options.items()))
    error = caught.value
    assert error.argument == argument and error.value is value
    assert re.search(why, error.why) and f"{argument}=" not in error.why
    assert str(error) == f"{argument}={value}: {error.why}"


def test_numbers_of_numpy_are_numbers():
    head = losses.SubCenterArcFace(
        3, 10, centres=np.int64(2), margin=np.float32(0.25), scale=np.float64(8)
    )
    assert (head.weight.size(1), head.margin.item(), head.scale.item()) == (2, 0.25, 8)
    losses.AdaFace(3, 10, h=np.float32(0.5), inter_topk=np.int32(2))
    with pytest.raises(BadArgument, match="a whole number from 1"):
        losses.SubCenterArcFace(3, 10, centres=np.bool_(True))


def test_an_error_reaches_another_process_as_it_is():
    error = pickle.loads(pickle.dumps(BadArgument("margin", 3, "expected less")))
    assert (error.argument, error.value, error.why) == ("margin", 3, "expected less")


@pytest.mark.parametrize("member", heads(), ids=lambda member: member.__name__)
def test_other_shapes_and_types_of_a_batch_are_refused_by_every_head(member):
    head, x, y = member(8, 30), torch.randn(4, 8), torch.arange(4)
    refused = {
        "labels.shape": [(x, y[:-1]), (x, y[:, None]), (x, torch.arange(8)), (x[:0], y[:0])],
        "labels.dtype": [(x, y.float()), (x, y.int())],
        "embeddings.shape": [(x[:, :7], y), (x[0], y[:1]), (x[None], y)],
    }
    for argument, batches in refused.items():
        for embeddings, labels in batches:
            for call in (head, head.margin_logits):
                with pytest.raises(BadArgument) as caught:
                    call(embeddings, labels)
                assert caught.value.argument == argument
    assert head.logits(x[:0]).shape == (0, 30)  # nothing to embed is no mistake
    for beside in (-100, -1, 30):
        with pytest.raises((IndexError, RuntimeError)):
            head(x, y.index_fill(0, torch.tensor(2), beside))
