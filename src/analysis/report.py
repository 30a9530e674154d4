"""`report.html`: the answer in one file that needs no network and no W&B."""

import base64
import io
import json
import math
import shlex
from collections import Counter
from html import escape
from importlib.util import find_spec
from pathlib import Path
from string import Template

import numpy as np
import yaml
from PIL import Image

from ..plots import class_colours
from .foreign import plain_yaml
from .ranking import Comparison, Setting, shown_values
from .read import RunRecord
from .statistics import CONFIDENCE, FEWEST_PAIRS, POWER
from .tables import TEXT, ranking_cells, ranking_header
from .wording import answer_sentences, number

TEMPLATE = Path(__file__).with_name("report.html")
SPHERES, POINTS = 6, 300
SETTINGS = 200  # rows of the table of settings; summary.csv has all
CAPTIONS = {
    "ranking": "Test results, from the setting that is chosen first to the last.",
    "margins": "The metric against the margin.",
    "heat": "The metric over margin and scale.",
    "budgets": "Equal budgets: the test result to expect of one chosen from n settings of a loss.",
    "curves": "Learning curves of the best settings.",
    "angles": "Angles to the own prototype and to the nearest other one.",
    "spheres": "First seeds of the best settings, turned onto each other.",
}


def write_report(comparison: Comparison, pictures: dict[str, Path], spheres: list, out: Path) -> Path:
    """`pictures` by the names in CAPTIONS; `spheres` as `plots.aligned_spheres` leaves them."""
    best = comparison.best
    states = Counter(run.state for run in comparison.runs)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    first = best.runs[0].config
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{best.loss} and others on {first['dataset']['name']}, {first['model']['name']}"),
        answer="".join(f"<p>{escape(line)}</p>" for line in answer_sentences(comparison)),
        counts=escape(f"{len(comparison.runs)} runs ({counts}) of {len(comparison.settings)} settings."),
        problems=listing("Skipped, because they are no whole runs:", comparison.problems),
        settings=settings_table(comparison),
        method=escape(method(comparison)),
        pictures="".join(picture(name, path) for name, path in pictures.items()),
        commands="".join(f"<pre>{escape(command)}</pre>" for command in sweep_commands(comparison.runs)),
        failures=failures(comparison.failures),
        data=as_json(page_data(comparison, spheres)),
        plotly=f"<script>{plotly()}</script>" if spheres else "",
    )
    path = out / "report.html"
    path.write_text(page, **TEXT)
    return path


