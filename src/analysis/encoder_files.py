"""Embeddings of one encoder or of two, in files: read, brought into one order, pooled into templates."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..datasets.embeddings import read_features
from ..datasets.splits import Queries
from ..datasets.templates import label_of_templates, read_templates
from ..errors import UserError
from ..evaluation import measurable
from ..losses import BadArgument


class Given(NamedTuple):
    """The embeddings (N, D), labels (N,) and, if they are there, names (N,) and queries in a file."""

    features: np.ndarray
    labels: np.ndarray
    names: np.ndarray | None = None
    queries: Queries | None = None


def names_of(paths: Sequence[Path]) -> list[str]:
    """The files' names, or their whole paths if they share one."""
    alike = len({path.name for path in paths}) < len(paths)
    return [str(path) if alike else path.name for path in paths]


def read_all(
    paths: Sequence[Path],
    labels: Path | None = None,
    templates: Path | None = None,
    unlabelled: bool = False,
) -> list[Given]:
    """Read one file or two, bring the second into the order of the first, and pool templates;
    `unlabelled` samples need no labels."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"{paths[1]}: is the first file; name another to compare it with")
    needs = [path.suffix.lower() == ".npy" for path in paths]
    given = [
        read(path, labels if need or not any(needs) else None, unlabelled)
        for path, need in zip(paths, needs, strict=True)
    ]
    if len(given) == 2:
        given[1] = in_order(paths, *given)
    listed = given[0].queries and given[0].queries.relevant is not None
    if templates and listed and not unlabelled:
        raise UserError(
            f"{paths[0]}: its array relevant is of samples, not of templates: leave out --templates"
        )
    if templates:
        given = [pooled(path, one, templates) for path, one in zip(paths, given, strict=True)]
    return given


def read(path: Path, labels: Path | None, unlabelled: bool = False) -> Given:
    try:
        found = read_features(path, labels, unlabelled)
    except BadArgument as error:
        if error.argument == "labels":
            raise UserError(f"--labels {labels or 'is missing'}: {error.why}") from None
        raise UserError(f"{path}: {error.why}") from None
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    features = found.images.reshape(len(found.labels), -1)
    if not measurable(torch.from_numpy(features)):
        longest = int(np.abs(features).max(1).argmax())
        raise UserError(f"{path}: the length of sample {longest} is not finite in float32")
    return Given(features, found.labels, found.names, found.queries)


def in_order(paths: Sequence[Path], first: Given, second: Given) -> Given:
    """The second file's samples in the order of the first's. Raises UserError unless they are the
    same."""
    names, other_names = first.names, second.names
    named = names is not None and other_names is not None and len(set(names)) == len(names)
    if named and set(names) != set(other_names):
        one = min(set(names) ^ set(other_names))
        raise UserError(f"{paths[0]} and {paths[1]} name different samples: one of them lacks {one}")
    if not named and names is not None and other_names is not None and list(names) != list(other_names):
        raise UserError(
            f"{paths[0]}: some names are there twice, and those of {paths[1]} are others, or in another "
            "order: what belongs together is not known"
        )
    if named and len(names) == len(other_names):
        where = {name: row for row, name in enumerate(other_names)}
        rows = np.array([where[name] for name in names])
        values = second.features[rows], second.labels[rows], other_names[rows]
        second = Given(*values, second.queries and second.queries.pick(rows))
    if len(first.labels) != len(second.labels):
        counts = f"{len(first.labels):,} and {len(second.labels):,} samples"
        raise UserError(f"{paths[0]} and {paths[1]} hold {counts}: two encoders are judged by the same")
    for what, mine, other in (
        ("class", first.labels, second.labels),
        ("role", *(one.queries and one.queries.roles for one in (first, second))),
        ("camera", *(one.queries and one.queries.cameras for one in (first, second))),
    ):
        if (mine is None) != (other is None):
            lacks = paths[0] if mine is None else paths[1]
            raise UserError(f"{lacks}: has no {what}s, the other file has")
        wrong = np.flatnonzero(mine != other) if mine is not None else ()
        if len(wrong):
            row = wrong[0]
            raise UserError(
                f"{paths[1]}: sample {row} is of {what} {other[row]}, in {paths[0]} of {mine[row]}: two "
                "encoders are judged by the same samples in the same order, or with the same names"
            )
    mine, other = (one.queries and one.queries.relevant for one in (first, second))
    if mine is not None or other is not None:
        lists = (set() if rows is None else set(map(tuple, rows.tolist())) for rows in (mine, other))
        if len(set.symmetric_difference(*lists)):
            raise UserError(
                f"{paths[0]} and {paths[1]} list different samples as relevant: two encoders are judged "
                "by the same lists"
            )
    return second


def pooled(path: Path, given: Given, file: Path) -> Given:
    """One embedding for each template: of the samples that a table's columns `name` and `template` put
    into it, the mean of unit embeddings within each `media`, if there is such a column, times `weight`,
    if there is one; then the mean over media (IJB-B, Whitelam et al. 2017)."""
    if given.names is None:
        raise UserError(f"{path}: has no array names (N,), by which templates name its samples")
    try:
        found = read_templates(file, given.names)
        labels = label_of_templates(found, given.labels)
        roles = given.queries and label_of_templates(found, given.queries.roles)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    features = found.mean(given.features)
    queries = None if roles is None else Queries(roles)
    return Given(features.astype(np.float32), labels, found.names, queries)
