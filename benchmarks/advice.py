"""Follow the advice that comparisons give, and print what it gained:

    python -m benchmarks.advice <data> <out>                        every cause, an hour on two cores
    python -m benchmarks.advice <data> <out> edge few_steps digits  some causes, or some data sets

`<data>` is what `benchmarks.results_data` made. On each of four data sets a sweep is made that has one
thing wrong; its answer is asked for advice, and the advised command is run as it stands, but without
the baselines that a sweep adds. Printed are the mean test result of the setting to use, before and
after, over three seeds or five folds, or of ArcFace where it is far below softmax, with softmax's; a
sweep that gets other advice says so."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from src.analysis.ranking import Comparison, rank_runs
from src.analysis.read import read_runs
from src.analysis.wording import answer_sentences
from src.evaluation import metric_named

COMMON = "logger=csv plots.figures=false device.threads=1 hydra.sweeper.baselines=false"
# What is wrong, by the cause that the advice should name.
TOO_LARGE = """'hydra.sweeper.grids=["loss=softmax","loss=arcface scale.value=512"]'"""
SWEEPS = {
    "collapsed": "loss=arcface {collapse}",
    "far_below_softmax": TOO_LARGE + " {narrow}",
    "still_improving": "loss=arcface epochs=4 schedule=constant optimizer.lr=0.0003",
    "few_steps": "loss=arcface batch_size={half}",
    "edge": "loss=arcface optimizer.lr=0.0001,0.0003",
    "few_seeds": "loss=normface,cosface seed=0,1",
    "saturated": "loss=normface,cosface {easy}",
}


class Data(NamedTuple):
    """The overrides of a data set, what makes ArcFace `collapse`, a batch size of about `half` of its
    images, what makes it so `narrow` that a scale far too large hurts, and what makes it `easy`, if
    anything does."""

    overrides: str
    collapse: str
    half: int
    narrow: str = ""
    easy: str | None = None


def data_sets(folder: Path) -> dict[str, Data]:
    letters = (
        f"dataset=image_folder dataset.root={folder / 'letters'} dataset.size=[28,28] batch_size=16"
    )
    products = (
        f"dataset=image_folder dataset.root={folder / 'products'} dataset.size=[28,28] batch_size=16 "
        "evaluation=closed_set model.embedding_dim=3 optimizer.lr=0.03"
    )
    features = f"dataset=embeddings dataset.file={folder / 'features.npz'} seed=0,1,2 epochs=10"
    easy = "objective=recall_at_10"
    return {
        "digits": Data(
            "seed=0,1,2 epochs=10", "optimizer.lr=0.1 schedule=constant", 512, "model.embedding_dim=2"
        ),
        "letters": Data(
            f"{letters} epochs=36 dataset.folds=5 seed=0",
            "optimizer.lr=0.1 schedule=constant model.embedding_dim=3 scale.value=512",
            128,
            "model.embedding_dim=3 optimizer.lr=0.01",
            easy,
        ),
        "features": Data(
            features,
            "optimizer.lr=0.03 model.embedding_dim=8 scale.value=512",
            4096,
            "model.embedding_dim=8",
            easy,
        ),
        "products": Data(f"{products} seed=0,1,2 epochs=12", "optimizer.lr=0.3 schedule=constant", 400),
    }


def main(data: str, out: str, *chosen: str) -> None:
    folder, known_sets = Path(out).resolve(), data_sets(Path(data).resolve())
    causes = [cause for cause in SWEEPS if cause in chosen] or list(SWEEPS)
    names = [name for name in known_sets if name in chosen] or list(known_sets)
    print(f"{'cause':18}{'data':10}{'before':>22}{'after':>22}  command")
    for cause in causes:
        for name in names:
            known, place = known_sets[name], folder / f"{cause}-{name}"
            if cause == "saturated" and known.easy is None:
                continue
            wrong = SWEEPS[cause]
            for field, value in known._asdict().items():
                wrong = wrong.replace(f"{{{field}}}", str(value))
            given = merged(*map(shlex.split, (known.overrides, COMMON, wrong)))
            train(["-m", *given, f"hydra.sweep.dir={place}"])
            before = compared(place)
            advice = next((a for a in before.facts.advice if a.cause == cause), None)
            if advice is None or advice.command is None:
                others = ", ".join(a.cause for a in before.facts.advice) or "nothing"
                print(f"{cause:18}{name:10}{result(before):>22}  advises {others}", flush=True)
                continue
            module, *words = shlex.split(advice.command)[2:]
            if module == "src.compare":
                metric = words[words.index("--metric") + 1]
                print(f"{cause:18}{name:10}{result(before):>22}{'':22}  ", end="")
                print(advice.because, "->", metric, answer(compared(place, metric)), flush=True)
                continue
            here = next((w.partition("=")[2] for w in words if w.startswith("hydra.sweep.dir=")), None)
            after = Path(here) if here else place.with_name(f"{place.name}-followed")
            alone = [*without_m(words), "hydra.sweeper.baselines=false"]
            train(["-m", *alone] if here else ["-m", *alone, f"hydra.sweep.dir={after}"])
            loss = "arcface" if cause == "far_below_softmax" else None
            both = result(before, loss), result(compared(after))
            print(f"{cause:18}{name:10}{both[0]:>22}{both[1]:>22}  ", end="")
            print(advice.because, "->", shlex.join(set_apart(words, given)), flush=True)
            if loss:
                print(f"{'':28}{result(before, 'softmax'):>22}  softmax", flush=True)


def merged(*parts) -> list[str]:
    """Overrides, of which a later one replaces an earlier one of the same key."""
    return list({each.partition("=")[0]: each for part in parts for each in part}.values())


def without_m(words: list[str]) -> list[str]:
    return [word for word in words if word != "-m"]


def set_apart(words: list[str], given: list[str]) -> list[str]:
    """What an advised command has that the first one had not."""
    return [word for word in without_m(words) if word not in given and not word.startswith("hydra.")]


def train(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "src.train", *arguments], capture_output=True, text=True
    )
    if done.returncode and "Traceback" in done.stderr:
        sys.exit(done.stderr)


def compared(place: Path, metric: str | None = None) -> Comparison:
    runs, problems = read_runs([place])
    return rank_runs(runs, problems, metric or runs[0].config.objective)


def answer(comparison: Comparison) -> str:
    return answer_sentences(comparison)[0]


def result(comparison: Comparison, loss: str | None = None) -> str:
    """The mean test result of the setting to use, or of a loss, and how far it may be off."""
    setting = comparison.by_loss[loss][0] if loss else comparison.best
    own = setting.test
    if own.low is None:
        return f"{100 * own.mean:.1f}"
    low, high = metric_named(comparison.metric).clip(own.low, own.high)
    return f"{100 * own.mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