def plotly() -> str:
    """plotly.js, from the Python package, which takes a second to import whole and has it as a file."""
    folder = Path(find_spec("plotly").origin).parent
    return (folder / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def as_json(content: dict) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(finite(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def finite(content: object) -> object:
    """The same with what JSON has no number for as text."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


def method(comparison: Comparison) -> str:
    return (
        f"Ranked by the mean on the {comparison.chosen_on}, reported on the test split. Intervals of a "
        f"mean are Student's t over seeds, {CONFIDENCE:.0%}: they say how much training varies, not how "
        "much another test set would. Differences are paired by seed; their intervals hold for all "
        f"of a column together (Bonferroni), and with fewer than {FEWEST_PAIRS} seeds, or the same "
        f"difference in each, nothing is called separable. Seeds needed are for a power of {POWER:.0%}."
    )


def settings_table(comparison: Comparison) -> str:
    metric = comparison.metric
    gaps = {"to the first": "to_best"} | (
        {"to the baseline": "to_baseline"} if comparison.baseline else {}
    )
    head = [*ranking_header(comparison), *gaps]
    rows = [
        "<thead><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr></thead><tbody>"
    ]
    for rank, setting in enumerate(comparison.settings[:SETTINGS], 1):
        row = "".join(f"<td>{escape(cell)}</td>" for cell in ranking_cells(comparison, rank, setting))
        for attribute in gaps.values():
            gap = getattr(setting, attribute)
            difference = number(metric, gap.mean, signed=True) if gap else ""
            if gap and gap.low is not None:
                low, high = (number(metric, end, signed=True).split()[0] for end in (gap.low, gap.high))
                difference += f" ({low} … {high})"
            row += (
                f'<td class="sure">{difference} *</td>'
                if gap and gap.separable
                else f"<td>{difference}</td>"
            )
        rows.append(f"<tr>{row}</tr>")
    rest = len(comparison.settings) - SETTINGS
    more = f"<tr><td></td><td>and {rest} more in summary.csv</td></tr>" if rest > 0 else ""
    base = f" or from the baseline, {comparison.baseline.label}" if comparison.baseline else ""
    caption = escape(
        f"Differences on the test split with their intervals; * separable from the first{base}"
    )
    return "".join(rows) + more + f"</tbody><caption>{caption}</caption>"


def picture(name: str, path: Path) -> str:
    image = base64.b64encode(path.read_bytes()).decode()
    caption = escape(CAPTIONS[name])
    return (
        f'<figure><img src="data:image/png;base64,{image}" alt="{caption}" loading="lazy">'
        f'<figcaption class="faint">{caption}</figcaption></figure>'
    )


def listing(title: str, lines: list[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<p>{escape(title)}</p><ul>{items}</ul>" if lines else ""


def failures(runs: list[RunRecord]) -> str:
    lines = [f"{run.state}: {run.name}: {first_line(run.error)}" for run in runs]
    return "<h2>Failures</h2>" + listing("Each with its train.log in its folder:", lines) if runs else ""


def first_line(text: str | None) -> str:
    return text.splitlines()[0] if text else "no reason was recorded"


def read_yaml(path: Path):
    """What is in a YAML file, by libyaml where it is there (ten times faster); None if nothing can be
    read."""
    try:
        return yaml.load(plain_yaml(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def run_command(run: RunRecord) -> str:
    given = read_yaml(run.folder / ".hydra" / "overrides.yaml")
    return shlex.join(["python", "-m", "src.train", *map(str, given if isinstance(given, list) else [])])


def sweep_commands(runs: list[RunRecord]) -> list[str]:
    commands = []
    for folder in dict.fromkeys(run.folder.parent for run in runs):
        try:
            given = read_yaml(folder / "multirun.yaml")["hydra"]["overrides"]
            how = [override for override in given["hydra"] if override != "hydra.mode=MULTIRUN"]
            commands.append(shlex.join(["python", "-m", "src.train", "-m", *given["task"], *how]))
        except (KeyError, TypeError):  # single runs, or a foreign file
            continue
    return commands


def page_data(comparison: Comparison, spheres: list) -> dict:
    keys = list(dict.fromkeys(key for setting in comparison.settings for key in setting.differs))
    label_of: dict[Path, Setting] = {run.folder: s for s in comparison.settings for run in s.runs}
    rows = []
    for run in comparison.runs:
        flat, setting = shown_values(run.config), label_of.get(run.folder)
        values = [flat.get(key, "") for key in keys]
        cells = [run.name, run.state, setting.label if setting else ""]
        cells += [
            value if isinstance(value, int | float | str) else json.dumps(value) for value in values
        ]
        cells += [
            run.seed,
            *((which or {}).get(comparison.metric) for which in (run.validation, run.metrics)),
        ]
        rows.append(
            {
                "cells": [*cells, run.seconds],
                "command": run_command(run),
                "config": json.dumps(run.config, indent=1),
                "error": run.error or "",
            }
        )
    drawn = spheres[:SPHERES]
    images = drawn[0].thumbnails if drawn else None
    total = len(drawn[0].labels) if drawn else 0
    picked = (
        drawn[0].thumbnail_rows if images is not None else np.arange(0, total, max(1, total // POINTS))
    )
    classes = list(comparison.best.runs[0].classes)
    return {
        "columns": [
            *("run", "state", "setting", *keys, "seed"),
            *(f"validation {comparison.metric}", f"test {comparison.metric}", "seconds"),
        ],
        "rows": rows,
        "classes": classes,
        "colours": [f"rgb({r:.0f},{g:.0f},{b:.0f})" for r, g, b in class_colours(len(classes))],
        "thumbnails": [] if images is None else [png(image, images.max()) for image in images],
        "spheres": [
            {
                "label": sphere.label,
                "points": sphere.points[picked].round(3).tolist(),
                "labels": sphere.labels[picked].tolist(),
                "prototypes": sphere.prototypes.round(3).tolist(),
            }
            for sphere in drawn
        ],
        "spheres_note": f"The first seed of the {len(drawn)} best settings in three dimensions, "
        f"{len(picked)} of {total} test images, diamonds are prototypes. Drag one and all turn; they "
        "are rotated onto each other, so that a class lies in about the same place in each.",
    }


def png(image: np.ndarray, brightest: int) -> str:
    """An image (height, width, channels) of bytes up to `brightest`, as base64."""
    pixels = (image.astype(np.float32) * (255 / max(1, brightest))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
