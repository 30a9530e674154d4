"""Evaluate a trained run, on its own data or others: `python -m src.evaluate <run> [overrides]`; or the
embeddings of any encoder, of two to see which is better: `python -m src.evaluate a.npz b.npz`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import time
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from .commands import refuse_existing
from .config import Config
from .datasets.embeddings import FEATURE_FILES
from .datasets.files import left_out, name_some
from .errors import UserError, user_errors_in_one_line
from .evaluation import metric_named, metrics_of
from .evaluation.geometry import GEOMETRY_METRICS
from .evaluation.retrieval import RANKS
from .foreign import own_folder
from .run.build import check_config
from .run.embedding import embedded, splits_of, write_embeddings
from .run.evaluation import Evaluation, evaluate_run, with_overrides, write_evaluation
from .run.folder import free_name
from .run.load import REBUILT, Trained
from .run.using import add_config_dir, add_skip_broken, model_parser, print_left_out, use_model
from .words import counted, file_name

# Options of trials, and the fields of TrialOptions that they fill.
TRIAL_OPTIONS = {
    "trials": "file",
    "false_accepts": "rates",
    "prior": "prior",
    "cohort": "cohort",
    "cohort_top": "top",
}


def main() -> None:
    out = (
        "a folder, default: <run>/evaluations/<time>-<data set>; of --trials and embeddings a .json file"
    )
    parser = model_parser("evaluate", __doc__, out)
    parser.add_argument("overrides", nargs="*", help="as for src.train: dataset=…, device=…")
    add = parser.add_argument
    add("--labels", type=Path, help="of embeddings in a .npy file: another such file")
    add("--ranks", help="of Recall@k for embeddings; default: 1,5,10")
    add("--map-at", type=int, metavar="K", help="mAP@K for embeddings as well")
    add("--templates", type=Path, help="a table with columns name and template, to judge these")
    trials = (
        "judge embeddings, or a run's images in a folder, by a list of pairs: `1 a b` or `a b target`"
    )
    add("--trials", type=Path, help=trials)
    add("--false-accepts", help="rates of interest in trials; default: 1e-1,1e-2,1e-3,1e-4")
    add("--prior", type=float, help="of same pairs, for minDCF and actual DCF in trials; default: 0.01")
    add("--cohort", type=Path, help="embeddings of others, for AS-Norm of the scores of trials")
    add("--cohort-top", type=int, help="the nearest of the cohort that count; default: 300")
    add_skip_broken(parser)
    add_config_dir(parser)
    given = parser.parse_intermixed_args()
    if given.run.suffix.lower() in FEATURE_FILES and not given.run.is_dir():
        with user_errors_in_one_line():
            return judge_files([given.run, *map(Path, given.overrides)], given)
    if given.trials:
        if given.labels:
            parser.error("--labels is for embeddings in a .npy file")
        return use_model(parser, judge_images)
    if given.skip_broken:
        parser.error(
            "--skip-broken is for the images of --trials; for a data set: dataset.skip_broken=true"
        )
    for option in ("labels", "ranks", "map_at", "templates", *TRIAL_OPTIONS):
        if getattr(given, option) is not None:
            parser.error(f"--{option.replace('_', '-')} is for embeddings in a file")
    use_model(parser, evaluate)


def judge_images(run: Trained, given: Namespace) -> None:
    """Judge a run by trials of images, which are named from their folder."""
    splits, skipped = splits_of(run, given.overrides, "test", given.skip_broken, given.config_dir)
    given.allow, given.config_dir, given.skip_broken = [], None, False
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{run.folder.resolve().name}.npz"
        write_embeddings(file, embedded(run, splits))
        judge_files([file], given)
    print_left_out(skipped)


def judge_files(paths: list[Path], given: Namespace) -> None:
    from .analysis.judge import judge
    from .analysis.judgement import draw, show
    from .analysis.trials import TrialOptions, judge_trials

    chosen = {name: getattr(given, option) for option, name in TRIAL_OPTIONS.items()}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if given.out and given.out.suffix == ".png":
        raise UserError(f"--out {given.out}: the answer is JSON, as in --out answer.json")
    refuse_existing(given.out)
    refuse_existing(given.out and given.out.with_suffix(".png"))
    for option in ("allow", "config_dir", "skip_broken"):
        if getattr(given, option):
            raise UserError(f"--{option.replace('_', '-')}: for a trained run, not for embeddings")
    if len(paths) > 2:
        raise UserError(f"{paths[2]}: one file of embeddings is judged, or two are compared")
    if chosen and not given.trials:
        option = next(option for option, name in TRIAL_OPTIONS.items() if name in chosen)
        raise UserError(f"--{option.replace('_', '-')}: is of --trials, which are not given")
    if "rates" in chosen:
        chosen["rates"] = tuple(chosen["rates"].split(","))
    if given.trials:
        for option in ("ranks", "map_at"):
            if getattr(given, option) is not None:
                raise UserError(f"--{option.replace('_', '-')}: is of searches, which --trials are not")
        found = judge_trials(paths, TrialOptions(**chosen), given.labels, given.templates)
    else:
        ranks = ranks_of(given.ranks)
        if given.map_at is not None and given.map_at < 1:
            raise UserError(f"--map-at {given.map_at}: expected a whole number from 1")
        found = judge(paths, given.labels, ranks, given.map_at, given.templates)
    show(found)
    if given.out:
        found.save(given.out)
        print(f"-> {given.out}")
    if given.out and found.curves:
        draw(found, given.out.with_suffix(".png"))
        print(f"-> {given.out.with_suffix('.png')}")


def ranks_of(text: str | None) -> tuple[int, ...]:
    """The ranks that were typed, `1,10,100`."""
    if text is None:
        return RANKS
    try:
        ranks = tuple(map(int, text.split(",")))
    except ValueError:
        ranks = (0,)
    if min(ranks) < 1:
        raise UserError(f"--ranks {text}: expected whole numbers from 1, as in --ranks 1,10,100")
    return ranks


def evaluate(run: Trained, given: Namespace) -> None:
    config = with_overrides(run, given.overrides, given.config_dir)
    config = check_config(config, REBUILT)
    if config.device != run.config.device:
        run = run.on(config.device)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{file_name(config.name('dataset'))[:80]}"
    out = given.out or free_name(own_folder(run.folder / "evaluations") / name)
    evaluation = evaluate_run(run, config)
    write_evaluation(run, config, evaluation, out)
    print_evaluation(config, evaluation, out)


def print_evaluation(config: Config, evaluation: Evaluation, out: Path) -> None:
    from .analysis.judge import side_of
    from .analysis.judgement import for_other_classes, strictest

    name, images = config.evaluation.protocol, evaluation.images
    if images.templates is not None:
        pairs = counted(len(images.pairs.same), "pair")
        what = f"{pairs} of {counted(len(images.templates.names), 'template')}"
    else:
        what = f"{counted(len(images), 'image')} of {counted(len(images.classes), 'class')}"
    print(f"{name} on {what}, {config.name('dataset')}")
    table = Table("metric")
    table.add_column("value", justify="right")
    side = side_of(evaluation.result)
    intervals = for_other_classes([side])
    intervals = {metric: gap for metric, gap in intervals.items() if gap.low is not None}
    if intervals:
        table.add_column("95% interval, other classes", justify="right")
    asked = config.evaluation
    known = metrics_of(name, asked.ranks, asked.map_at)
    for metric in (*known, *(each for each in side.metrics if each not in known)):
        value = side.metrics.get(metric)
        if value is None:
            shown = "not measured" if metric in GEOMETRY_METRICS else "too few pairs or folds"
        else:
            angle = metric_named(metric).unit == "angle"
            shown = f"{value * metric_named(metric).display_factor:.2f}°" if angle else f"{value:.4f}"
        ends = intervals.get(metric)
        cells = [f"{ends.low:.4f} … {ends.high:.4f}" if ends else ""] * bool(intervals)
        table.add_row(metric, shown, *cells)
    Console(highlight=False).print(table)
    if side.thresholds:
        print(strictest(side.thresholds))
    print(f"-> {out}")
    if skipped := evaluation.skipped:
        print(f"{left_out(skipped)} left out: {name_some(skipped)}")


if __name__ == "__main__":
    main()
