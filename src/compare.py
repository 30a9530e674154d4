"""From sweeps to an answer: `python -m src.compare <sweep folder> …`; also run when a sweep ends."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

from pathlib import Path

from .analysis import compare_sweeps
from .commands import parser_of
from .errors import user_errors_in_one_line
from .evaluation import METRICS


def main() -> None:
    parser = parser_of("compare", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps' folders, or single runs'")
    parser.add_argument("--metric", help=f"one of {', '.join(METRICS)}; default: the runs' objective")
    parser.add_argument("--baseline", help="a loss; default: softmax, else normface")
    parser.add_argument(
        "--detect", type=float, help="a difference, as 0.01: say how many seeds of each loss find it"
    )
    parser.add_argument("--out", type=Path, help="default: comparison/ in the first folder")
    parser.add_argument("--wandb", action="store_true", help="log it as a run in the sweep's W&B group")
    parser.add_argument("--wandb-report", action="store_true", help="make a W&B Report of it")
    given = parser.parse_args()
    with user_errors_in_one_line():
        compare_sweeps(
            given.folders,
            given.metric,
            given.baseline,
            given.out,
            detect=given.detect,
            log_to_wandb=given.wandb,
            wandb_report=given.wandb_report,
        )


if __name__ == "__main__":
    main()
