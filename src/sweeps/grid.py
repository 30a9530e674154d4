"""`hydra/sweeper=grid`: every combination of the values given, without what is finished already."""

import itertools

from hydra.core.override_parser.types import Override, RangeSweep

from ..errors import UserError
from ..run.command_line import continue_command
from ..words import counted
from .console import console, count_states, planning, show_failures
from .forecast import forecast
from .loop import InOrder
from .plan import described
from .race import Race
from .sweeper import PlannedSweeper, Stale


class GridSweeper(PlannedSweeper):
    """Runs every combination of the values on the command line or, with `grids` (lists of overrides as
    they would be typed), the combinations of each grid with the command line. A key given in both is
    restricted to the common values. In a `race`, only the settings of each loss that did best so far get
    further seeds. With `plan_only`, nothing runs: the terminal says how much there is
    to do, and what it could find."""

    def __init__(
        self,
        grids: list[str],
        compare: bool,
        stale: Stale,
        baselines: bool,
        fail_fast: bool,
        plan_only: bool,
        race: bool,
        params: dict | None = None,
    ):
        self.grids, self.compare, self.stale = grids, compare, stale
        self.baselines, self.fail_fast, self.params = baselines, fail_fast, params
        self.plan_only, self.race = plan_only, race

    def run(self, overrides: list[Override]) -> None:
        grids = self.parse_grids()
        jobs = combinations(overrides, grids)
        say_excluded(overrides, grids)
        asked, twice = described(self.composer, planning(jobs))
        baselines = self.baselines_for(asked) if len(asked) > 1 else []
        runs = self.with_folders([*asked, *baselines])
        todo = Race(runs) if self.race else InOrder(run for run in runs if run.objective is None)
        done = sum(run.objective is not None for run in runs)
        console.print(
            counted(len(asked), "run")
            + (f" ({counted(twice, 'duplicate')} dropped)" if twice else "")
            + (f" and {len(baselines)} of baselines" if baselines else "")
            + (f", {done} finished already" if done else "")
            + (f", {todo.expected} to go" if done or self.race else "")
            + f" -> {self.shown_folder}"
        )
        self.say_stale(runs)
        if self.plan_only:
            for line in forecast(runs, todo.expected, self.launcher.slots, self.race):
                console.print(line, markup=False)
            return
        self.save_command()
        self.launch(todo, todo.expected)
        ended = zip(todo.runs, todo.all_outcomes(), strict=True)
        failures = [(run, outcome) for run, outcome in ended if outcome.objective is None]
        if failures:
            show_failures(failures)
            counts = count_states([outcome for _, outcome in failures], done + len(todo.runs))
            raise UserError(
                f"{counts}; to run those again: " + continue_command("hydra.sweep.dir", self.folder)
            )


def combinations(overrides: list[Override], grids: list[list[Override]]) -> list[list[str]]:
    """The override lists of all runs. Raises UserError for a range, which only a search can take, and
    if nothing is left."""
    line = {override.key_or_group: alternatives(override) for override in overrides}
    jobs = []
    for grid in grids or [[]]:
        fixed = {override.key_or_group: alternatives(override) for override in grid}
        both = {key: common(fixed[key], line[key]) for key in fixed.keys() & line.keys()}
        jobs += [list(job) for job in itertools.product(*(fixed | line | both).values())]
    if not jobs:
        asked = " ".join(override.input_line for override in overrides)
        raise UserError(
            f"{asked}: no grid in hydra.sweeper.grids has these values, so there is nothing to run"
        )
    return jobs


def say_excluded(overrides: list[Override], grids: list[list[Override]]) -> None:
    """Name the grids that the command line leaves nothing of, by the value that it does not have."""
    line, excluded = {override.key_or_group: override for override in overrides}, {}
    for grid in grids:
        for inner in grid:
            outer = line.get(inner.key_or_group)
            if outer and both_discrete(inner, outer) and not common(*map(alternatives, (inner, outer))):
                excluded.setdefault(outer.input_line, []).append(inner.input_line)
                break
    for outer, values in excluded.items():
        said = f"{len(values)} of {counted(len(grids), 'grid')} left out by {outer}"
        console.print(f"{said}: {', '.join(dict.fromkeys(values))}", markup=False)


def both_discrete(*overrides: Override) -> bool:
    return not any(
        override.is_sweep_override() and not override.is_discrete_sweep() for override in overrides
    )


def common(first: list[str], second: list[str]) -> list[str]:
    """Those of the first that the second has too; 0.10 is 0.1."""

    def plain(assignment: str) -> object:
        value = assignment.partition("=")[2]
        try:
            return float(value)
        except ValueError:
            return value

    return [value for value in first if plain(value) in map(plain, second)]


def alternatives(override: Override) -> list[str]:
    """`a=1,2` -> ["a=1", "a=2"]."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line or f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: a range to search in, use hydra/sweeper=search")
    if isinstance(override.value(), RangeSweep):
        return [f"{key}={value:.12g}" for value in range_values(override.value())]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def range_values(sweep: RangeSweep) -> list[float]:
    """The values of Hydra's range, which in floating point can step to 0.30000000000000004, or reach an
    end that it should leave out."""
    values = [float(f"{float(value):.12g}") for value in sweep.range()]
    inside = float.__lt__ if sweep.step > 0 else float.__gt__
    values = [value for value in values if inside(value, float(sweep.stop))]
    if not values:
        raise UserError(f"range({sweep.start},{sweep.stop},{sweep.step}): has no values")
    return values
