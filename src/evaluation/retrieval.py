"""Retrieval: each sample is a query for its class, and all other samples are searched; or queries search
a gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.splits import Queries
from .geometry import directions, measurable
from .metrics import Metric, by_name

RANKS = (1, 5, 10)
RETRIEVAL_METRICS = by_name(
    *(Metric.share(f"recall_at_{k}", "queries") for k in RANKS),
    Metric.share("r_precision", "queries"),
    Metric.share("map_at_r", "queries"),
)
TILE = 2**26  # cosines in memory at a time: 256 MiB; products of fewer rows are slower
LISTED = 16  # numbers in memory for each neighbour on a query's list, when that is long
GROUPS = 40  # of classes, that are left out in turn
PART = 2**21  # neighbours at a time
BLOCK = 64  # columns of which the maximum is taken first


class Retrieval(NamedTuple):
    """`metrics` by name, empty if no query has a relevant sample; `per_query` (N, M), what each sample
    adds to their means, NaN for one that is no query or has none; `nearest` (N, K), the rows nearest to
    each query, nearest first, K at most 10, -1 for what is no query, and past what counts for it; which
    of these are `right` (N, K), that is relevant; `cosine` (N,), of the nearest. Of embeddings that are
    not `measurable` there are no metrics, and K = 0. `left_out` are the metrics (G,) without each group
    of classes, by name, if the search asked for them."""

    metrics: dict[str, float]
    per_query: Tensor
    nearest: Tensor
    right: Tensor
    cosine: Tensor
    left_out: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class Search:
    """A search: its queries and gallery, and what is measured.

    Args:
        queries: the queries and their gallery; None: every sample searches all others. Samples of a
            query's class and camera do not count for it, as in the re-identification of persons.
            Relevant to a query are samples of its class, or those that are listed.
        ranks: k of Recall@k, each from 1.
        map_at: K of mAP@K; None: not measured.
        left_out: measure also without each of up to 40 groups of classes, which then neither ask nor are
            found: how much metrics depend on the classes that there are (a jackknife).

    Raises ValueError if there are no queries or no gallery.
    """

    queries: Queries | None = None
    ranks: tuple[int, ...] = RANKS
    map_at: int | None = None
    left_out: bool = False

    def __post_init__(self):
        if self.queries is None:
            return
        for role, what in (("query", "a query"), ("gallery", "in the gallery")):
            if not len(self.rows(role)):
                raise ValueError(f"no sample is {what}")

    def rows(self, role: str) -> Tensor:
        """The rows (n,) that are queries, or that are in the gallery."""
        return torch.from_numpy(np.flatnonzero(np.isin(self.queries.roles, (role, "both"))))

    @property
    def cameras(self) -> np.ndarray | None:
        return self.queries and self.queries.cameras

    @property
    def relevant(self) -> np.ndarray | None:
        return self.queries and self.queries.relevant

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, in the order of `Retrieval.per_query`."""
        return retrieval_metrics(self.ranks, self.map_at)


ALL_BY_ALL = Search()


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


def retrieval_metrics(ranks: Sequence[int] = RANKS, map_at: int | None = None) -> tuple[str, ...]:
    """Return the names of `retrieval`'s metrics, in the order of `per_query`."""
    also = () if map_at is None else (f"map_at_{map_at}",)
    return (*(f"recall_at_{k}" for k in ranks), "r_precision", "map_at_r", *also)


