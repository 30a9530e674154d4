"""How embeddings move while training: a GIF, a frame an epoch."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from .comparison import Sphere, turned_alike
from .projection import to_dimensions
from .sphere import draw_flat, draw_globe, legend, thin
from .style import STYLE, figure

FRAME_MS, LAST_MS = 200, 2000


def animate(
    frames: list[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    classes: tuple[str, ...],
    path: Path,
    title: str = "",
) -> Path:
    """Write frames of (embeddings (N, D), prototypes (C, D)) as a GIF. In three dimensions each is
    turned onto the last one's prototypes; in others, all are projected on one plane."""
    if frames[0][0].shape[1] == 3:
        spheres = [Sphere("", x, labels, prototypes) for x, prototypes in reversed(frames)]
        shown = [(sphere.points, sphere.prototypes) for sphere in reversed(turned_alike(spheres))]
    else:
        # One projection for all: points and prototypes of every frame in one go.
        everything = np.concatenate([part for frame in frames for part in frame])
        flat, _ = to_dimensions(everything, frames[-1][1], 2)
        parts = np.split(flat, np.cumsum([len(part) for frame in frames for part in frame])[:-1])
        shown = list(zip(parts[::2], parts[1::2], strict=True))
    pictures = []
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        for epoch, (points, ends) in enumerate(shown, 1):
            made = figure(6.4, 7.2)
            axes = made.subplots()
            draw = draw_globe if ends.shape[1] == 3 else draw_flat
            draw(axes, *thin(points, labels, 100), ends, classes)
            made.suptitle(f"{title}, epoch {epoch}", x=0.01, ha="left", fontsize=11)
            legend(made, np.unique(labels), classes)
            made.canvas.draw()
            pictures.append(Image.fromarray(np.asarray(made.canvas.buffer_rgba())).convert("RGB"))
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [FRAME_MS] * (len(pictures) - 1) + [LAST_MS]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0)
    return path
