"""Does a promised share of false accepts hold? python -m benchmarks.threshold <run>/embeddings.npz

Of the test classes of a run, 40 are the gallery with ten images each, and some others the validation
images that a threshold is chosen on; all that are left are new people. 1,000 draws: how often more of
the new images are accepted than was promised with 95% probability, and how often without a promise, by
the share of validation images alone.
"""

import sys

import numpy as np

from src.evaluation.threshold import promised_threshold

DRAWS, GALLERY = 1000, 40
SETTINGS = [(96, 0.05), (96, 0.1), (200, 0.05), (40, 0.1)]  # validation classes, promised share


def main(path: str) -> None:
    found = np.load(path)
    x = found["embeddings"] / np.linalg.norm(found["embeddings"], axis=1, keepdims=True)
    rows = [np.flatnonzero(found["labels"] == label) for label in np.unique(found["labels"])]
    rng = np.random.default_rng(0)
    for classes, rate in SETTINGS:
        broken, plain, accepted, promised = 0, 0, [], 0
        for _ in range(DRAWS):
            order = rng.permutation(len(rows))
            gallery = np.concatenate([rows[label][:10] for label in order[:GALLERY]])
            known, new = order[GALLERY : GALLERY + classes], order[GALLERY + classes :]
            nearest = [
                (x[np.concatenate([rows[label] for label in some])] @ x[gallery].T).max(1)
                for some in (known, new)
            ]
            labels = np.repeat(known, [len(rows[label]) for label in known])
            promise = promised_threshold(nearest[0], labels, rate)
            share = (nearest[1] > promise.cosine).mean()
            broken += share > promise.rate
            promised += promise.rate <= rate
            accepted.append(share)
            plain += (nearest[1] > np.quantile(nearest[0], 1 - rate)).mean() > rate
        print(
            f"{classes} classes, {rate:.0%} asked: can be promised in {promised / DRAWS:.0%} of draws, "
            f"broken in {broken / DRAWS:.1%}, {np.mean(accepted):.1%} accepted; without a promise more "
            f"than {rate:.0%} in {plain / DRAWS:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
