"""A live bar on a terminal; on anything else nothing, and the log's epoch lines stand alone."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


class TrainingBar:
    """Steps done, running loss, the last value of the metric `watched`, images per second, time left.

    Of `epochs`, the first `trained` are over already. Reading the loss makes the device finish its
    queue, so that happens at most every two seconds.
    """

    def __init__(
        self,
        epochs: int,
        steps: int,
        batch_size: int,
        watched: str = "accuracy",
        trained: int = 0,
    ):
        self.steps, self.batch_size = steps, batch_size
        self.trained = self.epoch = trained
        self.began = self.looked = time.perf_counter()
        console = Console(stderr=True)
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]:>3}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[watched]} {task.fields[value]:.3f}"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
            refresh_per_second=4,
        )
        nothing = float("nan")
        self.task = self.bar.add_task(
            "",
            total=epochs * steps,
            completed=trained * steps,
            epoch=trained + 1,
            loss=nothing,
            watched=watched.replace("_", " "),
            value=nothing,
            speed=0.0,
        )

    def __enter__(self) -> "TrainingBar":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, step: int, losses: Tensor) -> None:
        """After step `step` (from 0) of an epoch whose losses are in `losses` (steps,)."""
        now = time.perf_counter()
        if not self.live or now - self.looked < 2:
            return
        self.looked = now
        done = self.epoch * self.steps + step + 1
        self.bar.update(
            self.task,
            completed=done,
            epoch=self.epoch + 1,
            loss=float(losses[step]),
            speed=self.speed(done, now),
        )

    def speed(self, done: int, now: float) -> float:
        """Images per second, since this bar began."""
        return (done - self.trained * self.steps) * self.batch_size / (now - self.began)

    def epoch_done(self, epoch: int, loss: float, value: float) -> None:
        self.epoch = epoch
        done = epoch * self.steps
        speed = self.speed(done, time.perf_counter())
        self.bar.update(self.task, completed=done, epoch=epoch, loss=loss, value=value, speed=speed)
