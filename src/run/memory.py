"""Plan the memory of a training: for `plan=true`, and to refuse a training that does not fit."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import Config
from ..datasets import Dataset, Split
from ..errors import UserError
from ..evaluation.closed_set import TILE as CLASSIFIED
from ..evaluation.retrieval import TILE as SEARCHED
from ..losses import CosineHead, Head
from ..losses.head import TILE
from ..training import Device, processes
from ..words import counted
from .parts import SOME_CLASSES, SOME_STEPS, build_head, build_training, penalty_of

GIB, MIB = 2**30, 2**20
TILED = 6  # matrices (B, a tile's classes) that a head in tiles holds at a time
BUFFERS = 1.45  # what convolutions take besides, as measured by benchmarks/memory.py
OF_A_PAIR = 100  # bytes: its rows, cosine and fold, and these in several orders
SIDE = 64  # of a matrix that an optimizer is tried on
FEWEST = 8  # images in a batch that are suggested


class Memory(NamedTuple):
    """Bytes that a training takes, by what they are for, and what `free` there is besides `used`, which
    this process holds already; None where that is not known."""

    parts: dict[str, int]
    used: int
    free: int | None

    @property
    def needed(self) -> int:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= self.free

    def lines(self) -> list[str]:
        named = {"held already": self.used} | {k: v for k, v in self.parts.items() if v}
        width = max(map(len, named))
        rows = [f"{name:<{width}}  {in_words(size):>9}" for name, size in named.items()]
        free = "" if self.free is None else f" of {in_words(self.free + self.used)} that there are"
        return [*rows, f"{'in all':<{width}}  {in_words(self.needed + self.used):>9}{free}"]


def in_words(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def memory_of(
    config: Config, backbone: nn.Module, data: Dataset, device: Device, pairs: dict[str, tuple]
) -> Memory:
    """Return the memory for training `backbone` with a head and evaluating it by `pairs`. The data and
    the backbone are in memory already. Activations are measured with two and four images, the rest is
    counted."""
    dimension, per_image = activations(backbone, data.train, device)
    classes = len(data.classes)
    few, more = (build_head_of(config, dimension, count) for count in (1, 2))
    of_class = (size_of(more) - size_of(few)) / SOME_CLASSES
    head = size_of(few) + of_class * (classes - SOME_CLASSES)
    states, own = states_of_a_weight(config), size_of(backbone, trained=True)
    batch, rate = config.batch_size, getattr(few, "sample_rate", 1)
    # Of classes in parts, process 0 has its share and, for checkpoints, the whole.
    share = 1 / processes.count() if config.device.class_parallel else 1
    sampled = head * rate * (1 + states) * (rate < 1)
    parts = {
        "weights of the head": head + head * share * (share < 1),
        "gradients": own + head * share * rate,
        "optimizer": (own + head + head * share * (share < 1)) * states,
        "sampled classes": sampled * share,
        "moving average": (head + size_of(backbone)) * bool(config.ema.decay),
        f"activations of {counted(batch, 'image')}": per_image * batch / processes.count(),
        "loss": of_loss((few, more), batch, dimension, math.ceil(classes * share), device, share < 1)
        + of_penalty(config, classes),
    }
    name, evaluation = of_evaluation(config, data, pairs, dimension)
    in_a_step = sum(size for part, size in parts.items() if part.startswith(("activations", "loss")))
    parts[name] = max(0, evaluation - in_a_step)  # which are not there at the same time
    used, free = used_and_free(device)
    return Memory({name: math.ceil(size) for name, size in parts.items()}, used, free)


def build_head_of(config: Config, dimension: int, thousands: int = 1) -> Head:
    """Build a head of so many thousand classes, only to look at it."""
    if isinstance(config.loss.arguments.get("class_weights"), list):  # of another length
        config = config.replace(loss={"class_weights": None})
    with torch.random.fork_rng(devices=[]):
        return build_head(config, dimension, thousands * SOME_CLASSES)


def size_of(module: nn.Module, trained: bool = False) -> int:
    """Bytes of the parameters and buffers of a module, or of the parameters that are `trained`."""
    tensors = module.parameters() if trained else (*module.parameters(), *module.buffers())
    return sum(t.numel() * t.element_size() for t in tensors if not trained or t.requires_grad)


def states_of_a_weight(config: Config) -> float:
    """Return how many numbers the optimizer keeps for each weight, found by a step of it; two for an
    optimizer from elsewhere."""
    if not config.optimizer.target.startswith(("src.", "torch.")):
        return 2
    return sum(value.numel() for value in states_of_a_matrix(config)) / SIDE**2


def states_are_of_weights(config: Config) -> bool:
    """Return whether the optimizer keeps one number for each weight, or single numbers, and no more."""
    states = states_of_a_matrix(config)
    return all(value.numel() == 1 or value.shape == (SIDE, SIDE) for value in states)


def states_of_a_matrix(config: Config) -> list[Tensor]:
    """Return the optimizer's state of a matrix (SIDE, SIDE) after a step."""
    with torch.random.fork_rng(devices=[]):
        head = nn.Linear(SIDE, SIDE, bias=False)
        body = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), nn.Linear(1, 1))
    optimizer, _ = build_training(config, body, head, SOME_STEPS)
    head.weight.grad = torch.ones_like(head.weight)
    optimizer.step()
    return [value for value in optimizer.state[head.weight].values() if isinstance(value, Tensor)]


