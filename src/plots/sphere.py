"""Embeddings as directions: on a sphere (D 3), on a circle (D 2), projected to a plane above."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .projection import to_dimensions
from .style import FAINT, INK, NAMED_CLASSES, STYLE, colour, figure, marker, shortened

POINTS_PER_CLASS = 400  # more only paint over each other


def plot_embedding(
    embeddings: np.ndarray,
    labels: np.ndarray,
    prototypes: np.ndarray,
    classes: tuple[str, ...],
    title: str = "",
    ends_are: str = "prototype",
) -> Figure:
    """Embeddings (N, D) coloured by labels (N,), and prototypes (C, D), or what `ends_are` says, as
    marked directions."""
    dimension = embeddings.shape[1]
    points, ends = to_dimensions(embeddings, prototypes, 3 if dimension == 3 else 2)
    points, labels = thin(points, labels, POINTS_PER_CLASS)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        if dimension == 3:
            made = figure(8, 4.9)
            front, back = made.subplots(1, 2)
            # Turned so that no prototype hides behind another more than it must.
            turn = _view(ends)
            draw_globe(front, points @ turn.T, labels, ends @ turn.T, classes)
            around = np.diag([-1.0, 1.0, -1.0]) @ turn
            draw_globe(back, points @ around.T, labels, ends @ around.T, classes)
            front.set_xlabel("one side")
            back.set_xlabel("the other side")
        else:
            made = figure(8, 6.4)
            axes = made.subplots()
            draw_flat(axes, points, labels, ends, classes, dimension == 2)
            axes.set_xlabel("" if dimension == 2 else f"first two principal components of {dimension}")
        made.suptitle(title, x=0.01, ha="left", fontsize=12)
        legend(made, np.unique(labels), classes, ends_are)
    return made


def thin(points: np.ndarray, labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` points of each class, in their order."""
    keep = np.concatenate([np.flatnonzero(labels == label)[:most] for label in np.unique(labels)])
    keep.sort()
    return points[keep], labels[keep]


def _view(ends: np.ndarray) -> np.ndarray:
    """The rotation (3, 3), of a fixed set of random ones, that sets prototypes furthest apart on
    the two pictures together; the same for the same prototypes."""
    rng = np.random.default_rng(0)
    best, best_gap = np.eye(3), -1.0
    for _ in range(200):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn[0] *= np.sign(np.linalg.det(turn))
        seen = ends @ turn.T
        flat = np.column_stack([seen[:, :2], 3 * np.sign(seen[:, 2])])  # the sides do not overlap
        gaps = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + 9 * np.eye(len(flat))
        if gaps.min() > best_gap:
            best, best_gap = turn, gaps.min()
    return best


def _frame(axes: Axes, reach: float = 1.24) -> None:
    axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _circle(axes: Axes) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color=FAINT, lw=1, zorder=0)
    _frame(axes)


def draw_globe(axes: Axes, points, labels, ends, classes) -> None:
    """An orthographic view along −z: the near half clear, the far half seen dimly through it."""
    _circle(axes)
    _grid(axes)
    far = points[:, 2] < 0
    _points(axes, points[far], labels[far], alpha=0.08, size=8)
    _points(axes, points[~far], labels[~far], alpha=0.55)
    near = ends[:, 2] >= 0
    _prototypes(axes, ends, classes, True, near)


def draw_flat(axes: Axes, points, labels, ends, classes, circle: bool = False) -> None:
    """Points in a plane; with `circle`, directions on the unit circle."""
    if circle:
        _circle(axes)
    _points(axes, points, labels, alpha=0.5, size=18)
    _prototypes(axes, ends, classes, circle)


def _grid(axes: Axes) -> None:
    tilt = np.radians(20)
    turn = np.linspace(0, 2 * np.pi, 200)
    circles = [
        np.stack(
            [np.cos(lat) * np.cos(turn), np.full_like(turn, np.sin(lat)), np.cos(lat) * np.sin(turn)]
        )
        for lat in np.radians((-60, -30, 0, 30, 60))
    ] + [
        np.stack([np.sin(turn) * np.cos(lon), np.cos(turn), np.sin(turn) * np.sin(lon)])
        for lon in np.radians(range(0, 180, 30))
    ]
    for x, y, z in circles:
        y, z = y * np.cos(tilt) - z * np.sin(tilt), y * np.sin(tilt) + z * np.cos(tilt)
        axes.plot(
            np.where(z >= 0, x, np.nan), np.where(z >= 0, y, np.nan), color="#e4e4e4", lw=0.6, zorder=0
        )


def _points(axes: Axes, points, labels, alpha: float, size: float = 13) -> None:
    for label in np.unique(labels):
        of = points[labels == label]
        axes.scatter(
            of[:, 0],
            of[:, 1],
            s=size,
            color=colour(label),
            marker=marker(label),
            alpha=alpha,
            linewidths=0,
            zorder=2,
        )


def _prototypes(axes: Axes, ends, classes, directions: bool, shown=None) -> None:
    """Prototypes as black-rimmed markers with their names; with `directions`, lines from the centre."""
    written = []  # middles and half widths of names, in pixels
    for label, end in enumerate(ends):
        if shown is not None and not shown[label]:
            continue
        x, y = end[:2]
        if directions:
            axes.plot([0, x], [0, y], color=INK, lw=0.8, alpha=0.35, zorder=1)
        axes.scatter(
            x, y, s=70, color=colour(label), marker=marker(label), edgecolors=INK, lw=1.3, zorder=4
        )
        if label < len(classes) <= NAMED_CLASSES:
            # Outwards from the sphere or circle; in a projection, where there is no outwards, above, or
            # below where another name is in the way.
            outwards = end[:2] / (np.hypot(x, y) or 1.0) if directions else np.array([0.0, 1.0])
            name = shortened(classes[label])
            if not directions:
                middle, half = axes.transData.transform(end[:2]), 4 * len(name)
                above = middle + np.array([0, 18])
                if any(abs(above - m)[0] < half + h and abs(above - m)[1] < 18 for m, h in written):
                    outwards = -outwards
                written.append((middle + 18 * outwards, half))
            axes.annotate(
                name,
                end[:2],
                xytext=13 * outwards,
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=10,
                color=INK,
                zorder=5,
                bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75},
            )


def legend(
    made: Figure, labels: np.ndarray, classes: tuple[str, ...], ends_are: str = "prototype"
) -> None:
    if len(classes) > NAMED_CLASSES:
        made.text(0.99, 0.01, f"{len(classes)} classes", ha="right", fontsize=10)
        return
    from matplotlib.lines import Line2D

    names = [shortened(name) for name in classes]
    handles = [
        Line2D([], [], ls="", marker=marker(label), color=colour(label), ms=7, label=names[label])
        for label in labels
    ]
    prototype = Line2D([], [], ls="", marker="o", mfc="white", mec=INK, ms=9, mew=1.3, label=ends_are)
    fit = 780 // (75 + 9 * max(map(len, [*names, ends_are])))  # columns, of 9 pixels a letter
    made.legend(
        handles=[*handles, prototype],
        loc="outside lower center",
        ncols=max(1, min(6, fit, len(handles) + 1)),
    )
