"""How much a difference depends on the classes that were tested.

Seeds say whether another training would agree. In an open set there is a second doubt: other people, or
other products, might. Test images of one class are not independent of each other, and a class both asks
and is found by others. So metrics are measured again without each of some groups of whole classes (a
jackknife), the same ones for both sides of a difference; where curves and thresholds are wanted too, a
bootstrap draws whole classes."""

from math import sqrt

import numpy as np

from ..foreign import read_arrays
from .settings import Setting
from .statistics import FEWEST_DEGREES, Difference, Family, Repeat, range_quantile


def with_other_classes(
    metric: str, family: Family, chosen: dict[str, dict[Repeat, Setting]], ours: str, theirs: str
) -> Difference | None:
    """Our loss minus theirs with an interval for other seeds and other classes together; None where runs
    do not keep the metric without groups of classes, as in a closed set, where these are too few, and
    where seeds have no interval."""
    seeds = family.difference(ours, theirs)
    if seeds.low is None or family.folded:
        return None
    repeats = [repeat for repeat in chosen[ours] if repeat in chosen[theirs]]
    gaps, labels = [], None
    for repeat in repeats:
        sides = [without_groups(chosen[loss][repeat], repeat, metric) for loss in (ours, theirs)]
        if None in sides:
            return None
        for _, own in sides:
            labels = own if labels is None else labels
            if not np.array_equal(labels, own):
                return None
        gaps.append(sides[0][0] - sides[1][0])
    groups = {len(gap) for gap in gaps}
    if len(gaps) < 2 or len(groups) > 1 or max(groups) <= FEWEST_DEGREES:
        return None
    error, degrees = family.error(ours, theirs)
    variance = classes_variance(np.array(gaps))
    total = error**2 + variance
    # Satterthwaite's degrees of freedom of a sum of two variances.
    both = total**2 / (error**4 / degrees + variance**2 / (max(groups) - 1))
    half = range_quantile(len(family.names), both) / sqrt(2) * sqrt(total)
    return Difference.of(seeds.estimate, max(half, seeds.high - seeds.estimate))


def without_groups(
    setting: Setting, repeat: Repeat, metric: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a run's metric without each group of classes (G,), and the classes (N,) of its test images;
    None if it is not kept."""
    run = next(run for run in setting.runs if run.repeat == repeat)
    try:
        kept = read_arrays(run.folder / "embeddings.npz", "left_out", "left_out_of", "labels")
        column = kept["left_out_of"].tolist().index(metric)
        values = kept["left_out"][:, column].astype(float)
    except Exception:  # none, or damaged: numpy and zlib raise anything
        return None
    return (values, kept["labels"]) if np.isfinite(values).all() else None


def classes_variance(gaps: np.ndarray) -> float:
    """The variance that the choice of classes gives to the mean of differences (R, G) per repeat and
    group of classes that is left out.

    The jackknife also sees what each repeat does to each class by chance. That is part of the variance
    between repeats already, so it is taken out: it falls with the number of repeats, while what is left
    stays."""
    of_mean, repeats = jackknife_variance(gaps.mean(0)), len(gaps)
    of_each = float(np.mean([jackknife_variance(gap) for gap in gaps]))
    noise = max(0.0, (of_each - of_mean) / (repeats - 1)) if repeats > 1 else 0.0
    return max(0.0, of_mean - noise)


def jackknife_variance(left_out: np.ndarray) -> float:
    """The variance that the choice of classes gives to a metric, whose values without each group of them
    are `left_out` (G,)."""
    groups = len(left_out)
    return float((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum())
