"""Agreement with pytorch-metric-learning, within the angles where the two mean the same."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as peers

from src.losses import ArcFace, CosFace, NormFace, SphereFace
from tests.losses import reference


def compare(ours, theirs, thetas, unit_embeddings=False):
    """Loss and gradients of one batch; their class weights lie transposed."""
    x = reference.batch(np.random.default_rng(0), thetas, ours)
    x, y = F.normalize(x) if unit_embeddings else x, ours.labels
    theirs.W.data.copy_(ours.weight.T)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    left, right = ours(a, y), theirs(b, y)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    left.backward(), right.backward()
    if not unit_embeddings:  # else theirs also has a gradient along the embedding's length
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.W.grad.T, rtol=1e-3, atol=1e-4)


def test_normface():
    thetas = np.linspace(0.05, 3.1, 32)
    compare(
        NormFace(16, 10, scale=30.0), peers.NormalizedSoftmaxLoss(10, 16, temperature=1 / 30), thetas
    )


@pytest.mark.parametrize("margin", [0.0, 0.35, 1.0])
def test_cosface(margin):
    thetas = np.linspace(0.05, 3.1, 32)
    compare(
        CosFace(16, 10, margin=margin, scale=64.0),
        peers.CosFaceLoss(10, 16, margin=margin, scale=64),
        thetas,
    )


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.0])
def test_arcface_before_pi(margin):
    # Past π − m they continue with cos θ − m sin m, which jumps at the seam; here ψ goes on. Degrees.
    thetas = np.linspace(0.05, math.pi - margin - 0.05, 32)
    compare(
        ArcFace(16, 10, margin=margin, scale=64.0),
        peers.ArcFaceLoss(10, 16, math.degrees(margin), 64),
        thetas,
    )


@pytest.mark.parametrize("margin", [1, 2, 4])
def test_sphereface_on_unit_embeddings(margin):
    # Theirs keeps the embedding's length in the logits, and takes whole margins only.
    thetas = np.linspace(0.05, 3.1, 29)
    compare(
        SphereFace(16, 10, margin=float(margin), scale=8.0),
        peers.SphereFaceLoss(10, 16, margin, 8),
        thetas,
        unit_embeddings=True,
    )
