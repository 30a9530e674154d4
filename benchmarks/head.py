"""A small head (B 512, D 3, C 10), forward and backward, against normalise + linear + cross entropy
without any margin: `python -m benchmarks.head`. Aim: at most 1.3 times as long with the margin."""

import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved, machine
from src.losses import HEADS

B, D, C = 512, 3, 10
OPTIONS = {
    "softmax": {},
    "normface": {"scale": 30.0},
    "cosface": {"scale": 64.0, "margin": 0.35},
    "arcface": {"scale": 64.0, "margin": 0.5},
    "sphereface": {"scale": 64.0, "margin": 1.35},
    "combined": {"scale": 64.0, "margin": (1.0, 0.3, 0.2)},
}


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tensors this small only lose by more
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(B, D, device=device, requires_grad=True)
    y = torch.randint(C, (B,), device=device)
    w = torch.randn(C, D, device=device, requires_grad=True)

    def plain() -> None:
        x.grad = w.grad = None
        F.cross_entropy(64.0 * F.linear(F.normalize(x), F.normalize(w)), y).backward()

    def step(head) -> None:
        x.grad = head.weight.grad = None
        head(x, y).backward()

    base = "normalise + linear + cross entropy"
    ways = {base: plain}
    for name, options in OPTIONS.items():
        head = HEADS[name](D, C, **options).to(device)
        ways[name] = lambda head=head: step(head)
    seconds = interleaved(ways, rounds=60, calls=20)

    print(f"head forward + backward, B {B}, D {D}, C {C}; {machine()}")
    for name, taken in seconds.items():
        print(f"  {name:36} {taken * 1e6:7.0f} µs   ratio {taken / seconds[base]:.2f}")


if __name__ == "__main__":
    main()
