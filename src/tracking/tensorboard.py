"""A run in TensorBoard: event files in `<run>/tensorboard`."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import BadKey
from .runs import Reporter, Shown

FOLDER = "tensorboard"


def check_installed() -> None:
    """Raise BadKey if the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        why = "the package is not installed: pip install tensorboard"
        raise BadKey("logger.tensorboard", True, why)


class TensorboardTracker(Reporter):
    """Writes the run in `folder` as event files. Those of an earlier process are replaced: a run that
    goes on reports its rows again."""

    name = "TensorBoard"

    def __init__(self, folder: Path):
        self.folder, self.writer, self.epochs = folder / FOLDER, None, 0
        self._try(self._open)

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self.folder, ignore_errors=True)
        self.writer = SummaryWriter(str(self.folder))

    def epoch(self, row: dict) -> None:
        self.epochs = int(row["epoch"])
        self._try(self._scalars, {key: value for key, value in row.items() if key != "epoch"})

    def result(self, metrics: dict) -> None:
        self._try(self._scalars, metrics)

    def _scalars(self, values: dict) -> None:
        for key, value in values.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(key, value, self.epochs)
        self.writer.flush()

    def show(self, shown: Callable[[], Shown]) -> None:
        self._try(lambda: self._show(shown()))

    def _show(self, shown: Shown) -> None:
        from PIL import Image

        for path in shown.figures:
            if path.suffix != ".gif":
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                self.writer.add_image(f"plots/{path.stem}", pixels, self.epochs, dataformats="HWC")

    def tag(self, name: str) -> None:
        self._try(lambda: self.writer.add_text("tag", name, self.epochs))

    def close(self) -> None:
        self._try(lambda: self.writer.close())
