"""Sizes of a split, which say how much one image more or less changes a metric."""

from torch import Tensor

from .retrieval import ALL_BY_ALL, Search, relevant_samples


def counts(
    labels: Tensor, pairs: tuple[Tensor, ...] | None = None, search: Search = ALL_BY_ALL
) -> dict[str, int]:
    """Count images, classes, images in the smallest class, queries (images whose class has another to be
    found) and pairs, by the names in Metric.counted, of labels (N,), pairs (first, second, same, fold;
    each (P,)) and a search."""
    sizes = labels.unique(return_counts=True)[1].cpu()
    numbers = {
        "images": len(labels),
        "classes": len(sizes),
        "smallest_class": int(sizes.min()) if len(sizes) else 0,
        "queries": int(sizes[sizes > 1].sum()),
    }
    if search.queries is not None:
        relevant = relevant_samples(labels, search).cpu()[search.rows("query")]
        numbers["queries"] = int((relevant > 0).sum())
    if pairs is not None:
        _, _, same, fold = pairs
        numbers["same_pairs"], numbers["different_pairs"] = int(same.sum()), int((~same).sum())
        numbers["folded_pairs"] = int((fold >= 0).sum())
    return numbers
