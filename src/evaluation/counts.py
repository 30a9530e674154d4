"""How much a split has of what metrics count: the number behind the last digit of a share."""

from torch import Tensor


def counts(labels: Tensor, pairs: tuple[Tensor, ...] | None = None) -> dict[str, int]:
    """Of a split with labels (N,) and, if it is verified, pairs (first, second, same, fold; each (P,)):
    its images, classes, images in the smallest class, queries (images whose class has another), and
    pairs, by the names that metrics give as `counted`."""
    sizes = labels.unique(return_counts=True)[1].cpu()
    found = {
        "images": len(labels),
        "classes": len(sizes),
        "smallest_class": int(sizes.min()) if len(sizes) else 0,
        "queries": int(sizes[sizes > 1].sum()),
    }
    if pairs is not None:
        _, _, same, fold = pairs
        found["same_pairs"], found["different_pairs"] = int(same.sum()), int((~same).sum())
        found["folded_pairs"] = int((fold >= 0).sum())
    return found
