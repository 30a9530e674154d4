"""Two or more ways to do a thing, timed against each other fairly."""

import time
from collections.abc import Callable
from statistics import median

import torch


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, calls: int = 1) -> dict[str, float]:
    """Median seconds of one call of each way. Each round runs every way `calls` times, one way after
    the other, so that whatever else the machine does falls on all of them."""

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 2):  # the first two warm up
        for name, way in ways.items():
            wait()
            began = time.perf_counter()
            for _ in range(calls):
                way()
            wait()
            if turn >= 2:
                times[name].append((time.perf_counter() - began) / calls)
    return {name: median(values) for name, values in times.items()}


def machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
