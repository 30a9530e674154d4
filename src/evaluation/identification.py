"""Identification: whose is this, of the people in a gallery, or nobody's there? By the nearest sample.

Probes of enrolled classes have samples of their class in the gallery, the others have none. At a
threshold, an unenrolled probe whose nearest cosine is above it is a false positive (FPIR is their
share), and an enrolled one is missed unless its nearest is of its class and above it (FNIR), as in
ISO/IEC 19795-1 and NIST's face recognition tests."""

import numpy as np

from .metrics import Metric, by_name
from .verification import FALSE_ACCEPTS, true_accepts

FPIRS = ("1e-1", "1e-2", "1e-3")
IDENTIFICATION_METRICS = by_name(
    *(Metric.share(f"fnir_at_fpir_{rate}", "queries", higher_is_better=False) for rate in FPIRS)
)


class Probes:
    """Probes by falling cosine with what is nearest: `cosines` (P,), whether they are `enrolled` (P,),
    and whether the nearest is of their own class, `right` (P,)."""

    def __init__(self, cosines: np.ndarray, enrolled: np.ndarray, right: np.ndarray):
        self.order = np.argsort(-cosines, kind="stable")
        falling = cosines[self.order]
        self.enrolled, self.hit = enrolled[self.order], (enrolled & right)[self.order]
        self.last = np.append(falling[1:] != falling[:-1], True)  # of equal cosines

    def supported(self) -> tuple[str, ...]:
        """Return those of FPIRS for which there are enough unenrolled probes."""
        unenrolled = int((~self.enrolled).sum())
        return tuple(r for r in FPIRS if float(r) * unenrolled >= FALSE_ACCEPTS - 1e-9)

    def rates(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return FPIR and 1 − FNIR (K,) over falling thresholds, each probe (P,) with its weight."""
        weights = np.ones(len(self.order)) if weights is None else weights[self.order]
        unenrolled, enrolled = weights * ~self.enrolled, weights * self.enrolled
        fpir = np.cumsum(unenrolled)[self.last] / unenrolled.sum()
        identified = np.cumsum(weights * self.hit)[self.last] / enrolled.sum()
        return np.concatenate([[0.0], fpir]), np.concatenate([[0.0], identified])


def identification(fpir: np.ndarray, identified: np.ndarray, rates: tuple[str, ...]) -> dict[str, float]:
    """Return `fnir_at_fpir_<rate>` for each of some rates."""
    return {
        f"fnir_at_fpir_{rate}": float(1 - true_accepts(fpir, identified, float(rate))) for rate in rates
    }
