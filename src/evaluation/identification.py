"""Open-set identification: a probe is named by its nearest sample of the gallery, or rejected.

Probes of enrolled classes have samples of their class in the gallery, the others have none. At a
threshold, an unenrolled probe whose nearest cosine is above it is a false positive (FPIR is their
share), and an enrolled one is missed unless its nearest is of its class and above it (FNIR), as in
ISO/IEC 19795-1 and NIST's face recognition tests."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from .metrics import Metric, by_name
from .retrieval import Retrieval, Search, joined_classes
from .verification import FALSE_ACCEPTS, true_accepts
from .weighted import CURVE_POINTS, Curve, weights_of_samples

FPIRS = ("1e-1", "1e-2", "1e-3")
IDENTIFICATION_METRICS = by_name(
    *(Metric.share(f"fnir_at_fpir_{rate}", "queries", higher_is_better=False) for rate in FPIRS)
)
FEWEST_CLASSES = 6  # draws of fewer say nothing


class Probes:
    """Probes with what is nearest: `cosines` (P,), whether they are `enrolled` (P,), whether the nearest
    is of their own class, `right` (P,), and the `classes` (P,), which are drawn anew together."""

    def __init__(
        self, cosines: np.ndarray, enrolled: np.ndarray, right: np.ndarray, classes: np.ndarray
    ):
        self.cosines, self.enrolled, self.right, self.classes = cosines, enrolled, right, classes
        self.order = np.argsort(-cosines, kind="stable")
        falling = cosines[self.order]
        self.known, self.hit = enrolled[self.order], (enrolled & right)[self.order]
        self.last = np.append(falling[1:] != falling[:-1], True)  # of equal cosines

    def supported(self) -> tuple[str, ...]:
        """Return those of FPIRS for which there are enough unenrolled probes."""
        unenrolled = int((~self.enrolled).sum())
        return tuple(r for r in FPIRS if float(r) * unenrolled >= FALSE_ACCEPTS - 1e-9)

    def rates(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return FPIR and 1 − FNIR (K,) over falling thresholds, each probe (P,) with its weight."""
        weights = np.ones(len(self.order)) if weights is None else weights[self.order]
        unenrolled, enrolled = weights * ~self.known, weights * self.known
        fpir = np.cumsum(unenrolled)[self.last] / unenrolled.sum()
        identified = np.cumsum(weights * self.hit)[self.last] / enrolled.sum()
        return np.concatenate([[0.0], fpir]), np.concatenate([[0.0], identified])

    def metrics(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Return `fnir_at_fpir_<rate>` for each of the supported rates."""
        both = self.rates(weights)
        return {
            f"fnir_at_fpir_{rate}": float(1 - true_accepts(*both, float(rate)))
            for rate in self.supported()
        }

    @property
    def drawn(self) -> int:
        """The number of classes of enrolled or of unenrolled probes, whichever are fewer."""
        kinds = self.classes[self.enrolled], self.classes[~self.enrolled]
        return min(len(np.unique(kind)) for kind in kinds)

    def redrawn(self) -> Iterator[np.ndarray]:
        """Yield how often each probe (P,) counts if the classes are drawn anew; draws without a probe of
        either kind are left out."""
        for weights in weights_of_samples(self.classes):
            if weights[self.enrolled].any() and weights[~self.enrolled].any():
                yield weights

    def curve(self) -> Curve:
        """Return 1 − FNIR over FPIR."""
        fpir = np.geomspace(FALSE_ACCEPTS / (~self.enrolled).sum(), 1, CURVE_POINTS)
        own = true_accepts(*self.rates(), fpir)
        redrawn = self.redrawn() if self.drawn >= FEWEST_CLASSES else ()
        draws = [true_accepts(*self.rates(weights), fpir) for weights in redrawn]
        return Curve.of(fpir, own, draws)


def probes_of(retrieved: Retrieval, labels: Tensor, search: Search) -> Probes | None:
    """Return the probes of a search; None if no probe is enrolled, or too few are unenrolled to measure
    any FPIR."""
    if search.queries is None or not retrieved.metrics:
        return None
    queries = search.rows("query").to(labels.device)
    enrolled, right = retrieved.per_query[queries, 0].isfinite(), retrieved.right[queries, 0]
    found = retrieved.cosine[queries], enrolled, right, joined_classes(labels, search)[queries]
    compared = found[0].isfinite()  # with anything in the gallery
    probes = Probes(*(values[compared].cpu().numpy() for values in found))
    return probes if probes.supported() and probes.enrolled.any() else None
