"""Several processes that train one model: each takes a share of every batch, and all do the same steps.

The head sees the whole batch in every process: embeddings are gathered, so that statistics, draws and
means are those of one process. With classes in parts, each process holds some rows of W. Process 0 alone
writes, evaluates, and tells the others when to go on. torchrun starts them, or whatever else sets RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..losses import BadArgument

_places: list[tuple[str, int]] = []  # of each process, the machine and its number there
PATIENCE = timedelta(days=1)  # others wait while process 0 evaluates; one that ends is noticed at once


def connect(on_gpu: bool) -> None:
    """Connect the processes that were started together."""
    if on_gpu:
        place, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if max(place + 1, int(os.environ.get("LOCAL_WORLD_SIZE", 1))) > gpus:  # all refuse alike
            raise BadArgument("kind", "cuda", f"{gpus} GPUs are too few for so many processes here")
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    _places[:] = [("", 0)] * count()
    dist.all_gather_object(_places, (socket.gethostname(), os.getpid()))


def lost(within: float = 5) -> list[str]:
    """The processes on this machine that have ended, or end within so many seconds."""
    until = time.monotonic() + within
    while True:
        here = [i for i, (host, _) in enumerate(_places) if host == socket.gethostname()]
        gone = [f"process {i}" for i in here if not is_alive(_places[i][1])]
        if gone or time.monotonic() > until:
            return gone
        time.sleep(0.1)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError, IndexError):  # one that has ended, and that its parent has not asked for yet
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def disconnect() -> None:
    """End together: gloo aborts a process whose peers end while it is connected."""
    dist.barrier()
    leave()


def leave() -> None:
    """Leave the others, if this process is connected to any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def share(size: int, of: int | None = None) -> slice:
    """This process's part of so many rows, or that of process `of`; parts differ by one at most."""
    which, parts = rank() if of is None else of, count()
    return slice(size * which // parts, size * (which + 1) // parts)


def shares(order: Tensor, batch_size: int) -> tuple[Tensor, int]:
    """This process's part of every batch of an order of rows (N,), and the size of these parts."""
    own = share(batch_size)
    return order.view(-1, batch_size)[:, own].flatten(), own.stop - own.start


def told(message: object = None) -> object:
    """Return in every process the message of process 0."""
    if count() == 1:
        return message
    box = [message]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@torch.no_grad()
def synchronise(module: nn.Module) -> None:
    """Give all processes the weights of process 0: each computes the same ones, up to what its device
    does not repeat."""
    if count() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor, src=0)


def all_agree(yes: bool) -> bool:
    """Return whether all processes say yes."""
    if count() == 1:
        return yes
    votes = [None] * count()
    dist.all_gather_object(votes, yes)
    return all(votes)


class _Gather(torch.autograd.Function):
    """Own rows (b, D) -> those of all processes (B, D). All compute the same loss from these, and the
    gradients of what made the rows are averaged over processes: own rows count so many times."""

    @staticmethod
    def forward(ctx, own: Tensor, batch: int) -> Tensor:
        ctx.own = share(batch)
        return gathered_rows(own, batch)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad[ctx.own] * count(), None


def gathered_rows(own: Tensor, total: int) -> Tensor:
    """The rows of all processes, which are `share`s of a `total`, in order."""
    padded, lengths = _padded(own, total)
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def _padded(own: Tensor, total: int) -> tuple[Tensor, list[int]]:
    """Own rows, with zeros up to the length of the longest `share` of a `total`, and all lengths."""
    parts = [share(total, of=process) for process in range(count())]
    lengths = [part.stop - part.start for part in parts]
    padded = own.new_zeros(max(lengths), *own.shape[1:])
    padded[: len(own)] = own
    return padded, lengths


def collected_rows(own: Tensor, total: int) -> Tensor | None:
    """As `gathered_rows`, for process 0 alone; the others send theirs, and get None."""
    padded, lengths = _padded(own, total)
    parts = None if rank() else [torch.empty_like(padded) for _ in lengths]
    dist.gather(padded, parts, dst=0)
    if parts is None:
        return None
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def gathered(embeddings: Tensor, labels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The embeddings (B, D) and labels (B,) of all processes' parts of a batch."""
    if count() == 1:
        return embeddings, labels
    return _Gather.apply(embeddings, batch), gathered_rows(labels, batch)


def in_parallel(backbone: nn.Module) -> nn.Module:
    """The backbone with gradients averaged over all processes, and BatchNorm over the whole batch."""
    if count() == 1:
        return backbone
    on_gpu = any(parameter.is_cuda for parameter in backbone.parameters())
    if on_gpu:
        backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    else:  # torch's is of GPUs alone
        for module in backbone.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.forward = partial(normalised_over_processes, module)
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        return backbone
    return nn.parallel.DistributedDataParallel(backbone)


class _Sum(torch.autograd.Function):
    """The sum over all processes, each of which goes on with it."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _Sum.forward(ctx, grad)


def normalised_over_processes(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """BatchNorm of x (B, C, …) over the batches of all processes, in at least float32."""
    if not (norm.training and norm.track_running_stats):
        return type(norm).forward(norm, x)
    given, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
    other = [dim for dim in range(x.ndim) if dim != 1]
    shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
    number = x.new_tensor(float(x.numel() // x.shape[1]))
    dist.all_reduce(number)
    mean = _Sum.apply(x.sum(other)) / number
    centred = x - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(other)) / number
    with torch.no_grad():
        norm.num_batches_tracked += 1
        momentum = norm.momentum or 1 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance * number / (number - 1), momentum)
    x = centred * (variance + norm.eps).rsqrt().view(shape)
    x = x if norm.weight is None else x * norm.weight.view(shape) + norm.bias.view(shape)
    return x.to(given)


@contextmanager
def own_draws(augment, device: torch.device, *batch: int) -> Iterator[None]:
    """Within a block, each process draws for itself, with torch and in `augment`, by the run's seed and
    the number of the `batch`. Outside, all draw the same, which one process would draw."""
    if count() == 1:
        yield
        return
    seed = hash((torch.initial_seed(), rank(), *batch)) % 2**63
    if augment:
        augment.generator.manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def norm_of_gradients(backbone: nn.Module, head: nn.Module) -> tuple[list[nn.Parameter], Tensor]:
    """Return the parameters that have a gradient, and the norm of all gradients. The norm includes the
    classes that other processes hold."""
    weight = head.weight if getattr(head, "sample", None) is None else head.sample.weight
    others = [p for p in (*backbone.parameters(), *head.parameters()) if p is not head.weight]
    others = [p for p in others if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in others])
    if weight.grad is not None:
        norm = (norm.square() + head.shard.sum(weight.grad.square().sum())).sqrt()
    return [*others, weight], norm
