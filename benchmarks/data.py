"""What a batch costs beside the step that it feeds: `python -m benchmarks.data`. Aim: at most 1%; and
what it costs to change all its images at random in every way there is.

The default model and ArcFace, on images of the shape and number of the digits and of Fashion-MNIST.
"""

import torch

from benchmarks.timing import interleaved, machine
from src.datasets import Augmentation, Split
from src.losses import ArcFace
from src.models import build_backbone, small_cnn
from src.training import adam, build_optimizer, choose_device

EVERYTHING = {
    "flip": 0.5,
    "crop": 2,
    "rotate": 15,
    "shift": 0.1,
    "zoom": 0.15,
    "shear": 10,
    "erase": 0.5,
}
CASES = {"digits": (1437, 8, 64), "Fashion-MNIST": (60_000, 28, 256)}  # images, pixels, batch


def main() -> None:
    torch.manual_seed(0)
    device = choose_device("auto", None, "fp32").torch
    print(f"data as a share of a training step, small_cnn; {machine()}")
    for name, (count, pixels, size) in CASES.items():
        images = torch.randint(256, (count, 1, pixels, pixels), dtype=torch.uint8, device=device)
        train = Split(images, torch.randint(10, (count,), device=device), [73.0], [90.0])
        backbone = build_backbone(small_cnn((1, pixels, pixels)), (1, pixels, pixels), 3)
        backbone = backbone.to(device, memory_format=torch.channels_last)
        head = ArcFace(3, 10, margin=0.5, scale=64.0).to(device)
        optimizer = build_optimizer(adam, backbone, head, lr=0.003, head_lr=None)
        index = torch.randperm(count, device=device)[:size]

        def step(train=train, index=index, backbone=backbone, head=head, optimizer=optimizer) -> None:
            images, labels = train.batch(index)
            optimizer.zero_grad()
            head(backbone(images), labels).backward()
            optimizer.step()

        augment = Augmentation(torch.Generator().manual_seed(0), **EVERYTHING)
        images = train.batch(index)[0]
        ways = {
            "batch": lambda train=train, index=index: train.batch(index),
            "augmentation": lambda augment=augment, images=images: augment(images),
            "step": step,
        }
        seconds = interleaved(ways, rounds=12, calls=10)
        for way in ("batch", "augmentation"):
            part, whole = seconds[way] * 1e3, seconds["step"] * 1e3
            print(f"  {name:14} {way:12} {part:6.3f} ms of {whole:6.2f} ms   ratio {part / whole:.4f}")


if __name__ == "__main__":
    main()