def activations(backbone: nn.Module, train: Split, device: Device) -> tuple[int, float]:
    """The embedding's dimension, and the bytes that a step takes for the activations of each image."""
    backbone.eval()  # as in training, but for running statistics and draws
    sizes = []
    for count in (2, 4):
        rows = torch.arange(count, device=device.torch) % len(train)
        images, _ = next(iter(train.batches(rows, count)))
        with device.autocast():
            size, embeddings = held_by(backbone, lambda images=images: backbone(images))
        sizes.append(size)
    return embeddings.shape[1], BUFFERS * (sizes[1] - sizes[0]) / 2


def held_by(module: nn.Module, forward: Callable[[], Tensor]) -> tuple[int, Tensor]:
    """The bytes that `forward` keeps for a backward pass, weights left out, with what that takes: twice
    the largest of them. And what it returned."""
    weights = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    return sum(kept.values()) + 2 * max(kept.values(), default=0), result


def of_loss(
    heads: tuple[Head, Head], batch: int, dimension: int, classes: int, device: Device, tiled=False
) -> float:
    """Bytes that a head of so many classes takes for a step, beside its weights and their gradients. A
    head without tiles is measured: it holds α B C + β C."""
    head = heads[0]
    if isinstance(head, CosineHead):
        tile = head.classes_at_a_time(batch, classes, device.torch.type)
        if tile or tiled:
            tile = tile or TILE
            tile, rows = min(tile, classes) * head.centres, classes * head.centres
            number = head.weight.element_size()
            matrices = 1 if head.tiling == "triton" else TILED
            return number * (matrices * batch * tile + tile * dimension + 2 * rows)
    size = 2 * dimension  # so many embeddings that matrices (B, C) are the largest
    (few, few_twice), (more, more_twice) = ([of_step(h, n) for n in (size, 2 * size)] for h in heads)
    of_both = (more_twice - more - few_twice + few) / (size * SOME_CLASSES)
    of_class = (more - few) / SOME_CLASSES - size * of_both
    return classes * (of_both * batch + of_class)


def of_penalty(config: Config, classes: int) -> float:
    """Bytes that a penalty of class weights takes, which looks at all pairs of them."""
    penalty = penalty_of(config)
    if penalty is None:
        return 0.0
    with torch.random.fork_rng(devices=[]):
        few = nn.Linear(2, SOME_CLASSES, bias=False)
    return held_by(few, lambda: penalty(few.weight))[0] * (classes / SOME_CLASSES) ** 2


def of_evaluation(
    config: Config, data: Dataset, pairs: dict[str, tuple], dimension: int
) -> tuple[str, float]:
    """The largest evaluation in words, and the bytes that it takes: cosines of a tile with what is next
    to them, what is sorted for each pair, and some copies of the embeddings."""
    largest = max(len(split) for split in (data.val, data.test) if split is not None)
    closed = config.evaluation.protocol == "closed_set"
    cosines = largest * (len(data.classes) if closed else largest)
    listed = max((len(each[0]) for each in pairs.values()), default=0)
    tile = CLASSIFIED if closed else SEARCHED
    size = 4 * min(cosines, tile) * 1.5 + OF_A_PAIR * listed + 12 * largest * dimension
    return f"evaluation of {counted(largest, 'image')}", size


def of_step(head: Head, count: int) -> int:
    """Bytes that a head holds for a step with so many embeddings."""
    embeddings = torch.linspace(-1, 1, count * head.embedding_dim).view(count, -1).requires_grad_()
    labels = torch.arange(count) % SOME_CLASSES
    return held_by(head, lambda: head(embeddings, labels))[0]


def used_and_free(device: Device) -> tuple[int, int | None]:
    """Bytes of the device's memory that this process holds, and that are free."""
    if device.torch.type == "cuda":
        return torch.cuda.memory_reserved(device.torch), torch.cuda.mem_get_info(device.torch)[0]
    used = kilobytes(Path("/proc/self/status"), "VmRSS")
    free = kilobytes(Path("/proc/meminfo"), "MemAvailable")
    with suppress(OSError, ValueError):  # no limit, or not on Linux
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()) - used)
    return used, free or None


def kilobytes(path: Path, name: str) -> int:
    """The bytes that a file of /proc has under a name; 0 where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def check_memory(config: Config, memory: Callable[[Config], Memory]) -> None:
    """Raise UserError if a training does not fit, with what would. `memory` gives that of another
    configuration as well."""
    needs = memory(config)
    if needs.fits:
        return
    lines = "; ".join(" ".join(line.split()) for line in needs.lines())
    changed = next((one for one in smaller(config) if memory(config.replace(**one[1])).fits), None)
    advice = f"it would fit with {changed[0]}" if changed else "no smaller batch would fit either"
    raise UserError(f"not enough memory: {lines}; {advice}")


def smaller(config: Config) -> Iterator[tuple[str, dict]]:
    """Yield changes that take less memory, as a user types them and as `Config.replace` takes them."""
    if config.loss.arguments.get("tiling") == "off":
        yield "loss.tiling=auto", {"loss": {"tiling": "auto"}}
    batch = config.batch_size // 2
    while batch >= FEWEST:
        yield f"batch_size={batch}", {"batch_size": batch}
        batch //= 2
