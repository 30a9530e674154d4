"""One step of training, in one place: forward, backward, update."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .average import Average
from .device import Device


@dataclass
class Step:
    """What a step changes, and how. `augment` changes a batch of images. The gradient is the mean of
    those of `accumulate` batches; `clip_norm` is the most that its norm, over all weights together, may
    be, and it is scaled down to it. `average` follows the weights. Parameters that require no gradient
    stay, and so do the running statistics beside them."""

    backbone: nn.Module
    head: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    device: Device
    augment: Callable[[Tensor], Tensor] | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    average: Average | None = None

    def __post_init__(self):
        self.trained = [*self.backbone.parameters(), *self.head.parameters()]

    def train_mode(self) -> None:
        self.backbone.train(), self.head.train()
        for module in filter(is_frozen, self.backbone.modules()):
            module.training = False  # not those inside it, which may train

    def __call__(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Train on `accumulate` batches of images (B, channels, height, width) and labels (B,), and
        return their mean loss, which stays on the device: nothing here waits for it."""
        self.optimizer.zero_grad()
        mean = None
        for images, labels in batches:
            with self.device.autocast():
                embeddings = self.backbone(self.augment(images) if self.augment else images)
            loss = self.head(embeddings, labels)
            if self.accumulate > 1:
                loss = loss / self.accumulate
            loss.backward()
            mean = loss.detach() if mean is None else mean + loss.detach()
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update(self.backbone, self.head)
        return mean


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, and trains none of them."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
