"""Penalties that spread class weights over the sphere, to be added to any loss of the family. They take
class weights W (C, D), of which directions count, and the memory of all pairs of them."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Squared distance; weights that are nearer count as that, so that none is infinite.
CLOSEST = 1e-4


def nearest_cosine(weight: Tensor) -> Tensor:
    """Return the mean over classes of the cosine to the nearest other class weight: the exclusive
    regularisation of RegularFace (Zhao et al. 2019, CVPR)."""
    return cosines_of_others(weight, -torch.inf).amax(1).mean()


def energy(weight: Tensor) -> Tensor:
    """Return the mean over pairs of class weights of 1 / squared distance on the unit sphere: the
    hyperspherical energy of MHE with s = 2 (Liu et al. 2018, arXiv 1805.09298)."""
    count = len(weight)
    distance = 2 - 2 * cosines_of_others(weight, -torch.inf)  # infinite to itself, which adds 0
    return (1 / distance.clamp(min=CLOSEST)).sum() / (count * (count - 1))


def cosines_of_others(weight: Tensor, own: float) -> Tensor:
    """The cosines (C, C) between class weights, with `own` on the diagonal."""
    unit = F.normalize(weight, dim=1)
    mask = torch.eye(len(weight), dtype=torch.bool, device=weight.device)
    return (unit @ unit.T).masked_fill(mask, own)


def spread(weight: Tensor, regularface: float, mhe: float) -> Tensor:
    """Return the sum of both penalties, each times its weight; one of weight 0 is not computed."""
    parts = [
        factor * penalty(weight)
        for factor, penalty in ((regularface, nearest_cosine), (mhe, energy))
        if factor
    ]
    return torch.stack(parts).sum()
