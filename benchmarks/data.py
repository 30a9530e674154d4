"""What a batch costs beside the step that it feeds: `python -m benchmarks.data`. Aim: at most 1%.

The default model and ArcFace, on images of the shape and number of the digits and of Fashion-MNIST.
"""

import torch

from benchmarks.timing import interleaved, machine
from src.datasets import Split
from src.losses import ArcFace
from src.models import build_backbone
from src.training import build_optimizer, choose_device

CASES = {"digits": (1437, 8, 64), "Fashion-MNIST": (60_000, 28, 256)}  # images, pixels, batch


def main() -> None:
    torch.manual_seed(0)
    device = choose_device("auto", None, "fp32").torch
    print(f"data as a share of a training step, small_cnn; {machine()}")
    for name, (count, pixels, size) in CASES.items():
        images = torch.randint(256, (count, 1, pixels, pixels), dtype=torch.uint8, device=device)
        train = Split(images, torch.randint(10, (count,), device=device), [73.0], [90.0])
        backbone = build_backbone("small_cnn", (1, pixels, pixels), 3)
        backbone = backbone.to(device, memory_format=torch.channels_last)
        head = ArcFace(3, 10, margin=0.5, scale=64.0).to(device)
        optimizer = build_optimizer("adam", backbone, head, lr=0.003, head_lr=None)
        index = torch.randperm(count, device=device)[:size]

        def step(train=train, index=index, backbone=backbone, head=head, optimizer=optimizer) -> None:
            images, labels = train.batch(index)
            optimizer.zero_grad()
            head(backbone(images), labels).backward()
            optimizer.step()

        ways = {"batch": lambda train=train, index=index: train.batch(index), "step": step}
        seconds = interleaved(ways, rounds=12, calls=10)
        batch, whole = seconds["batch"] * 1e3, seconds["step"] * 1e3
        print(f"  {name:14} batch {batch:6.3f} ms of {whole:6.2f} ms   ratio {batch / whole:.4f}")


if __name__ == "__main__":
    main()
