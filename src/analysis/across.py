"""Several data sets in one comparison: each has its own answer, and what holds on all is said."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..durable import TEXT, write_csv, write_text
from .phrases import enumerate_labels, number
from .ranking import Comparison
from .read import RunRecord
from .settings import data_name


@dataclass
class Across:
    """The comparisons of several data sets, by their names."""

    comparisons: dict[str, Comparison]

    @property
    def losses(self) -> list[str]:
        """The losses that ran on every data set, ordered by mean rank."""
        ranks = self.ranks()
        common = set.intersection(*(set(own) for own in ranks.values()))
        return sorted(common, key=lambda loss: sum(own[loss] for own in ranks.values()))

    def ranks(self) -> dict[str, dict[str, int]]:
        """Return each loss's rank by its test result, for each data set."""
        found = {}
        for name, comparison in self.comparisons.items():
            means = self.means(comparison)
            order = sorted(means, key=lambda loss: -comparison.sign * means[loss])
            found[name] = {loss: place for place, loss in enumerate(order, 1)}
        return found

    @staticmethod
    def means(comparison: Comparison) -> dict[str, float]:
        which = comparison.facts.which_loss
        if which:
            return {result.loss: result.mean for result in which.losses}
        return {loss: own[0].test.mean for loss, own in comparison.by_loss.items()}

    def rows(self) -> list[list[str]]:
        """Return a table: a header, then a row per loss with its result and rank on each data set."""
        ranks = self.ranks()
        header = ["loss", *self.comparisons, "mean rank"]
        rows = []
        for loss in self.losses:
            cells = [
                f"{number(c.metric, self.means(c)[loss])} ({ranks[name][loss]})"
                for name, c in self.comparisons.items()
            ]
            mean = sum(own[loss] for own in ranks.values()) / len(ranks)
            rows.append([loss, *cells, f"{mean:.1f}"])
        return [header, *rows]

    def sentences(self) -> list[str]:
        """Return sentences: which loss leads on each data set, and what holds on all of them."""
        which = {name: c.facts.which_loss for name, c in self.comparisons.items()}
        decided = {name: facts for name, facts in which.items() if facts}
        if len(decided) < len(which):
            rest = enumerate_labels([name for name in which if name not in decided])
            return [f"No loss can be said to be better everywhere: {rest} cannot tell them apart."]
        leaders = {facts.leader for facts in decided.values()}
        lines = []
        if len(leaders) == 1:
            leader = leaders.pop()
            beaten = [{g.loss for g in f.differences if g.separable} for f in decided.values()]
            always = sorted(set.intersection(*beaten))
            over = f" and beat {enumerate_labels(always)} on each" if always else ""
            lines.append(f"{leader} leads on all {len(decided)} data sets{over}.")
        else:
            each = "; ".join(f"{facts.leader} on {name}" for name, facts in decided.items())
            lines.append(f"No loss leads on all data sets: {each}.")
        bases = {facts.baseline for facts in decided.values()}
        if len(bases) == 1 and None not in bases:
            lines += self.against(bases.pop(), list(decided.values()))
        return lines

    def against(self, baseline: str, facts: list) -> list[str]:
        """Return two sentences: which losses beat the baseline on every data set, which lose to it."""
        lines = []
        for word, side in (("Better", 1), ("Worse", -1)):
            found = [
                {
                    gap.loss
                    for gap in own.against_baseline
                    if gap.separable and side * comparison.sign * gap.estimate > 0
                }
                for comparison, own in zip(self.comparisons.values(), facts, strict=True)
            ]
            names = enumerate_labels(sorted(set.intersection(*found)))
            lines.append(f"{word} than {baseline} on all data sets: {names or 'no loss'}.")
        return lines

    def write(self, out: Path) -> None:
        """Write `data_sets.csv` and `answer.txt`."""
        write_csv(out / "data_sets.csv", self.rows())
        write_text(out / "answer.txt", "\n".join(self.sentences()) + "\n", **TEXT)


def by_data_set(runs: list[RunRecord]) -> dict[str, list[RunRecord]]:
    """Group runs by the data set that they were tested on, under a name that is fit for a folder. The
    same images are one data set under any name. A run that failed before it read its images joins the
    runs of the same name, or of the same kind; runs on a data set without a finished run join the first
    group."""
    names = {run.folder: re.sub(r"[^\w.-]+", "_", data_name(run.config)) for run in runs}
    known: dict[str, str] = {}  # by fingerprint, name and kind
    for run in runs:
        if run.summary and run.summary.data:
            name = known.setdefault(run.summary.data, names[run.folder])
            known.setdefault(names[run.folder], name)
            known.setdefault(run.config.name("dataset"), name)
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        name, data = names[run.folder], run.summary and run.summary.data
        aliases = [data] if data else [name, run.config.name("dataset")]
        name = next((known[alias] for alias in aliases if alias in known), name)
        found.setdefault(name, []).append(run)
    finished = {name: own for name, own in found.items() if any(run.is_done for run in own)}
    for name in found.keys() - finished.keys() if finished else ():
        next(iter(finished.values())).extend(found[name])  # nothing to compare, but to be named
    return finished or found
