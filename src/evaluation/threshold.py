"""A threshold whose false accepts are promised for people, or things, that are new."""

from typing import NamedTuple

import numpy as np
from scipy.stats import beta, t

CONFIDENCE = 0.95  # of every promise and interval, and of all differences of one family together
FEWEST, LARGEST_SHARE, TRIED = 10, 0.2, 100  # false accepts by which their spread over classes is judged


class Promise(NamedTuple):
    """`accepted` of the probes have a cosine above `cosine`; of new classes at most the share `rate`
    will, with probability CONFIDENCE."""

    cosine: float
    accepted: int
    rate: float


def promised_threshold(cosines: np.ndarray, labels: np.ndarray, rate: float) -> Promise:
    """Return the lowest threshold of which at most the share `rate` of false accepts can be promised,
    given the cosines (N,) of unknown probes with what is nearest to them, and their labels (N,); or,
    where classes are too few for that, the highest of the cosines with the rate that it allows.

    Images of a class are alike: they are accepted together. So N counts as N divided by the design
    effect, the variance of the accepted share over classes relative to that of independent images, the
    largest at any share from `rate`/2 to 0.2; and the bound is Clopper and Pearson's for that number,
    with the degrees of freedom of the classes (Korn & Graubard 1998)."""
    order = np.argsort(-cosines, kind="stable")
    ranked, classes = cosines[order], np.unique(labels[order], return_inverse=True)[1]
    count = effective_count(classes, rate)
    accepted = np.arange(len(ranked))  # above each of the ranked cosines, if they differ
    share = accepted / len(ranked)
    bounds = beta.ppf(CONFIDENCE, share * count + 1, np.maximum(count * (1 - share), 1e-9))
    last = max(0, int(np.searchsorted(bounds, rate, side="right")) - 1)
    cosine = float(ranked[last])
    return Promise(cosine, int((ranked > cosine).sum()), float(bounds[last]))


def effective_count(classes: np.ndarray, rate: float) -> float:
    """Return how many independent probes tell as much as these. `classes` (N,) are theirs, the nearest
    probe first."""
    number = len(classes)
    sizes = np.bincount(classes)
    if len(sizes) < 2:
        return 1.0
    first = min(max(FEWEST, int(rate * number / 2)), number - 1)
    last = min(max(int(LARGEST_SHARE * number), 4 * FEWEST), number - 1)
    effect = 1.0
    for accepted in np.unique(np.linspace(first, max(first, last), TRIED).astype(int)):
        share = accepted / number
        beyond = np.bincount(classes[:accepted], minlength=len(sizes)) - share * sizes
        variance = len(sizes) / (len(sizes) - 1) * (beyond**2).sum()
        effect = max(effect, variance / (number * share * (1 - share)))
    of_images, of_classes = (t.ppf(CONFIDENCE, size - 1) for size in (number, len(sizes)))
    return number / effect * (of_images / of_classes) ** 2
