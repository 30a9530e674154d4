"""A run against the usual script for it, at the same number of epochs: DataLoader with ToTensor and
Normalize for every image, float32, a head that is normalise + linear + margin on a one-hot matrix.

    DATA_ROOT=<folder with FashionMNIST/raw> python -m benchmarks.script [small_cnn|convnet] [images]

Both train the same network with ArcFace on the same images of Fashion-MNIST and are measured on the same
test images, in turns, each with all cores; the ratio is of training time alone, the best of the rounds.
Start-up and evaluation are outside it. The script's network has its ReLUs before the poolings, as is
usual, which gives the same numbers.
"""

import os
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import machine
from src import models
from src.datasets import Split, fashion_mnist, load
from src.losses import ArcFace
from src.models import build_backbone
from src.torchvision_compat import transforms
from src.training import (
    Step,
    adam,
    build_optimizer,
    choose_device,
    constant_rate,
    embed,
    fit,
    shuffled,
)

EPOCHS, BATCH, ROUNDS, WORKERS = 2, 256, 2, 2


class Images(Dataset):
    """As torchvision's data sets do: one image at a time, through PIL, to a tensor, normalised."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels
        mean, std = images.mean() / 255, images.std() / 255
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((mean,), (std,))]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class UsualArcFace(nn.Module):
    """The head as it is usually written: one-hot, arccos, cos."""

    def __init__(self, dimension: int, classes: int, margin: float, scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dimension))
        nn.init.xavier_uniform_(self.weight)
        self.margin, self.scale = margin, scale

    def forward(self, x, y):
        cosine = F.linear(F.normalize(x), F.normalize(self.weight))
        theta = torch.acos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))
        one_hot = F.one_hot(y, len(self.weight)).float()
        return F.cross_entropy(self.scale * torch.cos(theta + self.margin * one_hot), y)


def backbone_of(model: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(getattr(models, model)((1, 28, 28)), (1, 28, 28), 16)


def in_usual_order(backbone: nn.Module) -> nn.Module:
    for layers in [module for module in backbone.modules() if isinstance(module, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(list(layers))):
            if isinstance(first, nn.MaxPool2d) and isinstance(second, nn.ReLU):
                layers[i], layers[i + 1] = second, first
    return backbone


def usual(model: str, train: Images) -> tuple[float, nn.Module, torch.Tensor]:
    backbone, head = in_usual_order(backbone_of(model)), UsualArcFace(16, 10, 0.5, 16.0)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.003)
    loader = DataLoader(train, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
    began = time.perf_counter()
    for _ in range(EPOCHS):
        backbone.train()
        total = 0.0
        for images, labels in loader:
            loss = head(backbone(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
    return time.perf_counter() - began, backbone, head.weight.detach()


def ours(model: str, data, device) -> tuple[float, nn.Module, torch.Tensor]:
    backbone = backbone_of(model).to(memory_format=torch.channels_last)
    head = ArcFace(16, 10, margin=0.5, scale=16.0)
    optimizer = build_optimizer(adam, backbone, head, lr=0.003, head_lr=None)
    schedule = constant_rate(optimizer, len(data.train) // BATCH, EPOCHS)
    step = Step(data.train, backbone, head, optimizer, schedule, device)
    began = time.perf_counter()
    order, generator = shuffled(len(step.data)), torch.Generator()
    for _ in fit(step, epochs=EPOCHS, batch_size=BATCH, generator=generator, order=order):
        pass
    return time.perf_counter() - began, backbone, head.prototypes


def accuracy(backbone: nn.Module, weight: torch.Tensor, data, device) -> float:
    x = F.normalize(embed(backbone, data.test, device))
    return float(((x @ F.normalize(weight).T).argmax(1) == data.test.labels).float().mean())


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "small_cnn"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 12_000
    device = choose_device("cpu", None, "fp32")
    data = load(fashion_mnist, os.environ["DATA_ROOT"], device.torch)
    images, labels = data.train.images[:count], data.train.labels[:count]
    data = replace(data, train=Split(images, labels, data.train.mean, data.train.std))
    usual_data = Images(images[:, 0].numpy(), labels.numpy())
    ways = {
        "usual script": lambda: usual(model, usual_data),
        "this project": lambda: ours(model, data, device),
    }
    seconds = {way: [] for way in ways}
    accuracies = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, train in ways.items():
            took, backbone, weight = train()
            seconds[way].append(took)
            accuracies[way].append(accuracy(backbone, weight, data, device))
    print(f"{model}, {count:,} images of Fashion-MNIST, {EPOCHS} epochs, batch {BATCH}; {machine()}")
    for way in ways:
        best = min(seconds[way])
        shown = ", ".join(f"{value:.3f}" for value in accuracies[way])
        print(f"  {way}: {best:.1f} s, {EPOCHS * count / best:,.0f} images/s, test accuracy {shown}")
    print(f"  ratio {min(seconds['usual script']) / min(seconds['this project']):.2f}")


if __name__ == "__main__":
    main()
