"""`python -m docs.logits` draws docs/logits.png: each member's target logit at its published margin."""

from pathlib import Path

import numpy as np
import torch

from src import plots
from src.config import read
from src.config.compose import CONF, compose_choices
from src.run.build import build_head

# SFace weighs gradients and leaves the logit as it is; QAMFace's logits run from 10 to 40;
# another's module has none.
WITHOUT_PANEL = ("sface", "qamface", "module")
LOSSES = sorted({path.stem for path in (CONF / "loss").glob("[!_]*.yaml")} - set(WITHOUT_PANEL))


def curve(name: str, angles: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """t(θ) and −dt/dθ of a member in evaluation mode, for embeddings of length 20."""
    overrides = [f"loss={name}"]
    config = read(compose_choices(overrides), overrides)
    head = build_head(config, 2, 2).double().eval()
    with torch.no_grad():
        head.weight.copy_(-torch.eye(2).view(2, *[1] * (head.weight.ndim - 2), 2))
        head.weight[0] = torch.tensor([1.0, 0.0])
        if name in ("asoftmax", "lsoftmax"):
            head.steps.fill_(1e6)  # its margin after the annealing; before, it is plain
    theta = angles.clone().requires_grad_()
    x = 20 * torch.stack([theta.cos(), theta.sin()], 1)
    z = head.margin_logits(x, torch.zeros(len(theta), dtype=torch.long))[:, 0]
    t = z / head.logits(torch.tensor([[20.0, 0.0]]))[0, 0].detach()  # the factor: cos 0 is 1
    (slope,) = torch.autograd.grad(t.sum(), theta)
    return t.detach().numpy(), -slope.numpy()


def main() -> None:
    angles = torch.linspace(0.002, np.pi - 0.002, 400, dtype=torch.double)
    made = plots.plot_logits({name: curve(name, angles) for name in LOSSES}, angles.numpy())
    print(plots.save(made, Path(__file__).parent / "logits.png"))


if __name__ == "__main__":
    main()
