"""Retrieval: each sample is a query for its class, and all other samples are searched."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import directions, measurable
from .metrics import Metric, by_name

RANKS = (1, 5, 10)
RETRIEVAL_METRICS = by_name(
    *(Metric.share(f"recall_at_{k}", "queries") for k in RANKS),
    Metric.share("r_precision", "queries"),
    Metric.share("map_at_r", "queries"),
)
TILE = 2**26  # cosines in memory at a time: 256 MiB; products of fewer rows are slower
BLOCK = 64  # columns of which the maximum is taken first


class Retrieval(NamedTuple):
    """`metrics`, RETRIEVAL_METRICS by name, empty if no class has two samples; `per_query` (N, M), what
    each sample adds to their means, NaN for one that is no query; `nearest` (N, K), the rows nearest to
    each sample, nearest first, K = min(10, N − 1). Of embeddings that are not `measurable` there are no
    metrics, and K = 0."""

    metrics: dict[str, float]
    per_query: Tensor
    nearest: Tensor


def top_columns(values: Tensor, k: int) -> Tensor:
    """Return the columns (rows, k) of the `k` largest values in each row of (rows, columns), largest
    first; the number of columns is a multiple of BLOCK. The k largest are in the k blocks with the
    largest maxima, and a search in those alone takes a fraction of the time."""
    blocks = values.unflatten(1, (-1, BLOCK))
    if 4 * k > blocks.shape[1]:
        return values.topk(k).indices
    best = blocks.amax(2).topk(k).indices
    candidates = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    position = candidates.topk(k).indices
    return best.gather(1, position // BLOCK) * BLOCK + position % BLOCK


@torch.no_grad()
def retrieval(embeddings: Tensor, labels: Tensor, tile: int = TILE) -> Retrieval:
    """Search embeddings (N, D) with labels (N,) by cosine, about `tile` cosines at a time.

    recall_at_k  share of queries with a sample of their class among the k nearest
    r_precision  share of the query's class among the R nearest, where R is the number of other samples
                 of that class; mean over queries
    map_at_r     1/R · Σ of the precision among the i nearest, over those i ≤ R whose sample is of the
                 query's class; mean over queries (Musgrave et al. 2020, arXiv 2003.08505)

    A sample alone in its class is searched, but is no query."""
    count = len(embeddings)
    per_query = torch.full((count, len(RETRIEVAL_METRICS)), torch.nan, device=embeddings.device)
    if not measurable(embeddings):
        return Retrieval(
            {}, per_query, torch.empty(count, 0, dtype=torch.int64, device=per_query.device)
        )
    x = directions(embeddings)
    relevant = torch.bincount(labels)[labels] - 1  # (N,) R of each query
    depth = min(max(*RANKS, int(relevant.max())), count - 1)
    ranks = torch.arange(1, depth + 1, device=x.device)
    totals = torch.zeros(len(RETRIEVAL_METRICS), dtype=torch.float64)
    kept = min(max(RANKS), depth)
    nearest = torch.empty(count, kept, dtype=torch.int64, device=x.device)
    gallery = F.pad(x, (0, 0, 0, -count % BLOCK))  # to whole blocks
    step = max(1, tile // count)
    buffer = torch.empty(min(step, count), len(gallery), device=x.device)  # reused: pages cost time
    for rows in torch.arange(count, device=x.device).split(step):
        cosines = torch.mm(x[rows], gallery.T, out=buffer[: len(rows)])
        cosines[:, count:] = -torch.inf  # padding is never a neighbour
        cosines[torch.arange(len(rows), device=x.device), rows] = -torch.inf  # nor is the query itself
        neighbours = top_columns(cosines, depth)
        nearest[rows] = neighbours[:, :kept]
        same_class = labels[neighbours] == labels[rows, None]
        within_r = ranks <= relevant[rows, None]
        hits = (same_class & within_r).float()
        precision = hits.cumsum(1) / ranks
        r = relevant[rows].clamp(min=1)
        values = [same_class[:, :k].any(1).float() for k in RANKS]
        values += [hits.sum(1) / r, (precision * hits).sum(1) / r]
        found = torch.stack(values)[:, relevant[rows] > 0]
        per_query[rows[relevant[rows] > 0]] = found.T
        totals += found.sum(1).cpu().double()
    queries = int((relevant > 0).sum())
    metrics = dict(zip(RETRIEVAL_METRICS, (totals / queries).tolist(), strict=True)) if queries else {}
    return Retrieval(metrics, per_query, nearest)
