"""What all figures share: size, fonts, and a colour and a marker for each class."""

import functools
import io
import logging
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..durable import write_bytes

log = logging.getLogger(__name__)

# Ten colours that colour-blind readers can tell apart (Petroff, arXiv 2107.02270). After ten classes,
# colours repeat with another marker.
COLOURS = tuple(matplotlib.color_sequences["petroff10"])
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
NAMED_CLASSES = 20  # more names do not fit in a legend or along an axis
INK, FAINT = "#222222", "#bbbbbb"
EVERYWHERE = (-np.inf, np.inf)  # the bounds of values that have none

# Fonts that have what matplotlib's own lacks, as names of classes in Chinese, Japanese and Korean; of
# these, a machine has some or none.
OTHER_FONTS = """
Noto Sans CJK JP, Noto Sans CJK SC, Noto Sans JP, Noto Sans SC, Noto Sans KR, Source Han Sans,
WenQuanYi Zen Hei, WenQuanYi Micro Hei, IPAexGothic, IPAGothic, TakaoGothic, VL Gothic, NanumGothic,
UnDotum, Droid Sans Fallback, Hiragino Sans, PingFang SC, Heiti TC, Apple SD Gothic Neo, Yu Gothic,
Meiryo, MS Gothic, Microsoft YaHei, SimHei, Malgun Gothic, Arial Unicode MS, Noto Sans Devanagari,
Noto Sans Thai, Unifont
"""


def fonts() -> list[str]:
    """Fonts by preference: each character is drawn with the first that has it."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    others = (" ".join(name.split()) for name in OTHER_FONTS.split(","))
    return ["DejaVu Sans", *(name for name in others if name in there)]


STYLE = {
    "font.family": fonts(),
    "font.size": 11,
    "text.parse_math": False,  # names may contain a $
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
}


def colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)]


def marker(label: int) -> str:
    return MARKERS[label // len(COLOURS) % len(MARKERS)]


def shortened(name: str, most: int = 20) -> str:
    """At most `most` characters: the beginning and the end of a long name, where names differ most."""
    return name if len(name) <= most else f"{name[: most // 3]}…{name[most // 3 + 1 - most :]}"


def short_names(names: Sequence[str], most: int = 20) -> list[str]:
    """Names of at most `most` characters: if shortening them makes several the same, without what all
    begin and end with."""
    short = [shortened(name, most) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    begin = _alike(names)
    end = _alike([name[begin:][::-1] for name in names])
    middles = [name[begin : len(name) - end] for name in names]
    marks = "…" * (begin > 0), "…" * (end > 0)
    return [marks[0] + shortened(middle, most - 2) + marks[1] for middle in middles]


def _alike(names: Sequence[str]) -> int:
    """With how many same characters all names begin."""
    columns = enumerate(zip(*names, strict=False))
    return next((i for i, letters in columns if len(set(letters)) > 1), min(map(len, names)))


def wrapped(label: str, width: int = 38) -> str:
    """A label in lines of `width` characters, three at most."""
    lines = textwrap.wrap(label, width, break_on_hyphens=False)
    return "\n".join([*lines[:2], *([shortened(" ".join(lines[2:]), width)] if lines[2:] else [])])


def fit_axis(axes: Axes, which: str, values: object, bounds: tuple[float, float] = EVERYWHERE) -> None:
    """Let the axis `which`, "x" or "y", show the finite `values` and little else. Beyond the `bounds` of
    what there can be it goes no further than a marker needs, which is less than to the next tick."""
    values = np.ravel(np.asarray(values, float))
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = values.min(), values.max()
    span = high - low
    beside = 0.06 * span if span > 1e-9 else 0.05 * abs(high) or 1.0
    room = 0.02 * (span + 2 * beside)
    low, high = max(low - beside, bounds[0] - room), min(high + beside, bounds[1] + room)
    axes.set(**{f"{which}lim": (low, high)})


def class_colours(classes: int) -> np.ndarray:
    """The classes' colours in figures, RGB (C, 3) from 0 to 255."""
    return np.array([to_rgb(colour(label)) for label in range(classes)]) * 255


def new_figure(width: float = 8.0, height: float = 5.0) -> Figure:
    """A figure of so many inches, 100 pixels each, outside pyplot's global state."""
    fig = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    return fig


def draw(pictures: Mapping[str, Callable[[], Figure | bytes]], folder: Path) -> dict[str, Path]:
    """Make figures, or contents of files, by the names of these files and write them into a folder, one
    after another; return the paths by these names without suffix. One that cannot be drawn is left out,
    which is said: the numbers that it would show are there without it. Raises OSError where one cannot
    be written."""
    paths = {}
    for name, picture in pictures.items():
        path = folder / name
        try:
            made = picture()
            content = png(made) if isinstance(made, Figure) else made
        except Exception as error:  # of matplotlib, of a font's file, of strange values
            why = ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())]))
            log.warning(f"{folder.name}/{name} could not be drawn and is left out ({why})")
            log.debug(name, exc_info=True)
            path.unlink(missing_ok=True)  # an earlier one
        else:
            paths[path.stem] = write_bytes(path, content)
    return paths


def png(fig: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    content = io.BytesIO()
    with font_warnings_in_one_line():
        fig.canvas.print_png(content)  # savefig would draw everything once more only to lay it out
    return content.getvalue()


def save(fig: Figure, path: Path) -> Path:
    """Write a figure as PNG, and return the path."""
    return write_bytes(path, png(fig))


@contextmanager
def font_warnings_in_one_line() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        if "missing from" in str(warning.message):
            warn_of_fonts()
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@functools.cache  # once, not for every character
def warn_of_fonts() -> None:
    log.warning(
        "no font here has all characters of the names in figures, which show boxes: install one, as "
        "fonts-noto-cjk, and delete matplotlib's cache of fonts"
    )
