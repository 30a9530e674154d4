"""What the report's script draws: the table of runs, and spheres that turn."""

import base64
import io
import json
import math

import numpy as np
from PIL import Image

from ..plots import Sphere, class_colours
from .phrases import number
from .ranking import Comparison, shown_values

SPHERES, POINTS = 6, 300


def page_data(comparison: Comparison, spheres: list[Sphere], commands: list[str]) -> dict:
    """Everything as JSON has it, not yet escaped; `commands` are the runs'."""
    drawn = spheres[:SPHERES]
    return {
        **runs_table(comparison, commands),
        **drawn_spheres(drawn),
        "classes": list(comparison.best.runs[0].classes),
    }


def runs_table(comparison: Comparison, commands: list[str]) -> dict:
    """`columns` by name, and a row a run: its `cells`, each a value or a [value, text], and what opens
    below it. A key that all runs have in common has no column."""
    flat = [shown_values(run.config) for run in comparison.runs]
    keys = [
        key
        for key in dict.fromkeys([*comparison.keys, *comparison.also_differ])
        if key != "dataset.fold" and len({str(values.get(key)) for values in flat}) > 1
    ]
    addresses = any((run.summary and run.summary.wandb_url) for run in comparison.runs)
    label_of = {run.folder: setting.label for setting in comparison.settings for run in setting.runs}
    folds = [run.repeat.fold for run in comparison.runs]
    folded = any(fold is not None for fold in folds)
    metric, rows = comparison.metric, []
    for run, values, fold, command in zip(comparison.runs, flat, folds, commands, strict=True):
        cells = [plain(values.get(key, "")) for key in keys] + [fold] * folded
        scores = [(which or {}).get(metric) for which in (run.validation, run.metrics)]
        cells += [run.seed, run.state]
        cells += [None if score is None else [finite(score), number(metric, score)] for score in scores]
        rows.append(
            {
                "cells": [*cells, run.seconds],
                "name": run.name,
                "setting": label_of.get(run.folder, ""),
                "state": run.state,
                "command": command,
                "config": json.dumps(run.config.plain(), indent=1),
                "error": run.error or "",
                "link": (run.summary and run.summary.wandb_url) or "",
            }
        )
    names = [key.removesuffix(".value") for key in keys]
    names += ["fold"] * folded + ["seed", "state", f"validation {metric}", f"test {metric}", "seconds"]
    return {"columns": names, "links": addresses, "rows": rows}


def plain(value: object) -> object:
    return finite(value) if isinstance(value, int | float | str) else json.dumps(value)


def finite(value: object) -> object:
    """Return the value; infinities and NaN, which JSON lacks, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def drawn_spheres(spheres: list[Sphere]) -> dict:
    """At most POINTS test images of each, the same in all, with those thumbnails that the first has."""
    if not spheres:
        return {"spheres": [], "thumbnails": [], "colours": [], "spheres_note": ""}
    first = spheres[0]
    total, images = len(first.labels), first.thumbnails
    every = np.arange(0, total, max(1, total // POINTS))
    picked = every if images is None else first.thumbnail_rows
    count = max(len(sphere.prototypes) for sphere in spheres)
    whose = f"the {len(spheres)} best settings" if len(spheres) > 1 else spheres[0].label
    return {
        "colours": [f"rgb({r:.0f},{g:.0f},{b:.0f})" for r, g, b in class_colours(count)],
        "thumbnails": [] if images is None else [png(image, images.max()) for image in images],
        "spheres": [
            {
                "label": sphere.label,
                "points": sphere.points[picked].round(3).tolist(),
                "labels": sphere.labels[picked].tolist(),
                "prototypes": sphere.prototypes.round(3).tolist(),
            }
            for sphere in spheres
        ],
        "spheres_note": f"The first seed of {whose} in three dimensions, "
        f"{len(picked)} of {total} test images, diamonds are prototypes. Drag one and all turn; they "
        "are rotated onto each other, so that a class lies in about the same place in each. A point "
        "says its class; a class in this list, pointed at or clicked, stands out.",
    }


def png(image: np.ndarray, brightest: int) -> str:
    """An image (height, width, channels) of bytes up to `brightest`, as base64."""
    pixels = (image.astype(np.float32) * (255 / max(1, brightest))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
