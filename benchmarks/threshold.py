"""Does a promised share of false accepts hold? python -m benchmarks.threshold <run>/embeddings.npz

Of the test classes of a run, 40 are the gallery with ten images each; all others are the new people, of
whom some are drawn as the validation classes that a threshold is chosen on. 1,000 draws: how often more
of all new images are accepted than was promised with 95% probability, and how often without a promise,
by the share of validation images alone.
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
            new = [(x[rows[label]] @ x[gallery].T).max(1) for label in order[GALLERY:]]
            known = [new[i] for i in rng.integers(len(new), size=classes)]
            labels = np.repeat(np.arange(classes), [len(each) for each in known])
            cosines, every = np.concatenate(known), np.concatenate(new)
            promise = promised_threshold(cosines, labels, rate)
            share = (every > promise.cosine).mean()
            broken += share > promise.rate
            promised += promise.rate <= rate
            accepted.append(share)
            plain += (every > np.quantile(cosines, 1 - rate)).mean() > rate
        print(
            f"{classes} classes, {rate:.0%} asked: can be promised in {promised / DRAWS:.0%} of draws, "
            f"broken in {broken / DRAWS:.1%}, {np.mean(accepted):.1%} accepted; without a promise more "
            f"than {rate:.0%} in {plain / DRAWS:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