class Relevance:
    """Says which samples are relevant to a query: those of its class, or those listed for it. `count`
    (N,) is how many of the gallery are relevant to each sample as a query."""

    def __init__(self, labels: Tensor, search: Search):
        self.labels, self.listed = labels, None
        gallery = torch.ones_like(labels, dtype=torch.bool)
        if search.queries is not None:
            gallery = torch.zeros_like(gallery)
            gallery[search.rows("gallery").to(labels.device)] = True
        seen = None if search.cameras is None else seen_by(labels, search.cameras)
        if search.relevant is not None:
            query, other = torch.from_numpy(search.relevant).to(labels.device).unbind(1)
            counts = gallery[other] & (other != query)
            if seen is not None:
                counts &= seen[query] != seen[other]
            self.listed = torch.unique(query[counts] * len(labels) + other[counts])  # sorted
            self.count = torch.bincount(self.listed // len(labels), minlength=len(labels))
            return
        of_class = torch.bincount(labels[gallery], minlength=int(labels.max()) + 1)[labels]
        if seen is None:
            self.count = of_class - gallery.long()
        else:
            self.count = of_class - torch.bincount(seen[gallery], minlength=int(seen.max()) + 1)[seen]

    def __call__(self, queries: Tensor, samples: Tensor) -> Tensor:
        """Return which `samples` (n, K), rows of the gallery, are relevant to the queries (n,)."""
        if self.listed is None:
            return self.labels[samples] == self.labels[queries, None]
        if not len(self.listed):
            return torch.zeros_like(samples, dtype=torch.bool)
        asked = queries[:, None] * len(self.labels) + samples
        place = torch.searchsorted(self.listed, asked).clamp_(max=len(self.listed) - 1)
        return self.listed[place] == asked


def relevant_samples(labels: Tensor, search: Search) -> Tensor:
    """Return how many samples of the gallery are relevant to each sample (N,) as a query."""
    return Relevance(labels, search).count


def seen_by(labels: Tensor, cameras: np.ndarray) -> Tensor:
    """Return one number (N,) for each class and camera."""
    which = np.unique(cameras, return_inverse=True)[1]
    both = labels * (int(which.max()) + 1) + torch.from_numpy(which).to(labels.device)
    return torch.unique(both, return_inverse=True)[1]


@torch.no_grad()
def retrieval(
    embeddings: Tensor,
    labels: Tensor,
    search: Search = ALL_BY_ALL,
    tile: int = TILE,
) -> Retrieval:
    """Search embeddings (N, D) with labels (N,) by cosine, about `tile` cosines at a time. A query never
    finds itself.

    recall_at_k  share of queries with a relevant sample among the k nearest, for each k
    r_precision  share of relevant samples among the R nearest, where R is their number in the gallery;
                 mean over queries
    map_at_r     1/R · Σ of the precision among the i nearest, over those i ≤ R whose sample is relevant;
                 mean over queries (Musgrave et al. 2020, arXiv 2003.08505)
    map_at_K     1/min(R, K) · Σ of the same, over i ≤ K; mean over queries (GLDv2, arXiv 2004.01804);
                 K ≥ N gives the mean average precision of whole rankings

    Relevant are samples of the query's class, or those that the search lists. A query to which none is
    relevant is searched for, but counts for no metric."""
    count, device = len(embeddings), embeddings.device
    ranks, map_at, names = search.ranks, search.map_at, search.metrics
    per_query = torch.full((count, len(names)), torch.nan, device=device)
    cosine = torch.full((count,), torch.nan, device=device)
    if not measurable(embeddings):
        nothing = torch.empty(count, 0, dtype=torch.int64, device=device)
        return Retrieval({}, per_query, nothing, nothing.bool(), cosine)
    every = torch.arange(count, device=device)
    asked, pool = every, every
    if search.queries is not None:
        asked, pool = (search.rows(role).to(device) for role in ("query", "gallery"))
    place = torch.full((count,), -1, device=device)  # of each sample in the gallery
    place[pool] = torch.arange(len(pool), device=device)
    x = directions(embeddings)
    searched = x if pool is every else x[pool]
    is_relevant = Relevance(labels, search)
    relevant = is_relevant.count
    seen = None if search.cameras is None else seen_by(labels, search.cameras)
    most = len(pool) - int((place[asked] >= 0).all())  # the last may be a query itself, no neighbour
    depth = min(max(*ranks, map_at or 1, int(relevant[asked].max())), most)
    groups = LeftOut(labels, search, is_relevant) if search.left_out else None
    deeper = min(2 * depth + 10, most) if groups else depth  # what moves up where others are gone
    rank = torch.arange(1, depth + 1, device=device)
    totals = torch.zeros(len(names), dtype=torch.float64)
    nearest = torch.full((count, min(max(RANKS), depth)), -1, device=device)
    nearest_right = torch.zeros_like(nearest, dtype=torch.bool)
    padded = F.pad(searched, (0, 0, 0, -len(pool) % BLOCK))  # to whole blocks
    step = max(1, tile // max(len(pool), LISTED * depth))
    buffer = torch.empty(min(step, count), len(padded), device=device)  # reused: pages cost time
    for rows in asked.split(step):
        cosines = torch.mm(x[rows], padded.T, out=buffer[: len(rows)])
        cosines[:, len(pool) :] = -torch.inf  # padding is never a neighbour
        own = (place[rows] >= 0).nonzero()[:, 0]
        cosines[own, place[rows[own]]] = -torch.inf  # nor is the query itself
        if seen is not None:
            cosines[:, : len(pool)].masked_fill_(seen[pool] == seen[rows, None], -torch.inf)
        neighbours = top_columns(cosines, deeper)
        if groups and deeper:
            there = cosines.gather(1, neighbours).isfinite()
            groups.add(rows, pool[neighbours.where(there, 0)], there, relevant[rows])
        neighbours = neighbours[:, :depth]
        if depth:
            cosine[rows] = cosines.gather(1, neighbours[:, :1])[:, 0]
        there = torch.ones(1, dtype=torch.bool, device=device)
        if depth == len(pool) or seen is not None:  # the last may be padding, or not count
            there = cosines.gather(1, neighbours).isfinite()
            neighbours = neighbours.where(there, 0)
        first = neighbours[:, : nearest.shape[1]]
        nearest[rows] = pool[first].where(there.expand_as(neighbours)[:, : first.shape[1]], -1)
        found = neighbours if pool is every else pool[neighbours]
        right = is_relevant(rows, found) & there
        nearest_right[rows] = right[:, : nearest.shape[1]]
        counts = relevant[rows] > 0
        kept = measured(right[counts], rank, relevant[rows[counts]], search)
        per_query[rows[counts]] = kept
        totals += kept.sum(0).cpu().double()
    number = int((relevant[asked] > 0).sum())
    metrics = dict(zip(names, (totals / number).tolist(), strict=True)) if number else {}
    left_out = groups.metrics() if groups else {}
    return Retrieval(metrics, per_query, nearest, nearest_right, cosine, left_out)


def measured(right: Tensor, rank: Tensor, relevant: Tensor, search: Search) -> Tensor:
    """Return what queries add (n, M) to the means of the metrics, given which of their neighbours are
    `right` (n, L), those neighbours' `rank` (L,) or (n, L), and how many samples are `relevant` (n,)."""
    r = relevant.unsqueeze(1)
    precision, within = right.cumsum(1) / rank * right, rank <= r
    values = [(right & (rank <= k)).any(1).float() for k in search.ranks]
    values += [(right & within).sum(1) / relevant, (precision * within).sum(1) / relevant]
    if search.map_at is not None:
        most = search.map_at
        values.append((precision * (rank <= most)).sum(1) / relevant.clamp(max=most))
    return torch.stack(values, 1)


def dealt_into_groups(labels: Tensor) -> tuple[Tensor, int]:
    """The group (N,) of each sample, the same for all of a class, and the number of groups: one for each
    class, or 40. Labels (N,) of the same classes are dealt alike."""
    classes, place = labels.unique(return_inverse=True)
    count = min(len(classes), GROUPS)
    dealt = np.random.default_rng(0).permutation(len(classes)) % count
    return torch.from_numpy(dealt).to(labels.device)[place], count


def joined_classes(labels: Tensor, search: Search) -> Tensor:
    """Return labels (N,) in which classes are one if a sample of one is listed as relevant to a query of
    the other, so that leaving out whole classes leaves no query without a part of its answers."""
    if search.relevant is None:
        return labels
    from scipy.sparse import coo_array  # its import takes a moment
    from scipy.sparse.csgraph import connected_components

    query, other = labels.cpu().numpy()[search.relevant].T
    size = int(labels.max()) + 1
    joined = connected_components(coo_array((np.ones(len(query)), (query, other)), (size, size)))[1]
    return torch.from_numpy(joined.astype(np.int64)).to(labels.device)[labels]


def groups_of(labels: Tensor, search: Search) -> tuple[Tensor, int]:
    """Return the group (N,) of each sample and the number of groups, of `joined_classes` that are left
    out together. Classes that ask are dealt evenly, so that every group has queries."""
    joined = joined_classes(labels, search)
    if search.queries is None:
        return dealt_into_groups(joined)
    asking = torch.isin(joined, joined[search.rows("query").to(labels.device)])
    group = torch.empty_like(joined)
    group[asking], count = dealt_into_groups(joined[asking])
    group[~asking] = dealt_into_groups(joined[~asking])[0] % count
    return group, count


class LeftOut:
    """The metrics of a search without each group of classes, from each query's list of neighbours. That
    is cut at twice its length and ten more: a query of which a group had more neighbours than that
    counts by what is left."""

    def __init__(self, labels: Tensor, search: Search, relevance: Relevance):
        self.search, self.relevance = search, relevance
        self.group, count = groups_of(labels, search)
        self.sums = torch.zeros(count, len(search.metrics), dtype=torch.float64)
        self.queries = torch.zeros(count, dtype=torch.float64)

    def add(self, rows: Tensor, neighbours: Tensor, there: Tensor, relevant: Tensor) -> None:
        """Add queries `rows` (n,) with the rows of their neighbours (n, L), nearest first, whether each
        is `there` (n, L), and how many are `relevant` (n,) to each query."""
        rows, neighbours, there, relevant = (
            x[relevant > 0] for x in (rows, neighbours, there, relevant)
        )
        for part in torch.arange(len(rows), device=rows.device).split(max(1, PART // there.shape[1])):
            self._add(rows[part], neighbours[part], there[part], relevant[part])

    def _add(self, rows: Tensor, neighbours: Tensor, there: Tensor, relevant: Tensor) -> None:
        right = self.relevance(rows, neighbours) & there
        of_neighbours, of_rows = self.group[neighbours], self.group[rows]
        whole = self._without(right, there, relevant)
        for group in range(len(self.queries)):
            stay = of_rows != group
            gone = of_neighbours == group
            moved = stay & gone.any(1)
            values = whole[stay & ~moved].sum(0)
            values += self._without(right[moved], there[moved] & ~gone[moved], relevant[moved]).sum(0)
            self.sums[group] += values.cpu().double()
            self.queries[group] += float(stay.sum())

    def _without(self, right: Tensor, there: Tensor, relevant: Tensor) -> Tensor:
        """Each query's part (n, M) in the metrics, of those neighbours (n, L) alone that are `there`."""
        return measured(right & there, there.cumsum(1).clamp_min(1), relevant, self.search)

    def metrics(self) -> dict[str, np.ndarray]:
        means = self.sums / self.queries.unsqueeze(1)
        return dict(zip(self.search.metrics, means.T.numpy(), strict=True))
