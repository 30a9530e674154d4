"""Agreement with pytorch-metric-learning, within the angles where the two mean the same."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as peers

from src.losses import (
    ArcFace,
    ASoftmax,
    CircleLoss,
    CosFace,
    LSoftmax,
    NormFace,
    P2SGrad,
    ProxyAnchor,
    ProxyNCA,
    SoftTriple,
    SphereFace,
    SubCenterArcFace,
)
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


@pytest.mark.parametrize("margin", [1, 2, 4])
def test_asoftmax_without_annealing_is_their_sphereface(margin):
    compare(
        ASoftmax(16, 10, margin=float(margin), lambda_base=0.0, lambda_min=0.0),
        peers.SphereFaceLoss(10, 16, margin, 1),
        np.linspace(0.05, 3.1, 29),
    )


@pytest.mark.parametrize("margin", [1, 2, 4])
def test_lsoftmax(margin):
    # Both keep both lengths; theirs takes whole margins only.
    thetas = np.linspace(0.05, 3.1, 29)
    compare(
        LSoftmax(16, 10, margin=float(margin), lambda_base=0.0),
        peers.LargeMarginSoftmaxLoss(10, 16, margin, 1),
        thetas,
    )


def test_subcenter_arcface_before_pi():
    ours = SubCenterArcFace(16, 10, centres=3, margin=0.5, scale=64.0)
    theirs = peers.SubCenterArcFaceLoss(
        num_classes=10, embedding_size=16, margin=math.degrees(0.5), scale=64, sub_centers=3
    )
    theirs.W.data.copy_(ours.weight.data.reshape(30, 16).T)  # their columns: a class's centres together
    x = reference.batch(np.random.default_rng(0), np.linspace(0.15, math.pi / 2 - 0.6, 32), ours)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    left, right = ours(a, ours.labels), theirs(b, ours.labels)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    left.backward(), right.backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_p2sgrad():
    ours, theirs = P2SGrad(16, 10), peers.P2SGradLoss(16, 10)
    x = reference.batch(np.random.default_rng(0), np.linspace(0.15, 3.0, 32), ours)
    theirs.weight.data.copy_(F.normalize(ours.weight.data).T)
    summed = 10 / 2 * theirs(x, ours.labels)  # they take the mean over the classes too
    torch.testing.assert_close(ours(x, ours.labels), summed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.25, 0.4])
def test_circle_between_samples_and_prototypes(margin):
    # Theirs is made for pairs: prototypes as references give each sample one positive and C − 1
    # negatives, which is the class-level loss. They leave out samples whose loss is 0: none here.
    ours = CircleLoss(16, 10, margin=margin, scale=80.0)
    theirs = peers.CircleLoss(m=margin, gamma=80)
    x = reference.batch(np.random.default_rng(0), np.linspace(0.6, 3.0, 32), ours)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    left = ours(a, ours.labels)
    right = theirs(b, ours.labels, ref_emb=ours.weight.detach(), ref_labels=torch.arange(10))
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    left.backward(), right.backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def with_their_weights(ours, theirs, weights, shape):
    """Losses and gradients of the embeddings and class weights agree, given where theirs lie."""
    weights.data.copy_(shape(ours.weight.data))
    x = reference.batch(np.random.default_rng(0), np.linspace(0.15, 3.0, 32), ours)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    left, right = ours(a, ours.labels), theirs(b, ours.labels)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    left.backward(), right.backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(shape(ours.weight.grad), weights.grad, rtol=1e-3, atol=1e-4)


def test_proxy_anchor():
    theirs = peers.ProxyAnchorLoss(10, 16, margin=0.1, alpha=32)
    with_their_weights(ProxyAnchor(16, 10), theirs, theirs.proxies, lambda w: w)


def test_soft_triple_without_its_second_term():
    theirs = peers.SoftTripleLoss(10, 16, centers_per_class=3, la=20, gamma=0.1, margin=0.01)
    ours = SoftTriple(16, 10, centres=3, tau=0.0)
    with_their_weights(ours, theirs, theirs.fc, lambda w: w.flatten(0, 1).T)


def test_proxy_nca_where_no_probability_is_0():
    theirs = peers.ProxyNCALoss(10, 16, softmax_scale=9)  # they leave out samples of probability 0
    with_their_weights(ProxyNCA(16, 10), theirs, theirs.proxies, lambda w: w)
