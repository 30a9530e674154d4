"""Every sample a query, all the others what is searched: how many of its own class come first."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RANKS = (1, 5, 10)
METRICS = (*(f"recall_at_{k}" for k in RANKS), "r_precision", "map_at_r")
TILE = 2**26  # cosines that are held at once: 256 MiB; products of fewer rows are slower
BLOCK = 64  # columns that are looked at together


class Retrieval(NamedTuple):
    """`metrics` by the names in METRICS, empty where no class has two samples; `nearest` (N, K) the rows
    nearest to each sample, nearest first."""

    metrics: dict[str, float]
    nearest: Tensor


def largest(values: Tensor, k: int) -> Tensor:
    """Columns of the `k` largest values (rows, columns) of each row, largest first. They are in the k
    blocks of largest maxima, and to find those takes a fraction of the time that sorting all would."""
    blocks = values.unflatten(1, (-1, BLOCK))
    if 4 * k > blocks.shape[1]:
        return values.topk(k).indices
    best = blocks.amax(2).topk(k).indices
    near = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    found = near.topk(k).indices
    return best.gather(1, found // BLOCK) * BLOCK + found % BLOCK


@torch.no_grad()
def retrieval(embeddings: Tensor, labels: Tensor) -> Retrieval:
    """Search embeddings (N, D) with labels (N,) by cosine, chunk by chunk: no N×N matrix.

    recall_at_k  share of queries with one of their class among the k nearest
    r_precision  share of their class among the R nearest, R the others that the class has, mean of
                 queries
    map_at_r     mean over i ≤ R of the precision among the i nearest where the i-th is of the class,
                 else 0 (Musgrave et al. 2020, arXiv 2003.08505)

    A sample alone in its class is searched but does not ask."""
    x = F.normalize(embeddings.float(), dim=1)
    count = len(x)
    sizes = torch.bincount(labels)
    others = sizes[labels] - 1  # (N,) R of each query
    most = min(max(*RANKS, int(others.max())), count - 1)
    ranks = torch.arange(1, most + 1, device=x.device)
    totals = torch.zeros(len(METRICS), dtype=torch.float64)
    kept = min(max(RANKS), most)
    nearest = torch.empty(count, kept, dtype=torch.int64, device=x.device)
    searched = F.pad(x, (0, 0, 0, -count % BLOCK))  # whole blocks; what is added is never found
    step = max(1, TILE // count)
    held = torch.empty(min(step, count), len(searched), device=x.device)  # one, or each costs its pages
    for rows in torch.arange(count, device=x.device).split(step):
        cosines = torch.mm(x[rows], searched.T, out=held[: len(rows)])
        cosines[:, count:] = -torch.inf
        cosines[torch.arange(len(rows), device=x.device), rows] = -torch.inf  # not itself
        found = largest(cosines, most)
        nearest[rows] = found[:, :kept]
        right = labels[found] == labels[rows, None]
        within = ranks <= others[rows, None]
        hits = (right & within).float()
        precision = hits.cumsum(1) / ranks
        r = others[rows].clamp(min=1)
        values = [right[:, :k].any(1).float() for k in RANKS]
        values += [hits.sum(1) / r, (precision * hits).sum(1) / r]
        totals += torch.stack(values)[:, others[rows] > 0].sum(1).cpu().double()
    asked = int((others > 0).sum())
    metrics = dict(zip(METRICS, (totals / asked).tolist(), strict=True)) if asked else {}
    return Retrieval(metrics, nearest)
