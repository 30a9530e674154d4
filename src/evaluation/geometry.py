"""How embeddings and prototypes lie on the sphere."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

METRICS = (
    "intra_angle_mean",
    "inter_angle_mean",
    "inter_angle_min",
    "prototype_angle_min",
    "prototype_separation",
    "uniformity",
    "effective_dimension",
)
SOME = 4096  # samples, evenly picked, whose pairs uniformity is taken over


@torch.no_grad()
def geometry(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None = None) -> dict[str, float]:
    """Of embeddings (N, D) with labels (N,), and of prototypes (C, D), all taken as directions; radians.

    intra_angle_mean      from a sample to its class's mean direction, mean
    inter_angle_mean      from a class's mean direction to the nearest other class's, mean over classes
    inter_angle_min       the same, the smallest
    prototype_angle_min   between the two nearest prototypes
    prototype_separation  that, as a share of `widest_angle(C, D)`, which no C directions can exceed
    uniformity            log of the mean of exp(−2‖x − y‖²) over pairs; −4 at the least, 0 if all are
                          one (Wang & Isola 2020, arXiv 2005.10242)
    effective_dimension   (Σλ)² / Σλ² of the directions' covariance: in how many they spread
                          (participation ratio); 0 if all are one
    """
    x = F.normalize(embeddings.float(), dim=1)
    present, compact = labels.unique(return_inverse=True)
    sums = torch.zeros(len(present), x.shape[1], device=x.device).index_add_(0, compact, x)
    means = F.normalize(sums, dim=1)
    metrics = {"intra_angle_mean": float(angles(x, means[compact]).mean())}
    if len(present) > 1:
        nearest = nearest_angles(means)
        metrics |= {"inter_angle_mean": float(nearest.mean()), "inter_angle_min": float(nearest.min())}
    if prototypes is not None:
        smallest = float(nearest_angles(F.normalize(prototypes.float(), dim=1)).min())
        metrics["prototype_angle_min"] = smallest
        metrics["prototype_separation"] = smallest / widest_angle(*prototypes.shape)
    some = x[torch.linspace(0, len(x) - 1, min(len(x), SOME), device=x.device).long()]
    if len(some) > 1:
        squared = 2 - 2 * (some @ some.T)
        total = squared.clamp_(min=0).mul_(-2).exp_().sum(dtype=torch.float32) - len(some)
        metrics["uniformity"] = math.log(max(float(total), 1e-30) / (len(some) * (len(some) - 1)))
    x = x - x.mean(0)
    spread = x.T @ x
    total = float(spread.trace())
    there_is = total > 1e-10 * len(x)  # less is rounding: all of one direction
    metrics["effective_dimension"] = total**2 / float(spread.square().sum()) if there_is else 0.0
    return metrics


def angles(x: Tensor, y: Tensor) -> Tensor:
    """Between rows of unit length, in radians; exact for small angles too, where the arccosine is
    not."""
    return 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))


def nearest_angles(directions: Tensor, tile: int = 2**24) -> Tensor:
    """Of each unit vector (C, D), the angle to the nearest other one."""
    nearest = []
    for rows in torch.arange(len(directions), device=directions.device).split(
        max(1, tile // len(directions))
    ):
        cosines = directions[rows] @ directions.T
        cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        nearest.append(cosines.argmax(1))
    return angles(directions, directions[torch.cat(nearest)])


def widest_angle(count: int, dimension: int) -> float:
    """An angle, in radians, that the nearest two of `count` directions in `dimension` cannot exceed;
    they reach it where count ≤ dimension + 1, count ≤ 2·dimension, or dimension is 2, and in three
    dimensions at 3, 4, 6 and 12 (Rankin 1955; Fejes Tóth 1943; otherwise disjoint caps cannot outgrow
    the sphere)."""
    if dimension == 2:
        return 2 * math.pi / count
    if count <= dimension + 1:
        return math.acos(-1 / (count - 1))
    if count <= 2 * dimension:
        return math.pi / 2
    if dimension == 3:
        omega = count / (count - 2) * math.pi / 6
        return math.acos((1 / math.tan(omega) ** 2 - 1) / 2)
    from scipy.special import betaincinv

    # A cap of radius φ < π/2 covers I_{sin²φ}((D − 1)/2, 1/2) / 2 of the sphere.
    covered = betaincinv((dimension - 1) / 2, 0.5, 2 / count)
    return min(math.pi / 2, 2 * math.asin(math.sqrt(covered)))
