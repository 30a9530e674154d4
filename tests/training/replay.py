"""A CPU that records and replays as CUDA does: operations on memory, without Python.

What `record` sees are torch's operations, backward and optimizer included. Replayed, each runs again on
the tensors that it was given, and its results go where they went: numbers that Python chose stay as they
were, and what Python would have done besides does not happen. So whatever a CUDA graph would get wrong
for such a reason is wrong here too; streams, kernels and memory pools are CUDA's own."""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src.training.graph import AWAITS, DRAWS, drawn_by_python

HOST_WAITS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero"}
HOST_WAITS |= {"aten::masked_select", "aten::_unique2", "aten::unique_dim"}


class Watched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waited = False

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        by_mask = operation.name().startswith("aten::index.") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in arguments[1]
        )
        self.waited |= by_mask or operation.name().partition(".")[0] in HOST_WAITS
        return operation(*arguments, **(options or {}))


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = options or {}
        results = operation(*arguments, **options)
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors(arguments, options)}
        made = tensors(results)
        views = any(tensor.untyped_storage().data_ptr() in given for tensor in made)
        if operation._schema.is_mutable:
            self.calls.append((operation, arguments, options, []))
        elif not views:  # a view of memory needs no second look at it
            self.calls.append((operation, arguments, options, made))
        return results

    @torch.no_grad()
    def replay(self):
        for operation, arguments, options, made in self.calls:
            for tensor, again in zip(made, tensors(operation(*arguments, **options)), strict=False):
                tensor.copy_(again)


def tensors(*values) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class FakeGraphs:
    """A Recorder. CUDA does nothing while it records; this does the step, and then no first replay."""

    def __init__(self):
        self.obstacle, self.replays = None, 0

    @contextmanager
    def warm_up(self):
        drawn = drawn_by_python()  # torch's own draws are on the CPU here, and replayed
        with Watched() as watched:
            yield
        drew = self.obstacle == DRAWS or drawn != drawn_by_python()
        self.obstacle = DRAWS if drew else AWAITS if watched.waited else None

    def record(self, work):
        with Tape() as tape:
            result = work()

        def replay():
            self.replays += 1
            if self.replays > 1:
                tape.replay()

        return replay, result
