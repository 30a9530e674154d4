"""Where a search looks: Hydra's overrides with ranges in them, as Optuna's distributions."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from ..errors import UserError
from ..words import first_line
from .grid import alternatives, common, range_values

if TYPE_CHECKING:  # importing it takes most of a second, which only a search should pay
    import optuna

CORNERS = 64  # of the search space that are composed before anything runs
LINE = "grid"  # the parameter that says which of several grids


@dataclass
class Space:
    """Where a search looks: the command line's overrides, or a choice between several lists of them."""

    lines: dict[str, list[Override]]  # by what is fixed in them, as "loss=arcface"

    @classmethod
    def of(
        cls, overrides: list[Override], grids: list[list[Override]], parse: Callable[[list[str]], list]
    ) -> "Space":
        """As in a sweep over grids, a key given in both is restricted to the common values."""
        line, lines = {override.key_or_group: override for override in overrides}, {}
        for grid in grids or [[]]:
            label = " ".join(
                override.input_line for override in grid if not override.is_sweep_override()
            )
            merged = {override.key_or_group: override for override in grid}
            for key in merged.keys() & line.keys():
                if any(isinstance(o.value(), IntervalSweep) for o in (merged[key], line[key])):
                    merged[key] = line[key]
                    continue
                both = common(alternatives(merged[key]), alternatives(line[key]))
                values = ",".join(assignment.partition("=")[2] for assignment in both)
                merged[key] = parse([f"{line[key].get_key_element()}={values}"])[0] if both else None
            if None not in merged.values():
                label = label or f"grid {len(lines)}"
                label += f" ({len(lines)})" if label in lines else ""
                lines[label] = list(
                    (merged | {k: v for k, v in line.items() if k not in merged}).values()
                )
        if not lines:
            raise UserError("no grid in hydra.sweeper.grids has the values of the command line")
        return cls(lines)

    def check_ranges(self) -> None:
        """Raises UserError for a range that Optuna does not take, as a logarithmic one from 0."""
        import optuna

        for line in self.lines.values():
            for override in line:
                try:
                    suggested(optuna.create_study().ask(), override, "")
                except ValueError as error:
                    raise UserError(f"{override.input_line}: {first_line(error)}") from None

    def as_text(self) -> dict[str, list[str]]:
        return {label: [override.input_line for override in line] for label, line in self.lines.items()}

    def suggest(self, trial: "optuna.Trial") -> list[str]:
        """Return the overrides of a trial; values that it already has are returned again."""
        several = len(self.lines) > 1
        label = trial.suggest_categorical(LINE, list(self.lines)) if several else next(iter(self.lines))
        return [
            suggested(trial, override, f" [{label}]" if several else "")
            for override in self.lines[label]
        ]

    def corners(self) -> list[list[str]]:
        """Settings at the ends of the space: all of them, or, of many, each choice in a group (loss,
        margin, scale) with each end of everything else."""
        corners = []
        for line in self.lines.values():
            ends = [extremes(override) for override in line]
            if prod(map(len, ends)) <= CORNERS:
                corners += map(list, itertools.product(*ends))
                continue
            leading = [i for i, override in enumerate(line) if "." not in override.key_or_group]
            for choice in itertools.product(*(ends[i] for i in leading)):
                first = [values[0] for values in ends]
                for i, value in zip(leading, choice, strict=True):
                    first[i] = value
                for i, values in enumerate(ends):
                    if i not in leading:
                        corners += [[*first[:i], value, *first[i + 1 :]] for value in values]
        return corners


def suggested(trial: "optuna.Trial", override: Override, suffix: str) -> str:
    """`margin.value=interval(0.1,0.6)` -> `margin.value=0.31`."""
    if not override.is_sweep_override():
        return alternatives(override)[0]
    key, sweep = override.get_key_element(), override.value()
    name, log = key + suffix, "log" in sweep.tags
    if isinstance(sweep, IntervalSweep):
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return f"{key}={trial.suggest_int(name, sweep.start, sweep.end, log=log)}"
        return f"{key}={trial.suggest_float(name, sweep.start, sweep.end, log=log):.6g}"
    if isinstance(sweep, RangeSweep):
        values = range_values(sweep)
        if all(value.is_integer() for value in values):
            low, high, step = int(values[0]), int(values[-1]), int(abs(sweep.step))
            return f"{key}={trial.suggest_int(name, min(low, high), max(low, high), step=step)}"
        low, high = min(values), max(values)
        return f"{key}={trial.suggest_float(name, low, high, step=abs(float(sweep.step))):.6g}"
    return f"{key}=" + trial.suggest_categorical(name, list(override.sweep_string_iterator()))


def extremes(override: Override) -> list[str]:
    sweep = override.value() if override.is_sweep_override() else None
    if isinstance(sweep, IntervalSweep):
        return [f"{override.get_key_element()}={end}" for end in (sweep.start, sweep.end)]
    values = alternatives(override)
    return [values[0], values[-1]] if isinstance(sweep, RangeSweep) else values
