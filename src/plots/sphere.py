"""Embeddings as directions: on a circle (D = 2), on a sphere (D = 3), or projected onto a plane."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .projection import to_dimensions
from .style import FAINT, INK, NAMED_CLASSES, STYLE, colour, marker, new_figure, shortened

POINTS_PER_CLASS = 400  # more would only hide each other
LEGEND_WIDTH = 780  # pixels
LETTER_WIDTH, NAME_HEIGHT = 8, 18  # pixels, at most, of names beside prototypes


def plot_embedding(
    embeddings: np.ndarray,
    labels: np.ndarray,
    directions: np.ndarray,
    classes: tuple[str, ...],
    title: str = "",
    directions_label: str = "prototype",
) -> Figure:
    """Embeddings (N, D) coloured by labels (N,), with a marked direction (C, D) per class: its
    prototype, or what `directions_label` says."""
    dimension = embeddings.shape[1]
    points, directions = to_dimensions(embeddings, directions, 3 if dimension == 3 else 2)
    points, labels = thin(points, labels, POINTS_PER_CLASS)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        if dimension == 3:
            fig = new_figure(8, 4.9)
            front, back = fig.subplots(1, 2)
            rotation = _best_view(directions)
            draw_globe(front, points @ rotation.T, labels, directions @ rotation.T, classes)
            rotation = np.diag([-1.0, 1.0, -1.0]) @ rotation
            draw_globe(back, points @ rotation.T, labels, directions @ rotation.T, classes)
            front.set_xlabel("one side")
            back.set_xlabel("the other side")
        else:
            fig = new_figure(8, 6.4)
            axes = fig.subplots()
            draw_flat(axes, points, labels, directions, classes, circle=dimension == 2)
            axes.set_xlabel("" if dimension == 2 else f"first two principal components of {dimension}")
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
        add_legend(fig, np.unique(labels), classes, directions_label)
    return fig


def thin(points: np.ndarray, labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` points of each class, in their order."""
    keep = np.concatenate([np.flatnonzero(labels == label)[:most] for label in np.unique(labels)])
    keep.sort()
    return points[keep], labels[keep]


