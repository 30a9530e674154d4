"""Penalties that spread class weights over the sphere, to be added to any loss of the family. They take
class weights W (C, D), of which directions count, and the memory of all pairs of them."""

import torch
import torch.nn.functional as F
from torch import Tensor

CLOSEST = 1e-6  # is added to squared distances, so that none of equal weights is infinite


def nearest_cosine(weight: Tensor) -> Tensor:
    """Return the mean over classes of the cosine to the nearest other class weight: the exclusive
    regularisation of RegularFace (Zhao et al. 2019, CVPR)."""
    return cosines_of_others(weight).amax(1).mean()


def energy(weight: Tensor) -> Tensor:
    """Return the mean over pairs of class weights of 1 / squared distance on the unit sphere: the
    hyperspherical energy of MHE with s = 2 (Liu et al. 2018, arXiv 1805.09298)."""
    count = len(weight)
    distance = 2 - 2 * cosines_of_others(weight)  # infinite to itself, which adds 0
    return (1 / (distance + CLOSEST)).sum() / (count * (count - 1))


def cosines_of_others(weight: Tensor) -> Tensor:
    """The cosines (C, C) between class weights, −∞ on the diagonal; at least float32, whatever autocast
    says."""
    with torch.autocast(weight.device.type, enabled=False):
        unit = F.normalize(weight.to(torch.promote_types(weight.dtype, torch.float32)), dim=1)
        own = torch.eye(len(weight), dtype=torch.bool, device=weight.device)
        return (unit @ unit.T).clamp(max=1).masked_fill(own, -torch.inf)


def spread(weight: Tensor, regularface: float, mhe: float) -> Tensor:
    """Return the sum of both penalties, each times its factor; one of factor 0 is not computed."""
    parts = [
        factor * penalty(weight)
        for factor, penalty in ((regularface, nearest_cosine), (mhe, energy))
        if factor
    ]
    return torch.stack(parts).sum()
