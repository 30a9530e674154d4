"""What a batch costs beside the step that it feeds: `python -m benchmarks.data`. Aim: at most 1%; and
what it costs to change all its images at random in every way there is; and to read image files.

The default model and ArcFace, on images of the shape and number of the digits and of Fashion-MNIST.
"""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import interleaved, machine
from src.datasets import Augmentation, Split
from src.datasets.files import in_parallel
from src.datasets.images import to_bytes
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
FILES = {"drawing": ("PNG", "1", 105), "face": ("JPEG", "RGB", 112), "photograph": ("JPEG", "RGB", 500)}
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
    reading_files()


def reading_files() -> None:
    rng = np.random.default_rng(0)
    print("reading image files by several threads, as a share of the time that one takes")
    for name, (kind, mode, side) in FILES.items():
        coarse = rng.integers(256, size=(side // 8, side // 8, 3), dtype=np.uint8)
        file, shape = io.BytesIO(), (1 if mode == "1" else 3, side, side)
        Image.fromarray(coarse).resize((side, side)).convert(mode).save(file, kind)

        def read(_, file=file, shape=shape) -> np.ndarray:
            return to_bytes(file.getvalue(), shape, "image")

        with ThreadPoolExecutor() as pool:
            ways = {
                "one": lambda read=read: in_parallel(read, range(500), threads=1),
                "an image at a time": lambda read=read, pool=pool: list(pool.map(read, range(500))),
                "several at a time": lambda read=read: in_parallel(read, range(500)),
            }
            seconds = interleaved(ways, rounds=8)
        each = f"{name}, {side}×{side} {kind}, {seconds['one'] * 2:.2f} ms"
        for way in list(ways)[1:]:
            print(f"  {each:34} {way:20} ratio {seconds[way] / seconds['one']:.2f}")


if __name__ == "__main__":
    main()
