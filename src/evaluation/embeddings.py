"""The file that an evaluation leaves its embeddings in, `embeddings.npz`."""

from pathlib import Path

import numpy as np

from ..datasets.splits import Split
from ..durable import written_aside

THUMBNAILS = 300  # images beside the embeddings, for reports to show


def save_embeddings(path: Path, embeddings: np.ndarray, split: Split, prototypes: np.ndarray) -> None:
    """Write a compressed .npz with

    embeddings (N, D), labels (N,), prototypes (C, D) and the names of the split's `classes`
    names (N,)  the images' file names, if they come from files
    shown (n,)  rows of the images, evenly picked, that have a thumbnail; features have none
    thumbnails (n, height, width, channels) uint8
    """
    rows = np.linspace(0, len(embeddings) - 1, min(len(embeddings), THUMBNAILS)).astype(int)
    more = {} if split.names is None else {"names": split.names.astype(str)}
    if split.pictures:
        more |= {"shown": rows, "thumbnails": split.thumbnails(rows)}
    with written_aside(path) as beside:
        np.savez_compressed(
            beside,
            embeddings=embeddings,
            labels=split.labels.cpu().numpy(),
            classes=np.array(split.classes, dtype=str),
            prototypes=prototypes,
            **more,
        )
