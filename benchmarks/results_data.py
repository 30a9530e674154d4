"""Make, from Omniglot and Fashion-MNIST, the data sets of docs/results.md that nobody publishes:

    DATA_ROOT=<folder> python -m benchmarks.results_data <out>

`letters/` stands for a small folder of one's own: 40 characters, 10 drawings each, and `products/` for
another: 10 kinds of clothes, 80 photographs each. `features.npz` is
what an encoder gives for classes that it has not seen: the 659 test characters and their quarter turns,
1,000 of those 2,636 classes, 20 drawings each. The encoder is trained here, with softmax on the other
964, 2 min on two cores. Letters and features share no character."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from src import api
from src.datasets import Split, fashion_mnist, omniglot

LETTERS, DRAWINGS, CLASSES, PHOTOGRAPHS = 40, 10, 1000, 80


def main(out: str) -> None:
    root, folder = Path(os.environ["DATA_ROOT"]), Path(out)
    write_letters(root, folder / "letters")
    write_products(root, folder / "products")
    encoder = api.train(
        "experiment=omniglot_open_set",
        "loss=softmax",
        "epochs=6",
        "logger=csv",
        folder=folder / "encoder",
    )
    write_features(root, api.load(encoder), folder / "features.npz")


def write_letters(root: Path, folder: Path) -> None:
    """The first drawings of characters that are drawn from the training characters."""
    data = omniglot(root).train
    chosen = np.random.default_rng(0).choice(len(data.classes), LETTERS, replace=False)
    for label in chosen:
        name = data.classes[label].replace("/", "_")
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(data.images[data.labels == label][:DRAWINGS]):
            Image.fromarray(np.asarray(image).squeeze()).save(folder / name / f"{number}.png")


def write_products(root: Path, folder: Path) -> None:
    """The first test images of each class of Fashion-MNIST."""
    data = fashion_mnist(root).test
    for label, name in enumerate(data.classes):
        place = folder / name.replace("/", "_")
        place.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(data.images[data.labels == label][:PHOTOGRAPHS]):
            Image.fromarray(np.asarray(image).squeeze()).save(place / f"{number}.png")


def write_features(root: Path, encoder: api.Trained, file: Path) -> None:
    """The embeddings of the test characters, each also turned by 90, 180 and 270 degrees."""
    data = encoder.data(encoder.config).test
    found, labels = [], []
    for turn in range(4):
        turned = Split(torch.rot90(data.images, turn, (-2, -1)), data.labels, data.mean, data.std)
        found.append(encoder.embed(turned).cpu().numpy())
        labels.append(np.asarray(data.labels.cpu()) * 4 + turn)
    features, labels = np.concatenate(found), np.concatenate(labels)
    kept = np.random.default_rng(0).choice(len(np.unique(labels)), CLASSES, replace=False)
    inside = np.isin(labels, np.unique(labels)[kept])
    np.savez_compressed(file, features=features[inside], labels=labels[inside])
    print(f"{file}: {inside.sum()} features of {features.shape[1]} numbers, {CLASSES} classes")


if __name__ == "__main__":
    main(sys.argv[1])
