"""Metrics of how embeddings and prototypes lie on the sphere."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import Metric, by_name, settled

GEOMETRY_METRICS = by_name(
    Metric.angle("intra_angle_mean", higher_is_better=False),
    Metric.angle("inter_angle_mean", higher_is_better=True),
    Metric.angle("inter_angle_min", higher_is_better=True),
    Metric.angle("prototype_angle_min", higher_is_better=True),
    Metric.share("prototype_separation"),
    # exp(−2‖x − y‖²) of unit vectors lies between exp(−8) and 1.
    Metric("uniformity", "number", higher_is_better=False, lowest=-8.0, highest=0.0),
    Metric("effective_dimension", "number", higher_is_better=True, lowest=0.0, highest=math.inf),
)
TINY_NORM = 1e-12
UNIFORMITY_SAMPLES = 4096  # picked evenly; more would have too many pairs


@torch.no_grad()
def geometry(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None = None) -> dict[str, float]:
    """Return metrics of the directions of embeddings (N, D) with labels (N,), and of prototypes (C, D),
    C ≥ 2; angles in radians. Those that need two samples, two classes or prototypes are absent without
    them; so are all unless the embeddings are `measurable`. Embeddings of length 0 count as one more
    direction.

    intra_angle_mean      angle from a sample to its class's mean direction, mean over samples
    inter_angle_mean      angle from a class's mean direction to the nearest other one, mean over classes
    inter_angle_min       the smallest of these
    prototype_angle_min   angle between the two nearest prototypes
    prototype_separation  prototype_angle_min as a share of `widest_angle(C, D)`, its upper bound
    uniformity            log of the mean of exp(−2‖x − y‖²) over pairs of samples; 0 if all directions
                          are equal, about −4 if they spread evenly (Wang & Isola 2020, arXiv 2005.10242)
    effective_dimension   (Σλ)² / Σλ² of the eigenvalues of the directions' covariance, the participation
                          ratio: how many dimensions they spread in; 0 if all directions are equal
    """
    if not measurable(embeddings):
        return {}
    x = directions(embeddings)
    present, compact = labels.unique(return_inverse=True)
    sums = torch.zeros(len(present), x.shape[1], device=x.device).index_add_(0, compact, x)
    means = F.normalize(sums, dim=1)
    metrics = {"intra_angle_mean": float(angles_between(x, means[compact]).mean())}
    if len(present) > 1:
        nearest = nearest_angles(means)
        metrics |= {"inter_angle_mean": float(nearest.mean()), "inter_angle_min": float(nearest.min())}
    if prototypes is not None:
        smallest = float(nearest_angles(F.normalize(prototypes.float(), dim=1)).min())
        metrics["prototype_angle_min"] = smallest
        metrics["prototype_separation"] = smallest / widest_angle(*prototypes.shape)
    if len(x) > 1:
        metrics["uniformity"] = _uniformity(x)
    metrics["effective_dimension"] = _effective_dimension(x)
    return settled(GEOMETRY_METRICS, metrics)


def directions(embeddings: Tensor) -> Tensor:
    """Return embeddings (N, D) scaled to length 1, in float32. A row shorter than TINY_NORM has no
    direction and becomes 0, as in heads; one whose length is not a finite number becomes NaN."""
    x = embeddings.float()
    lengths = x.norm(dim=1, keepdim=True)
    x = (x / lengths.clamp_min(TINY_NORM)).masked_fill_(lengths < TINY_NORM, 0.0)
    return x.masked_fill_(~lengths.isfinite(), math.nan)


def measurable(embeddings: Tensor) -> bool:
    """Return whether embeddings (N, D) can be judged: N ≥ 1, and all lengths finite in float32."""
    return len(embeddings) > 0 and bool(embeddings.float().norm(dim=1).isfinite().all())


def _uniformity(x: Tensor) -> float:
    count = min(len(x), UNIFORMITY_SAMPLES)
    x = x[torch.linspace(0, len(x) - 1, count, device=x.device).long()]
    squared = (x != 0).any(1).float()  # lengths: 1, or 0 for an embedding of length 0
    squared_distances = squared[:, None] + squared - 2 * (x @ x.T)
    total = squared_distances.clamp_(0, 4).mul_(-2).exp_().sum(dtype=torch.float32) - count
    mean = float(total) / (count * (count - 1))  # of few pairs, the difference above is rough
    return math.log(min(max(mean, math.exp(-8)), 1.0))


def _effective_dimension(x: Tensor) -> float:
    x = x - x.mean(0)
    scatter = x.T @ x
    variance = float(scatter.trace())
    if variance <= 1e-10 * len(x):  # equal directions, but for rounding
        return 0.0
    return variance**2 / float(scatter.square().sum())


def angles_between(x: Tensor, y: Tensor) -> Tensor:
    """Return the angles (…,) in radians between unit vectors (…, D), precise for small ones too, which
    an arccosine is not."""
    return 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))


def nearest_angles(directions: Tensor, tile: int = 2**24) -> Tensor:
    """Return the angles (C,) in radians from each unit vector (C, D) to the nearest other one, with
    about `tile` cosines in memory at a time."""
    nearest = []
    for rows in torch.arange(len(directions), device=directions.device).split(
        max(1, tile // len(directions))
    ):
        cosines = directions[rows] @ directions.T
        cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        nearest.append(cosines.argmax(1))
    return angles_between(directions, directions[torch.cat(nearest)])


def widest_angle(count: int, dimension: int) -> float:
    """Return an upper bound, in radians, on the smallest angle between `count` directions in `dimension`
    dimensions.

    It is reached if count ≤ 2·dimension, in two dimensions, and in three for 3, 4, 6 and 12 directions
    (Rankin 1955; Fejes Tóth 1943). Otherwise it follows from disjoint caps, which cannot cover more than
    the sphere. Raises ValueError for fewer than two directions."""
    if count < 2:
        raise ValueError(f"{count} directions have no smallest angle: at least 2 do")
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
