"""Simulate comparisons whose truth is known: how often the answer claims what is not so, and how often
it finds what is.

    python -m benchmarks.verdict            a thousand tables of each kind, in minutes
    python -m benchmarks.verdict 200        fewer
    python -m benchmarks.verdict 500 runs   of intervals for other seeds and classes alone
    python -m benchmarks.verdict 500 files  of src.evaluate's intervals for two files alone

A table has K losses with 12 settings each, and n seeds. The result of a run is its loss's mean plus a
run effect of standard deviation 1; validation is correlated with test by 0.7. For each loss and seed,
validation chooses a setting, and its test result counts; the loss with the best mean on validation
leads. In a race, the settings of every loss differ by the same effects, of a standard deviation of 1
where nothing else is said, and only those that go on have results with further seeds."""

import sys
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t as student
from scipy.stats import trim_mean

from src.analysis.judge import side
from src.analysis.judgement import for_other_classes
from src.analysis.other_classes import classes_variance
from src.analysis.statistics import Family, Repeat
from src.evaluation import Search, retrieval, sample_pairs
from src.sweeps.race import going_on

SETTINGS, CORRELATION = 12, 0.7
SPREADS = {
    "equal": lambda k: np.ones(k),
    "one loss 3 times as noisy": lambda k: np.r_[np.ones(k - 1), 3],
    "one loss 10 times as noisy": lambda k: np.r_[np.ones(k - 1), 10],
    "half of them 3 times as noisy": lambda k: np.where(np.arange(k) < k // 2, 1, 3),
}
LEADS = (2, 3, 5)
WITHOUT_GROUPS = Search(left_out=True)
COLUMN = WITHOUT_GROUPS.metrics.index("map_at_r")


def tables(
    rng: np.random.Generator, count: int, losses: int, seeds: int, spread: np.ndarray, lead: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validation and test results (count, losses, seeds) of the chosen settings, and the spread (count,
    losses) of all settings of each loss."""
    test = rng.normal(size=(count, losses, SETTINGS, seeds))
    noise = rng.normal(size=test.shape)
    validation = CORRELATION * test + np.sqrt(1 - CORRELATION**2) * noise
    chosen = validation.argmax(2)[:, :, None]
    picked = [np.take_along_axis(values, chosen, 2)[:, :, 0] for values in (validation, test)]
    shifted = []
    for values in picked:
        # What choosing the best of twelve adds is in proportion to the noise, and is no merit of a loss.
        values = (values - values.mean((0, 2), keepdims=True)) * spread[None, :, None]
        values[:, 0] += lead
        shifted.append(values)
    typical = np.sqrt(trim_mean(test.var(3, ddof=1), 0.25, axis=2)) * spread
    return shifted[0], shifted[1], typical


def family(test: np.ndarray, spread: np.ndarray | None) -> Family:
    """The family of a table's test results (losses, seeds), with the spread (losses,) of its settings
    where that is known."""
    groups = {
        str(loss): {Repeat(i): float(v) for i, v in enumerate(row)} for loss, row in enumerate(test)
    }
    known = None if spread is None else {str(loss): float(own) for loss, own in enumerate(spread)}
    return Family(groups, spread=known)


def false_claims(rng, count: int, losses: int, seeds: int, spread: np.ndarray) -> float:
    """The share of tables of equal losses in which the leader is said to differ from any other."""
    claimed = 0
    for validation, test, typical in zip(*tables(rng, count, losses, seeds, spread), strict=True):
        found, leader = family(test, typical), str(validation.mean(1).argmax())
        claimed += any(
            found.difference(leader, name).separable for name in found.names if name != leader
        )
    return claimed / count


def found_leads(rng, count: int, losses: int, seeds: int, lead: float) -> float:
    """The share of tables in which the loss that is ahead of all others is separable from every one."""
    found = 0
    made = tables(rng, count, losses, seeds, np.ones(losses), lead)
    for _, test, typical in zip(*made, strict=True):
        own = family(test, typical)
        found += all(own.difference("0", name).separable for name in own.names[1:])
    return found / count


def raced(rng, count: int, losses: int, seeds: int, lead: float = 0.0, effects: float = 1.0) -> float:
    """The share of races in which the leader is said to differ from another loss; with a `lead` of one
    loss, in which that is separable from every other."""
    claimed = 0
    for _ in range(count):
        own = rng.normal(0, effects, SETTINGS)[:, None]
        test = rng.normal(size=(losses, SETTINGS, seeds))
        noise = rng.normal(size=test.shape)
        validation = CORRELATION * test + np.sqrt(1 - CORRELATION**2) * noise + own
        test += own
        for values in (validation, test):
            values[0] += lead
        picked = [race(*pair) for pair in zip(validation, test, strict=True)]
        leader = str(np.argmax([validation.mean() for validation, _ in picked]))
        found = family(np.array([test for _, test in picked]), None)
        gaps = [found.difference(leader, name).separable for name in found.names if name != leader]
        claimed += leader == "0" and all(gaps) if lead else any(gaps)
    return claimed / count


def race(validation: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The results (seeds,) that count of one loss's race, of those of its settings (settings, seeds)."""
    settings, seeds = validation.shape
    left = np.arange(settings)
    for ended in range(1, seeds):
        order = np.argsort(-validation[left, :ended].mean(1))
        left = left[order[: going_on(settings, seeds, ended)]]
    chosen = left[validation[left].argmax(0)], np.arange(seeds)
    return validation[chosen], test[chosen]


class Classes(NamedTuple):
    """Classes that an encoder of each of two losses scatters more or less: labels (N,), the classes'
    centres (N, 6), and the samples' own place around them (N, 6)."""

    labels: np.ndarray
    centres: np.ndarray
    scatter: np.ndarray
    own: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, classes: int, each: int) -> "Classes":
        labels = np.repeat(np.arange(classes), each)
        centres = rng.normal(size=(classes, 6))[labels]
        first = rng.uniform(0.4, 1.6, classes)
        scatter = np.array([first, first * rng.uniform(0.5, 1.4, classes)])
        return cls(labels, centres, scatter, rng.normal(size=(len(labels), 6)))

    def trained(self, rng: np.random.Generator, loss: int) -> np.ndarray:
        """Embeddings (N, 6) of one training with one of the losses: it scatters all classes a little
        more or less than another does, each class for itself, and puts each sample elsewhere."""
        of_run = rng.uniform(0.9, 1.1) * rng.uniform(0.7, 1.3, len(self.scatter[0]))
        own = np.sqrt(0.7) * self.own + np.sqrt(0.3) * rng.normal(size=self.own.shape)
        return self.centres + (of_run * self.scatter[loss])[self.labels, None] * own


def coverage(
    rng, count: int, seeds: int, classes: int = 40, each: int = 8
) -> tuple[float, float, float]:
    """The shares of tables of two losses for which three intervals cover the true difference of MAP@R,
    which is the mean over all tables: one for other seeds and other classes, one for other seeds alone,
    and one that takes queries for independent."""
    gaps, halves = [], []
    for _ in range(count):
        drawn = Classes.drawn(rng, classes, each)
        place = torch.from_numpy(drawn.labels)
        found = [
            [
                retrieval(torch.from_numpy(drawn.trained(rng, loss)).float(), place, WITHOUT_GROUPS)
                for _ in range(seeds)
            ]
            for loss in (0, 1)
        ]
        values = np.array([[run.metrics["map_at_r"] for run in own] for own in found])
        left_out = np.array([[run.left_out["map_at_r"] for run in own] for own in found])
        queries = np.array([[run.per_query[:, COLUMN].numpy() for run in own] for own in found])
        gap = values[1] - values[0]
        of_seeds = values.var(axis=1, ddof=1).sum() / seeds
        of_classes = classes_variance(left_out[1] - left_out[0])
        total = of_seeds + of_classes
        degrees = total**2 / (of_seeds**2 / (2 * seeds - 2) + of_classes**2 / (len(left_out[0, 0]) - 1))
        of_queries = (queries[1] - queries[0]).mean(0)
        gaps.append(gap.mean())
        halves.append(
            (
                student.ppf(0.975, degrees) * np.sqrt(total),
                student.ppf(0.975, 2 * seeds - 2) * np.sqrt(of_seeds),
                1.96 * of_queries.std(ddof=1) / np.sqrt(len(of_queries)),
            )
        )
    off = np.abs(np.array(gaps) - np.mean(gaps))
    return tuple(float(np.mean(off <= own)) for own in np.array(halves).T)


def judged(rng, count: int, classes: int = 40, each: int = 8) -> dict[str, tuple[float, float]]:
    """The shares of pairs of files of embeddings for which the interval of `src.evaluate a.npz b.npz`
    covers the true difference of a metric, which is the mean over all of them, and for which one that
    takes queries for independent does. Classes differ in how far their samples are scattered, and in how
    much less the second encoder scatters them."""
    labels = np.repeat(np.arange(classes), each)
    found, naive = [], []
    for _ in range(count):
        centres = rng.normal(size=(classes, 6))[labels]
        scatter = rng.uniform(0.4, 1.6, classes)
        second = scatter * rng.uniform(0.5, 1.4, classes)
        files = [
            centres + spread[labels][:, None] * rng.normal(size=(len(labels), 6))
            for spread in (scatter, second)
        ]
        place = torch.from_numpy(labels)
        pairs = sample_pairs(place, None)
        sides = [side("", torch.from_numpy(x).float(), place, pairs, WITHOUT_GROUPS) for x in files]
        found.append(for_other_classes(sides))
        searched = [retrieval(torch.from_numpy(x).float(), place).per_query[:, COLUMN] for x in files]
        gaps = (searched[1] - searched[0]).numpy()
        naive.append((gaps.mean(), 1.96 * gaps.std(ddof=1) / np.sqrt(len(gaps))))
    shares = {}
    for metric in ("map_at_r", "recall_at_1", "auc", "eer"):
        truth = np.mean([gaps[metric].estimate for gaps in found])
        ours = np.mean([gaps[metric].low <= truth <= gaps[metric].high for gaps in found])
        theirs = np.mean([abs(mean - truth) <= half for mean, half in naive])
        shares[metric] = float(ours), float(theirs) if metric == "map_at_r" else float("nan")
    return shares


def main(count: int = 1000) -> None:
    rng = np.random.default_rng(0)
    print(f"{count} tables each\n\nfalse claims where all losses are equal (5% allowed)")
    for losses in (4, 10):
        for seeds in (3, 5):
            shares = [
                f"{name} {false_claims(rng, count, losses, seeds, spread(losses)):.1%}"
                for name, spread in SPREADS.items()
            ]
            print(f"  {losses:>2} losses, {seeds} seeds: {'; '.join(shares)}")
    print("\na lead of so many standard deviations over every other loss is found")
    for losses in (4, 10):
        for seeds in (3, 5):
            shares = [f"{lead} sd {found_leads(rng, count, losses, seeds, lead):.0%}" for lead in LEADS]
            print(f"  {losses:>2} losses, {seeds} seeds: {', '.join(shares)}")
    print("\nraces: false claims, by how much settings differ, and the leads that are found")
    for losses in (4, 10):
        for seeds in (3, 5):
            runs = SETTINGS + sum(going_on(SETTINGS, seeds, ended) for ended in range(1, seeds))
            shares = [
                f"{effects:g} sd {raced(rng, count, losses, seeds, effects=effects):.1%}"
                for effects in (0, 0.5, 1, 2)
            ]
            leads = [f"{lead} sd {raced(rng, count, losses, seeds, lead):.0%}" for lead in LEADS]
            print(
                f"  {losses:>2} losses, {seeds} seeds, {runs / SETTINGS / seeds:.0%} of the runs: "
                f"{', '.join(shares)}; {', '.join(leads)}"
            )
    print()
    of_runs(rng, count)
    print()
    of_files(count)


def of_runs(rng, count: int) -> None:
    print(
        "intervals for other seeds and classes cover the truth (for other seeds alone; over independent "
        "queries)"
    )
    for seeds in (3, 5):
        both, alone, queries = coverage(rng, count, seeds)
        print(f"  {seeds} seeds: {both:.1%} ({alone:.1%}; {queries:.1%})")


def of_files(count: int) -> None:
    print("intervals of src.evaluate for two files cover the truth (one over independent queries)")
    for metric, (ours, theirs) in judged(np.random.default_rng(0), count).items():
        print(f"  {metric}: {ours:.1%}" + f" ({theirs:.1%})" * (theirs == theirs))


if __name__ == "__main__":
    words = sys.argv[1:]
    counts = [int(word) for word in words if word.isdigit()]
    if "runs" in words:
        of_runs(np.random.default_rng(0), *counts)
    else:
        (of_files if "files" in words else main)(*counts)