def _best_view(directions: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that shows the two nearest directions (C, 3) furthest apart, front and back
    together. The candidates are random but fixed, so that the same directions give the same figure."""
    rng = np.random.default_rng(0)
    best, best_gap = np.eye(3), -1.0
    for _ in range(200):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation[0] *= np.sign(np.linalg.det(rotation))
        x, y, z = rotation @ directions.T
        places = np.column_stack([x, y, 3 * np.sign(z)])  # front and back do not hide each other
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(len(places))
        if gaps.min() > best_gap:
            best, best_gap = rotation, gaps.min()
    return best


def _frame(axes: Axes, reach: float = 1.24) -> None:
    axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _circle(axes: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), color=FAINT, lw=1, zorder=0)
    _frame(axes)


def draw_globe(
    axes: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    directions: np.ndarray,
    classes: tuple[str, ...],
) -> None:
    """An orthographic view, along −z, of points (N, 3) with labels (N,) and of directions (C, 3): the
    near half is clear, points of the far half are dim."""
    _circle(axes)
    _grid(axes)
    far = points[:, 2] < 0
    _points(axes, points[far], labels[far], alpha=0.08, size=8)
    _points(axes, points[~far], labels[~far], alpha=0.55)
    near = np.flatnonzero(directions[:, 2] >= 0)
    _draw_directions(axes, directions, near, classes, rays=True)


def draw_flat(
    axes: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    directions: np.ndarray,
    classes: tuple[str, ...],
    circle: bool = False,
) -> None:
    """Points (N, 2) with labels (N,) and directions (C, 2) in a plane, or, with `circle`, on the unit
    circle."""
    if circle:
        _circle(axes)
    _points(axes, points, labels, alpha=0.5, size=18)
    _draw_directions(axes, directions, np.arange(len(directions)), classes, rays=circle)


def _grid(axes: Axes) -> None:
    """Circles of latitude and longitude, of which the near half is visible."""
    tilt = np.radians(20)
    angle = np.linspace(0, 2 * np.pi, 200)
    circles = [
        np.stack(
            [np.cos(lat) * np.cos(angle), np.full_like(angle, np.sin(lat)), np.cos(lat) * np.sin(angle)]
        )
        for lat in np.radians((-60, -30, 0, 30, 60))
    ] + [
        np.stack([np.sin(angle) * np.cos(lon), np.cos(angle), np.sin(angle) * np.sin(lon)])
        for lon in np.radians(range(0, 180, 30))
    ]
    for x, y, z in circles:
        y, z = y * np.cos(tilt) - z * np.sin(tilt), y * np.sin(tilt) + z * np.cos(tilt)
        axes.plot(
            np.where(z >= 0, x, np.nan), np.where(z >= 0, y, np.nan), color="#e4e4e4", lw=0.6, zorder=0
        )


def _points(axes: Axes, points: np.ndarray, labels: np.ndarray, alpha: float, size: float = 13) -> None:
    for label in np.unique(labels):
        x, y = points[labels == label, :2].T
        look = {"color": colour(label), "marker": marker(label), "alpha": alpha, "linewidths": 0}
        axes.scatter(x, y, s=size, zorder=2, **look)


def _draw_directions(
    axes: Axes, directions: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], rays: bool
) -> None:
    """Black-rimmed markers at the directions (C, 2 or 3) of `labels`, with the names of `classes`; with
    `rays`, lines from the centre."""
    for label in labels:
        x, y = directions[label, :2]
        if rays:
            axes.plot([0, x], [0, y], color=INK, lw=0.8, alpha=0.35, zorder=1)
        look = {"s": 70, "color": colour(label), "marker": marker(label), "edgecolors": INK}
        axes.scatter(x, y, lw=1.3, zorder=4, **look)
    if len(classes) > NAMED_CLASSES:
        return
    labels = labels[labels < len(classes)]
    names, places = [shortened(classes[label]) for label in labels], directions[labels, :2]
    if rays:
        sides = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)
    else:
        sides = _free_sides(axes, places, names)
    for name, place, side in zip(names, places, sides, strict=True):
        axes.annotate(
            name,
            place,
            xytext=13 * side,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            color=INK,
            zorder=5,
            bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75},
        )


def _free_sides(axes: Axes, places: np.ndarray, names: list[str]) -> list[np.ndarray]:
    """On which side (2,) of places (n, 2) to write names: above, or below if an earlier name is in the
    way above."""
    axes.autoscale_view()  # places in pixels depend on the limits of the axes
    sides, written = [], []
    for place, name in zip(axes.transData.transform(places), names, strict=True):
        half_width, side = LETTER_WIDTH * len(name) / 2, np.array([0.0, 1.0])
        for other, other_half_width in written:
            dx, dy = abs(place + NAME_HEIGHT * side - other)
            if dx < half_width + other_half_width and dy < NAME_HEIGHT:
                side = np.array([0.0, -1.0])
                break
        sides.append(side)
        written.append((place + NAME_HEIGHT * side, half_width))
    return sides


def add_legend(
    fig: Figure, labels: np.ndarray, classes: tuple[str, ...], directions_label: str = "prototype"
) -> None:
    """Name the classes of `labels` below the axes, or count the classes if there are too many."""
    if len(classes) > NAMED_CLASSES:
        fig.text(0.99, 0.01, f"{len(classes)} classes", ha="right", fontsize=10)
        return
    names = [shortened(name) for name in classes]
    handles = [
        Line2D([], [], ls="", marker=marker(label), color=colour(label), ms=7, label=names[label])
        for label in labels
    ]
    rim = {"marker": "o", "mfc": "white", "mec": INK, "ms": 9, "mew": 1.3}
    handles.append(Line2D([], [], ls="", label=directions_label, **rim))
    longest = max(map(len, [*names, directions_label]))
    columns = LEGEND_WIDTH // (75 + 9 * longest)  # a marker with its spacing, and 9 pixels a letter
    columns = max(1, min(6, columns, len(handles)))
    fig.legend(handles=handles, loc="outside lower center", ncols=columns)
