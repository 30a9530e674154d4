"""Retrieval chunk by chunk against one full matrix: `python -m benchmarks.retrieval`. Aim: 100,000
embeddings in less than 2 GiB above them, as fast as the matrix where that fits.

Clusters in 512 dimensions, 20 to a class; the full matrix is made of 20,000.
"""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved, machine
from src.datasets import von_mises_fisher
from src.evaluation import retrieval
from src.training import choose_device

PER_CLASS, DIMENSION = 20, 512


def clusters(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (N, 512) and labels (N,)."""
    means = np.random.default_rng(0).normal(size=(classes, DIMENSION))
    labels = np.repeat(np.arange(classes), PER_CLASS)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    x = von_mises_fisher(labels, means, concentration=300.0, seed=0)
    return torch.from_numpy(x), torch.from_numpy(labels)


def full_matrix(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Recall@1 and MAP@R as one would write them down first."""
    x = F.normalize(x, dim=1)
    cosines = (x @ x.T).fill_diagonal_(-torch.inf)
    right = y[cosines.topk(PER_CLASS - 1).indices] == y[:, None]
    precision = right.cumsum(1) / torch.arange(1, PER_CLASS)
    return float(right[:, 0].float().mean()), float((precision * right).mean())


def memory(which: str) -> float:
    """GiB that this process has now (VmRSS), or has had at most (VmHWM); Linux says so."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if which in line)
    return int(line.split()[1]) / 2**20


def main() -> None:
    choose_device("cpu", None, "fp32")
    print(f"retrieval, {DIMENSION} dimensions; {machine()}")
    x, y = clusters(100_000 // PER_CLASS)
    Path("/proc/self/clear_refs").write_text("5")  # the most, from now on
    before, began = memory("VmRSS"), time.perf_counter()
    found = retrieval(x, y).metrics
    took, above = time.perf_counter() - began, memory("VmHWM") - before
    print(
        f"  100,000 embeddings ({x.nbytes / 2**30:.2f} GiB): {took:.1f} s, {above:.2f} GiB "
        f"above them; Recall@1 {found['recall_at_1']:.4f}, MAP@R {found['map_at_r']:.4f}"
    )
    x, y = clusters(20_000 // PER_CLASS)
    found = retrieval(x, y).metrics
    both = found["recall_at_1"], found["map_at_r"]
    assert np.allclose(both, full_matrix(x, y), atol=1e-5), "the two do not agree"
    ways = {"chunked": lambda: retrieval(x, y), "full": lambda: full_matrix(x, y)}
    seconds = interleaved(ways, rounds=3)
    ratio = seconds["chunked"] / seconds["full"]
    matrix = f"a full matrix ({len(x) ** 2 * 4 / 2**30:.2f} GiB)"
    print(
        f"  20,000 embeddings: {seconds['chunked']:.2f} s chunk by chunk, {seconds['full']:.2f} s with "
        f"{matrix}   ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
