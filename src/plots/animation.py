"""How embeddings move during training: a GIF with one frame per epoch."""

import io

import matplotlib
import numpy as np
from PIL import Image

from .comparison import Sphere, aligned_spheres
from .projection import to_dimensions
from .sphere import add_legend, draw_flat, draw_globe, thin
from .style import STYLE, font_warnings_in_one_line, new_figure

FRAME_MS, LAST_FRAME_MS = 200, 2000
POINTS_PER_CLASS = 100


def animate(
    frames: list[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    classes: tuple[str, ...],
    title: str = "",
) -> bytes:
    """The content of a GIF file with frames (embeddings (N, D), prototypes (C, D)), one per epoch, and
    labels (N,). In three dimensions, each frame is rotated onto the last one's prototypes; in others,
    all are projected onto one plane."""
    if frames[0][0].shape[1] == 3:
        spheres = [Sphere("", x, labels, prototypes) for x, prototypes in reversed(frames)]
        aligned = reversed(aligned_spheres(spheres))
        projected = [(sphere.points, sphere.prototypes) for sphere in aligned]
    else:
        # Frames are comparable only on a common plane, so all of them determine it.
        parts = [part for frame in frames for part in frame]
        flat, _ = to_dimensions(np.concatenate(parts), frames[-1][1], 2)
        parts = np.split(flat, np.cumsum([len(part) for part in parts])[:-1])
        projected = list(zip(parts[::2], parts[1::2], strict=True))
    images, content = [], io.BytesIO()
    with matplotlib.rc_context(STYLE | {"axes.grid": False}), font_warnings_in_one_line():
        for epoch, (points, prototypes) in enumerate(projected, 1):
            fig = new_figure(6.4, 7.2)
            axes = fig.subplots()
            draw = draw_globe if prototypes.shape[1] == 3 else draw_flat
            draw(axes, *thin(points, labels, POINTS_PER_CLASS), prototypes, classes)
            fig.suptitle(f"{title}, epoch {epoch}", x=0.01, ha="left", fontsize=11)
            add_legend(fig, np.unique(labels), classes)
            fig.canvas.draw()
            images.append(Image.fromarray(np.asarray(fig.canvas.buffer_rgba())).convert("RGB"))
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_FRAME_MS]
    how = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0}
    images[0].save(content, "GIF", **how)
    return content.getvalue()
